"""Watching a training: pictures and measures of what it makes, as files and in TensorBoard."""

from keras_ldm.callbacks.codebook_histogram import CodebookHistogram as CodebookHistogram
from keras_ldm.callbacks.picture import PictureCallback as PictureCallback
from keras_ldm.callbacks.reconstruction_grid import ReconstructionGrid as ReconstructionGrid
from keras_ldm.callbacks.sample_evaluation import SampleEvaluation as SampleEvaluation
