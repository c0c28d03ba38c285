"""Samplers: plain functions from noise to latents over anybody's denoise function."""

from keras_ldm.samplers.ddim import ddim as ddim
from keras_ldm.samplers.ddpm import ddpm as ddpm
from keras_ldm.samplers.grids import leading_sigmas as leading_sigmas
from keras_ldm.samplers.grids import uniform_sigmas as uniform_sigmas
from keras_ldm.samplers.noise import ImageNoise as ImageNoise
from keras_ldm.samplers.noise import image_seeds as image_seeds
from keras_ldm.samplers.plms import plms as plms
from keras_ldm.samplers.registry import NamedSampler as NamedSampler
from keras_ldm.samplers.registry import get_sampler as get_sampler
