"""Checkpoints that the world has, to be read and to be written; and weights to publish."""

from keras_ldm.weights import compvis as compvis
from keras_ldm.weights import native as native
