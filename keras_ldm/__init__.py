"""Latent diffusion for Keras 3: autoencoders, text-to-image and samplers that train with `fit()`."""

from keras_ldm import callbacks as callbacks
from keras_ldm import conditioning as conditioning
from keras_ldm import data as data
from keras_ldm import diffusion as diffusion
from keras_ldm import files as files
from keras_ldm import layers as layers
from keras_ldm import losses as losses
from keras_ldm import metrics as metrics
from keras_ldm import models as models
from keras_ldm import presets as presets
from keras_ldm import samplers as samplers
from keras_ldm import tasks as tasks
from keras_ldm import weights as weights
from keras_ldm.backend import enable_batch_parallelism as enable_batch_parallelism

__version__ = "0.1.0"
