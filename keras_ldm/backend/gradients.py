"""The gradient of a function, each backend in its own way."""

from collections.abc import Callable

import keras

from keras_ldm.types import Tensor


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient at `x` of the sum of `function(x)`, in eager code or in a compiled function.

    Args:
        function: from a tensor to a tensor.
        x: where.

    Returns:
        A tensor shaped like `x`.
    """
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if name == "jax":
        import jax

        return jax.grad(lambda x: function(x).sum())(x)
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x).sum()
        if not value.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(value, x, materialize_grads=True)[0]
