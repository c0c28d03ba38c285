"""Less memory in training, for more computing: intermediate results that the gradient computes anew.

Reference: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from collections.abc import Callable

import keras

from keras_ldm.types import Tensor


def rematerialized(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of which only the arguments are kept for the gradient.

    Args:
        function: from tensors to one. It must draw nothing at random: on TensorFlow and PyTorch it
            would draw anew.

    Returns:
        What computes the same, twice in training.
    """
    return keras.remat(function)
