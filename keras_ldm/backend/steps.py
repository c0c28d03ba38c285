"""Whether something is computed within a step of training or evaluation, or on its own.

Keras asks each metric for its result in every step, and once more when the epoch is over. What takes
long is worth computing only then.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import keras

from keras_ldm.types import Tensor


@contextmanager
def inside_step() -> Iterator[None]:
    """A scope that is part of a step, compiled or not."""
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def is_inside_step(value: Tensor) -> bool:
    """Whether a computation is part of a step, as far as can be told.

    Args:
        value: what it computes from; on JAX and PyTorch, it says whether it stands for numbers that
            are not known yet.

    Returns:
        True in `inside_step`, and while a function is traced; an eager step outside that scope looks
        like any other computation.
    """
    if _INSIDE.get():
        return True
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if name == "jax":
        import jax

        return isinstance(value, jax.core.Tracer)
    import torch

    return bool(value.device.type == "meta" or torch.compiler.is_compiling())


def outside_graph() -> AbstractContextManager[None]:
    """A scope in which variables can be read while a step is traced that does not change them."""
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    return tf.init_scope()


def without_gradient() -> AbstractContextManager[None]:
    """A scope in which PyTorch keeps nothing for a gradient; elsewhere only a tape or `grad` does."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


def is_replicated() -> bool:
    """Whether variables that are made now have a copy on each replica of `tf.distribute`."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.distribute.has_strategy())


_INSIDE: ContextVar[bool] = ContextVar("inside_step", default=False)
