"""Checkpoints that the world has: names there and variables here, to be read and to be written."""

from keras_ldm.weights import compvis as compvis
