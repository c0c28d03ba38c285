"""Models with their objective: what trains with `fit()` and draws with `generate()`."""

from keras_ldm.tasks.autoencoder_task import AutoencoderTask as AutoencoderTask
from keras_ldm.tasks.blending import BlendedConditions as BlendedConditions
from keras_ldm.tasks.ema import ExponentialMovingAverage as ExponentialMovingAverage
from keras_ldm.tasks.generative_task import GenerativeTask as GenerativeTask
from keras_ldm.tasks.latent_diffusion import LatentDiffusion as LatentDiffusion
from keras_ldm.tasks.latent_space import LatentSpace as LatentSpace
from keras_ldm.tasks.learning_rates import LinearWarmUp as LinearWarmUp
from keras_ldm.tasks.loading import load as load
from keras_ldm.tasks.noisy_latent_classifier import (
    NoisyLatentClassifier as NoisyLatentClassifier,
)
from keras_ldm.tasks.rate_distortion import RateDistortion as RateDistortion
from keras_ldm.tasks.registry import register_preset as register_preset
from keras_ldm.tasks.task import Task as Task
from keras_ldm.tasks.text_to_image import TextToImage as TextToImage
