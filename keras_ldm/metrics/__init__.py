"""Measures of images."""

from keras_ldm.metrics.bits_per_dimension import BitsPerDimension as BitsPerDimension
from keras_ldm.metrics.clip_score import CLIPScore as CLIPScore
from keras_ldm.metrics.codebook import CodePerplexity as CodePerplexity
from keras_ldm.metrics.codebook import CodeUsage as CodeUsage
from keras_ldm.metrics.evaluation import evaluate_images as evaluate_images
from keras_ldm.metrics.evaluation_report import Evaluation as Evaluation
from keras_ldm.metrics.feature_description import describe_features as describe_features
from keras_ldm.metrics.feature_extraction import FeatureExtractor as FeatureExtractor
from keras_ldm.metrics.feature_extraction import extract_features as extract_features
from keras_ldm.metrics.feature_metric import FeatureMetric as FeatureMetric
from keras_ldm.metrics.feature_statistics import FeatureStatistics as FeatureStatistics
from keras_ldm.metrics.frechet_distance import frechet_distance as frechet_distance
from keras_ldm.metrics.frechet_inception_distance import (
    FrechetInceptionDistance as FrechetInceptionDistance,
)
from keras_ldm.metrics.image_features import ImageFeatures as ImageFeatures
from keras_ldm.metrics.inception_score import inception_score as inception_score
from keras_ldm.metrics.inception_score_metric import InceptionScore as InceptionScore
from keras_ldm.metrics.kernel_distance import kernel_distance as kernel_distance
from keras_ldm.metrics.kernel_inception_distance import (
    KernelInceptionDistance as KernelInceptionDistance,
)
from keras_ldm.metrics.lpips import LPIPS as LPIPS
from keras_ldm.metrics.manifold_metrics import DensityCoverage as DensityCoverage
from keras_ldm.metrics.manifold_metrics import PrecisionRecall as PrecisionRecall
from keras_ldm.metrics.manifolds import density_coverage as density_coverage
from keras_ldm.metrics.manifolds import precision_recall as precision_recall
from keras_ldm.metrics.ms_ssim import (
    MultiScaleStructuralSimilarity as MultiScaleStructuralSimilarity,
)
from keras_ldm.metrics.psnr import PeakSignalToNoiseRatio as PeakSignalToNoiseRatio
from keras_ldm.metrics.retrieval import retrieval_at_k as retrieval_at_k
from keras_ldm.metrics.ssim import StructuralSimilarity as StructuralSimilarity
