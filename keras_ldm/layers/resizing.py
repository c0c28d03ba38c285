"""Resizing images to a network's input, in the ways that published measures use.

They differ enough to change a Fréchet distance by several points (Parmar et al. 2022), so each has a
name. All are linear and separable: a matrix for each side.
"""

from typing import Literal, get_args

import numpy as np
from keras import ops

from keras_ldm.types import Array, Tensor

ResizeMode = Literal["bilinear_legacy", "bilinear", "bilinear_antialias", "bicubic_antialias"]


def resize_images(images: Tensor, size: int, mode: ResizeMode) -> Tensor:
    """Images with both sides of `size`.

    Args:
        images: `(batch, height, width, channels)`, floats, of sides that are known.
        size: pixels a side of the result.
        mode: "bilinear_legacy" is TensorFlow 1's, with pixels at their corners, without antialias: what
            the graph of the first FID does, and torch-fidelity and ADM's code after it; "bilinear" is
            PyTorch's, with pixels at their centres, without antialias; "bilinear_antialias" and
            "bicubic_antialias" are Pillow's, the latter that of clean-fid.

    Returns:
        float32 `(batch, size, size, channels)`; bicubic ones may exceed the range of the images.

    Raises:
        ValueError: for another mode, images of another rank, or sides that are not known.

    Reference: Parmar et al. 2022, https://arxiv.org/abs/2104.11222, section 3.
    """
    check_resize_mode(mode)
    if len(images.shape) != 4 or not all(images.shape[1:3]):
        raise ValueError(
            "Expected images (batch, height, width, channels) of known sides. "
            f"Received: shape {tuple(images.shape)}"
        )
    rows, columns = (
        ops.convert_to_tensor(_weights(int(side), size, mode)) for side in images.shape[1:3]
    )
    x = ops.einsum("ih,nhwc->niwc", rows, ops.cast(images, "float32"))
    return ops.einsum("jw,niwc->nijc", columns, x)


def check_resize_mode(mode: str) -> None:
    """Raises a ValueError for a mode that `resize_images` does not know."""
    if mode not in get_args(ResizeMode):
        raise ValueError(
            f"Expected a way to resize among {', '.join(map(repr, get_args(ResizeMode)))}. "
            f"Received: {mode!r}"
        )


def _weights(side: int, size: int, mode: ResizeMode) -> Array:
    """How much each pixel of a side counts in each of the result's, `(size, side)`."""
    scale = side / size
    if mode == "bilinear_legacy":
        # In float32, as TensorFlow has it.
        places = np.arange(size, dtype=np.float32) * np.float32(scale)
        distances = places[:, None] - np.arange(side, dtype=np.float32)
        weights = np.maximum(1.0 - np.abs(distances), 0.0)
        weights[:, -1] += 1.0 - weights.sum(axis=1)  # beyond the last pixel is the last
        return weights
    centres = (np.arange(size) + 0.5) * scale - 0.5
    if mode == "bilinear":
        distances = np.clip(centres, 0, side - 1)[:, None] - np.arange(side)
        return np.maximum(1.0 - np.abs(distances), 0.0).astype(np.float32)
    distances = np.abs(centres[:, None] - np.arange(side)) / max(scale, 1.0)
    weights = np.maximum(1.0 - distances, 0.0) if mode == "bilinear_antialias" else _bicubic(distances)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _bicubic(x: Array) -> Array:
    """The cubic convolution kernel with a = -1/2 (Keys 1981)."""
    near = (1.5 * x - 2.5) * x**2 + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
