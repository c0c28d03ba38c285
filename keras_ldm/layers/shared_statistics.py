"""Group normalization of an image that is computed in tiles.

A tile that normalizes by its own mean and variance gets other colours than its neighbours. Here all
tiles of an image use the image's: each tile gives its own mean and variance, with weights that sum to 1
where tiles overlap, these are put together, and the tiles are computed once more with the result.

What is put together holds for tiles that were normalized as these were. A part of the image that is
computed before and after tells how far it moves once they are normalized otherwise.
"""

from contextvars import ContextVar, Token
from typing import Self

import numpy as np
from keras import ops

from keras_ldm.types import Array, Tensor

_TINY = 1e-6  # variances below are as good as none, beside the epsilon of a normalization
_MOST = 4.0  # how far a variance may move, as a factor


class SharedStatistics:
    """A scope within which each `GroupNorm` reports a tile's statistics, and may use given ones.

    Args:
        weights: how much each place of a tile counts, `(tiles, h, w)`; layers may see a place as a
            square of several pixels.
        given: mean and variance to normalize by, in the order of the layers' calls,
            `(calls, groups, 2)`; None for those of each tile.
        reference: what the tiles' own mean and variance were when `given` was measured, of the same
            shape. What is given moves with the tiles: means by as much, variances by the same factor,
            at most four.

    Example:

    ```python
    with SharedStatistics(weights) as shared:
        outputs = decoder(tiles)
    shared.seen()                                         # (calls, tiles, groups, 2)
    ```
    """

    def __init__(
        self, weights: Tensor, given: Tensor | None = None, reference: Tensor | None = None
    ) -> None:
        self.weights = weights
        self.given = given
        self.reference = reference
        self._seen: list[Tensor] = []
        self._token: Token[SharedStatistics | None] | None = None

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)

    def of(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        """Mean and variance to normalize tiles by; what they are in the tiles, or moved to, is noted.

        Args:
            x: `(tiles, height, width, channels)`, float32.
            groups: of channels.

        Returns:
            Both `(tiles or 1, groups)`.
        """
        weights = self._weights_at(x)
        mean = ops.sum(x * weights, axis=(1, 2))
        variance = ops.sum(ops.square(x - mean[:, None, None]) * weights, axis=(1, 2))
        grouped = (ops.shape(x)[0], groups, x.shape[-1] // groups)
        means = ops.reshape(mean, grouped)
        group_mean = ops.mean(means, axis=-1)
        spread = ops.square(means - group_mean[..., None])
        group_variance = ops.mean(ops.reshape(variance, grouped) + spread, axis=-1)
        used = group_mean, group_variance
        call = len(self._seen)
        if self.given is not None and self.reference is not None:
            used = _moved(self.given[call], self.reference[call], *used)
        self._seen.append(ops.stack(used, axis=-1))
        if self.given is not None and self.reference is None:
            used = self.given[call, None, :, 0], self.given[call, None, :, 1]
        return used

    def seen(self) -> Tensor:
        """Mean and variance of the tiles, `(calls, tiles, groups, 2)`; with a reference, those used."""
        if not self._seen:  # a network without group normalization
            return ops.zeros((0, 1, 1, 2))
        return ops.stack(self._seen)

    def _weights_at(self, x: Tensor) -> Tensor:
        """The weights at a layer's resolution, with the sum 1: `(tiles, height, width, 1)`."""
        tiles, rows, columns = ops.shape(self.weights)
        height, width = ops.shape(x)[1:3]
        squares = ops.ones((1, 1, height // rows, 1, width // columns))
        weights = self.weights[:, :, None, :, None] * squares
        weights = weights / ops.sum(weights, axis=(1, 2, 3, 4), keepdims=True)
        return ops.reshape(weights, (tiles, height, width, 1))


def _moved(given: Tensor, reference: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """`given` as far from where it was as the tiles, of `(tiles, groups)`, are from `reference`."""
    factor = (variance + _TINY) / (reference[:, 1] + _TINY)
    return given[:, 0] + mean - reference[:, 0], given[:, 1] * ops.clip(factor, 1 / _MOST, _MOST)


def shared_statistics() -> SharedStatistics | None:
    """The scope that is open, or None."""
    return _CURRENT.get()


def of_the_whole(statistics: Array, weights: Array) -> Array:
    """Mean and variance of an image from those of its tiles.

    Args:
        statistics: `(calls, tiles, groups, 2)`.
        weights: what each tile counts, `(tiles,)`.

    Returns:
        float32 `(calls, groups, 2)`: the variance is the mean of the variances plus that of the means.
    """
    means, variances = np.moveaxis(statistics.astype(np.float64), -1, 0)
    mean = np.average(means, axis=1, weights=weights)
    variance = np.average(variances + (means - mean[:, None]) ** 2, axis=1, weights=weights)
    return np.stack([mean, variance], axis=-1).astype(np.float32)


_CURRENT: ContextVar[SharedStatistics | None] = ContextVar("shared_statistics", default=None)
