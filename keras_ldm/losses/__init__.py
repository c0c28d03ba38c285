"""Losses, for `compile(loss=...)` of any Keras model and for the tasks of this package."""

from keras_ldm.losses.adversarial import AdversarialLoss as AdversarialLoss
from keras_ldm.losses.adversarial import get_adversarial_loss as get_adversarial_loss
from keras_ldm.losses.lpips import LPIPS as LPIPS
