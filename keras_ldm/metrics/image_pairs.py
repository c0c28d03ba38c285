"""What images that are compared one by one must be."""

import numpy as np

from keras_ldm.types import Tensor


def check_image_pair(x: Tensor, y: Tensor, least: int = 1) -> None:
    """Refuses what are not two batches of images of one shape, as far as it is known.

    Args:
        x: should be `(batch, height, width, channels)`; in a graph, sides may be unknown.
        y: should be of the same shape.
        least: pixels that a side should have.

    Raises:
        ValueError: if they are not that.
    """
    shapes = tuple(np.shape(x)), tuple(np.shape(y))
    known = [(a, b) for a, b in zip(*shapes, strict=False) if a is not None and b is not None]
    if len(shapes[0]) != 4 or len(shapes[1]) != 4 or any(a != b for a, b in known):
        raise ValueError(
            "Expected two batches of images of one shape (batch, height, width, channels). "
            f"Received: shapes {shapes[0]} and {shapes[1]}"
        )
    if any(side is not None and side < least for side in shapes[0][1:3]):
        raise ValueError(
            f"Expected images of at least {least} pixels a side. Received: shape {shapes[0]}"
        )
