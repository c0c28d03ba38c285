"""What an image must be, and its way to [-1, 1] and back."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_ldm.types import Array, Tensor


def check_images(images: Any, channels: int, factor: int, name: str = "image") -> Array:
    """Refuses what is not a batch of images.

    Args:
        images: should be uint8, or floats in [-1, 1], `(batch, height, width, channels)`.
        channels: how many there should be.
        factor: what the sides should divide by.
        name: for the error message.

    Returns:
        The images, uint8 or float32.

    Raises:
        ValueError: if rank, channels, sides, dtype or range are not that.
    """
    values = np.asarray(images)
    received = f"Received: `{name}` of shape {values.shape}, dtype {values.dtype}"
    if values.ndim != 4 or values.shape[-1] != channels:
        raise ValueError(f"Expected images of shape (batch, height, width, {channels}). {received}")
    if values.shape[1] % factor or values.shape[2] % factor or 0 in values.shape[1:3]:
        raise ValueError(f"Expected images with sides that divide by {factor}. {received}")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise ValueError(f"Expected images as uint8, or as floats in [-1, 1]. {received}")
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"Expected finite images. {received}, with NaN or infinite values")
    if values.size and np.abs(values).max() > 1.0 + 1e-3:
        raise ValueError(
            f"Expected float images in [-1, 1]. {received}, "
            f"values from {values.min():.4g} to {values.max():.4g}"
        )
    return values


def check_training_images(images: Any, channels: int, factor: int) -> Array:
    """Refuses what is not a batch of images, as `check_images`; warns of what looks like [0, 1].

    A model that is trained on images in [0, 1] learns, and draws them pale: nothing else would tell.
    """
    values = check_images(images, channels, factor)
    if values.dtype != np.uint8 and values.size and 0 <= values.min() < values.max():
        warnings.warn(
            "Expected float images in [-1, 1]. Received: values from "
            f"{values.min():.4g} to {values.max():.4g}, as of images in [0, 1]. If that is what they "
            "are, give 2 * images - 1, or uint8",
            stacklevel=2,
        )
    return values


def to_floats(images: Tensor) -> Tensor:
    """Images in [-1, 1] as float32, from uint8 or such floats.

    Raises:
        ValueError: for other integers, whose scale is not known.
    """
    dtype = str(getattr(images.dtype, "name", images.dtype)).removeprefix("torch.")
    if dtype == "uint8":
        return ops.cast(images, "float32") / 127.5 - 1.0
    if "float" not in dtype:
        raise ValueError(f"Expected images as uint8, or as floats in [-1, 1]. Received: dtype {dtype}")
    return ops.cast(images, "float32")


class NonFiniteImagesError(ValueError):
    """A model gives NaN or infinite values, which are no images."""


def to_uint8(images: Array) -> Array:
    """uint8 images from floats in [-1, 1], rounded; what lies beyond is clipped.

    Raises:
        NonFiniteImagesError: for values that are not finite.
    """
    if not np.isfinite(images).all():
        broken = int((~np.isfinite(images).reshape(len(images), -1).all(axis=1)).sum())
        raise NonFiniteImagesError(
            f"Expected finite images. Received: NaN or infinite values in {broken} of {len(images)}; "
            "has the model been trained, with a loss that is finite?"
        )
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def image_sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width from one side or both; None stays None.

    Raises:
        ValueError: if it is neither.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, (int, np.integer)) else size
    if (
        not isinstance(sides, (tuple, list))
        or len(sides) != 2
        or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in sides)
    ):
        raise ValueError(f"Expected an image size as one side or (height, width). Received: {size!r}")
    return int(sides[0]), int(sides[1])
