"""What a task draws with, in one small file under this package's own names: weights to publish."""

from keras_ldm.weights.native.weights_file import load as load
from keras_ldm.weights.native.weights_file import save as save
