"""The checkpoints of the original latent-diffusion code: https://github.com/CompVis/latent-diffusion."""

from keras_ldm.weights.compvis.loading import load as load
from keras_ldm.weights.compvis.loading import save as save
