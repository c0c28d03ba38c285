"""The gradient of a function, each backend in its own way."""

from collections.abc import Callable
from typing import Any

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
    return with_gradient(lambda x: (function(x), None), x)[2]


def with_gradient(
    function: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor
) -> tuple[Tensor, Any, Tensor]:
    """A function's value at `x` and the gradient of its sum, having computed it once.

    What surrounds this may itself be differentiated with respect to variables that `function` uses:
    gradients pass through the value and what comes beside it, not through the gradient, nor to `x`.

    Args:
        function: from a tensor to a tensor, and to something beside it; it must not assign variables.
        x: where.

    Returns:
        The value, what came beside it, and a tensor shaped like `x`.
    """
    x = keras.ops.stop_gradient(x)
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value, beside = function(x)
        gradient = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return value, beside, tf.stop_gradient(gradient)
    if name == "jax":
        import jax

        def summed(x: Tensor) -> tuple[Tensor, tuple[Tensor, Any]]:
            value, beside = function(x)
            return value.sum(), (value, beside)

        gradient, (value, beside) = jax.grad(summed, has_aux=True)(x)
        return value, beside, jax.lax.stop_gradient(gradient)
    import torch

    differentiated = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value, beside = function(x)
        total = value.sum()
        if not total.requires_grad:
            return value, beside, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(total, x, retain_graph=differentiated, materialize_grads=True)
    return value, beside, gradient


def follow_gradient(value: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
    """A value whose gradient at `x` is one that was computed before.

    Args:
        value: a scalar.
        x: what it depends on.
        gradient: of the value, shaped like `x`.

    Returns:
        The value; its gradient with respect to `x` is `gradient`, and none goes anywhere else.
    """
    ops = keras.ops
    change = ops.sum((x - ops.stop_gradient(x)) * ops.stop_gradient(gradient))  # is 0
    return ops.stop_gradient(value) + change
