"""Less memory in training, for more computing: intermediate results that the gradient computes anew.

Reference: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import keras

from keras_ldm.types import Tensor

_ANEW: ContextVar[bool] = ContextVar("rematerialized", default=False)


def is_rematerialized() -> bool:
    """Whether what is computed now will be computed anew for the gradient, to save memory."""
    return _ANEW.get()


def rematerialized(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of which only the arguments are kept for the gradient.

    Args:
        function: from tensors to one. It must draw nothing at random: on TensorFlow and PyTorch it
            would draw anew.

    Returns:
        What computes the same, twice in training.
    """

    def call(*arguments: Any) -> Tensor:
        token = _ANEW.set(True)
        try:
            return function(*arguments)
        finally:
            _ANEW.reset(token)

    return keras.remat(call)
