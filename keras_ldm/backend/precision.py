"""Which precision a backend computes in."""

import keras

from keras_ldm.types import Tensor


def has_float64() -> bool:
    """Whether there are float64 tensors: not on JAX, unless `jax_enable_x64` is set."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    return bool(jax.config.jax_enable_x64)


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices in the full precision of their dtype.

    `keras.ops.matmul` of float64 is computed in float32 on PyTorch, and JAX multiplies float32 matrices
    with fewer digits on accelerators.

    Args:
        a: `(m, k)`.
        b: `(k, n)`, of the same dtype.

    Returns:
        `(m, n)`.
    """
    name = keras.backend.backend()
    if name == "torch":
        import torch

        return torch.matmul(a, b)
    if name == "jax":
        import jax

        return jax.numpy.matmul(a, b, precision="highest")
    return keras.ops.matmul(a, b)
