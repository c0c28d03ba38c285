"""Measures of images."""

from keras_ldm.metrics.codebook import CodePerplexity as CodePerplexity
from keras_ldm.metrics.codebook import CodeUsage as CodeUsage
from keras_ldm.metrics.lpips import LPIPS as LPIPS
from keras_ldm.metrics.precision_recall import precision_recall as precision_recall
from keras_ldm.metrics.psnr import PeakSignalToNoiseRatio as PeakSignalToNoiseRatio
from keras_ldm.metrics.retrieval import retrieval_at_k as retrieval_at_k
from keras_ldm.metrics.ssim import StructuralSimilarity as StructuralSimilarity
