"""Sizes of images for pictures of all proportions, so that little of each is cut off.

Reference: NovelAI 2022, "Aspect ratio bucketing", https://github.com/NovelAI/novelai-aspect-ratio-bucketing.
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_ldm.types import Array

Sides = tuple[int, int]


def aspect_ratio_buckets(size: int = 512, multiple: int = 64, most: float = 2.0) -> list[Sides]:
    """Heights and widths of about one area, from upright to lying.

    Args:
        size: side of the square one.
        multiple: what all sides divide by: 64 for the original's U-Nets on latents of factor 8.
        most: how many times as long as the other a side may be.

    Returns:
        `(height, width)`, each at most `size * size` pixels, the highest first.

    Raises:
        ValueError: for a size that does not divide, or a proportion below 1.

    Example:

    ```python
    keras_ldm.data.aspect_ratio_buckets(256, 64)    # (320, 192), (256, 256), (192, 320)
    ```
    """
    if size < 1 or multiple < 1 or size % multiple or not most >= 1:
        raise ValueError(
            "Expected `size` as a multiple of `multiple`, and `most` >= 1. "
            f"Received: size={size}, multiple={multiple}, most={most}"
        )
    found = set()
    for short in range(multiple, size + 1, multiple):
        long = size * size // short // multiple * multiple
        if long <= most * short:
            found |= {(long, short), (short, long)}
    best: dict[int, Sides] = {}  # of one height the widest, and the other way round
    for height, width in found:
        best[height] = max(best.get(height, (0, 0)), (height, width), key=math.prod)
    kept = {s for s in best.values() if s[::-1] in best.values()}
    return sorted(kept, key=lambda sides: sides[0] / sides[1], reverse=True)


def nearest_bucket(sides: Array, buckets: Sequence[Sides]) -> Array:
    """For each picture, the bucket of which the proportions are nearest.

    Args:
        sides: heights and widths, `(pictures, 2)`.
        buckets: heights and widths.

    Returns:
        Their places in the list, `(pictures,)`.
    """
    there = np.log([height / width for height, width in buckets])
    here = np.log(sides[:, 0] / sides[:, 1])
    return np.abs(here[:, None] - there).argmin(axis=1)
