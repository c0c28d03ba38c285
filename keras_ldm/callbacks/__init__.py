"""Around a training: checkpoints to go on from, pictures and measures of what it makes."""

from keras_ldm.callbacks.checkpoints import Checkpoints as Checkpoints
from keras_ldm.callbacks.codebook_histogram import CodebookHistogram as CodebookHistogram
from keras_ldm.callbacks.picture import PictureCallback as PictureCallback
from keras_ldm.callbacks.reconstruction_grid import ReconstructionGrid as ReconstructionGrid
from keras_ldm.callbacks.sample_evaluation import SampleEvaluation as SampleEvaluation
from keras_ldm.callbacks.terminate_on_nan import TerminateOnNaN as TerminateOnNaN
from keras_ldm.callbacks.throughput import Throughput as Throughput
