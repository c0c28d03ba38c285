"""Shapes of a batch, of which TensorFlow's graphs often know all but the first side.

Where the others are known, a reshape is one operation there, and some ten where the size of the batch is
asked for; and the result's sides stay known, which attention goes by to save memory.
"""

import math

from keras import ops

from keras_ldm.types import Shape, Tensor


def reshape_examples(x: Tensor, shape: Shape) -> Tensor:
    """Gives each example of a batch another shape.

    Args:
        x: `(batch, ...)`.
        shape: of an example; at most one side may be None, which then follows from the others.

    Returns:
        `(batch, *shape)`.
    """
    if None not in shape:
        return ops.reshape(x, (-1, *shape))
    return ops.reshape(x, (ops.shape(x)[0], *(-1 if side is None else side for side in shape)))


def as_tokens(images: Tensor) -> Tensor:
    """The pixels of `(batch, ..., channels)` in a row, `(batch, pixels, channels)`."""
    *sides, channels = images.shape[1:]
    return reshape_examples(images, (None if None in sides else math.prod(sides), channels))


def reshape_like(x: Tensor, other: Tensor, channels: int | None = None) -> Tensor:
    """Gives `x` the shape of another tensor, but for the last side where `channels` are given."""
    *sides, last = other.shape[1:]
    channels = last if channels is None else channels
    if None in sides:
        return ops.reshape(x, (*ops.shape(other)[:-1], channels))
    return reshape_examples(x, (*sides, channels))
