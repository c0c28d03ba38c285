"""Small random changes to batches of images, each image for itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shift_images(
    images: NDArray[np.uint8], max_shift: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Moves each image of a batch by its own few pixels, repeating the edge where it left.

    Args:
        images: A `(batch, height, width, channels)` array.
        max_shift: Images move by `-max_shift … max_shift` pixels, each axis for itself.
        rng: Draws the shifts.

    Returns:
        The moved images, in the shape of `images`.

    Raises:
        ValueError: `images` is no batch, or `max_shift` is negative.

    Example:
        ```python
        shifted = shift_images(emoji.images[:32], 3, np.random.default_rng(0))
        ```
    """
    check_batch(images)
    check_shift(max_shift)
    batch, height, width, _ = images.shape
    down, right = rng.integers(-max_shift, max_shift, size=(2, batch, 1), endpoint=True)
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def flip_images(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirrors each image of a batch, left to right, with probability one half.

    Args:
        images: A `(batch, height, width, channels)` array.
        rng: Draws which images are mirrored.

    Returns:
        The images, in the shape of `images`.

    Raises:
        ValueError: `images` is no batch.

    Example:
        ```python
        flipped = flip_images(photographs, np.random.default_rng(0))
        ```
    """
    check_batch(images)
    mirrored = rng.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def check_shift(max_shift: int) -> None:
    """Refuses a shift by fewer than no pixels.

    Args:
        max_shift: What should be zero or more.

    Raises:
        ValueError: It is not.
    """
    if max_shift < 0:
        raise ValueError(f"`max_shift` must not be negative. Received: {max_shift}")


def check_batch(images: NDArray[np.uint8]) -> None:
    """Refuses what is not a batch of 8-bit images.

    Args:
        images: What should be a uint8 array of four axes.

    Raises:
        ValueError: It is not.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            "`images` must be uint8 of shape (batch, height, width, channels). "
            f"Received: {images.dtype} of shape {images.shape}"
        )
