"""Layers, one idea a file, for use in any Keras model."""

from keras_ldm.layers.attention import CrossAttention as CrossAttention
from keras_ldm.layers.attention import LinearSpatialAttention as LinearSpatialAttention
from keras_ldm.layers.attention import SpatialSelfAttention as SpatialSelfAttention
from keras_ldm.layers.attention import attend as attend
from keras_ldm.layers.conditional_sequential import ConditionalSequential as ConditionalSequential
from keras_ldm.layers.conv_unit import ConvUnit as ConvUnit
from keras_ldm.layers.distributions import DiagonalGaussian as DiagonalGaussian
from keras_ldm.layers.distributions import PointDistribution as PointDistribution
from keras_ldm.layers.embeddings import SinusoidalEmbedding as SinusoidalEmbedding
from keras_ldm.layers.group_norm import GroupNorm as GroupNorm
from keras_ldm.layers.pooling import AttentionPool as AttentionPool
from keras_ldm.layers.quantization import Quantized as Quantized
from keras_ldm.layers.quantization import VectorQuantizer as VectorQuantizer
from keras_ldm.layers.resampling import Downsample as Downsample
from keras_ldm.layers.resampling import Upsample as Upsample
from keras_ldm.layers.resampling import average_pixels as average_pixels
from keras_ldm.layers.resampling import repeat_pixels as repeat_pixels
from keras_ldm.layers.residual import ResidualBlock as ResidualBlock
from keras_ldm.layers.resizing import resize_images as resize_images
from keras_ldm.layers.shared_statistics import SharedStatistics as SharedStatistics
from keras_ldm.layers.transformer import GEGLU as GEGLU
from keras_ldm.layers.transformer import SpatialTransformer as SpatialTransformer
from keras_ldm.layers.transformer import TransformerBlock as TransformerBlock
