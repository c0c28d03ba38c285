"""Large images in overlapping tiles, so that memory depends on the tile and not on the image.

Tiles lie on a grid. Where they overlap, each counts by a ramp that falls to its edge, and the weights
sum to 1. Attention sees a tile where it would see the whole image.

Group normalizations take the statistics of the whole image, s. A layer's are a function of those of the
layers before, s = F(s), and a pass over all tiles with other statistics, s₀, gives F(s₀): not s, but
exact in the first layer. Passing again and again would correct one layer more each time, and throw those
after it further off meanwhile. A mosaic of pieces from all over the image, as large as a tile, has a
function M that is near F, and it is computed layer by layer, with each layer's statistics in use in the
next. So s₀ is what the mosaic has by itself, s₀ = M(s₀), and then it is computed anew with

    s₁ = F(s₀) + M(s₁) - M(s₀)        (of variances the quotient, not the difference)

which is a step of Newton's method with the derivative of M in place of that of F: the error is as small
as the product of that of s₀ and the difference of F and M.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.layers.shared_statistics import of_the_whole
from keras_ldm.types import Array, Tensor

TileFn = Callable[..., tuple[Tensor, Tensor]]
"""`(tiles, weights, given, reference) -> (outputs, statistics of them)`: the last two arguments, or the
last, may be left out. See `layers.SharedStatistics`, whose arguments they are."""

_PIECES = 8  # a side of a mosaic


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Args:
        tile_size: side of a tile in the image's pixels; a shorter side of an image is not cut. Larger
            tiles are closer to the whole image, and take more memory.
        overlap: pixels that neighbours share, at least.
        shared_statistics: whether group normalizations take the statistics of the whole image, which
            takes twice as long. Tiles that take their own differ in colour.
        batch_size: tiles computed at a time; 1 takes the least memory.

    Raises:
        ValueError: if a number is out of range.

    Example:

    ```python
    tiling = keras_ldm.models.Tiling(tile_size=512)
    images = autoencoder.decode_in_tiles(latents, tiling)
    images = ldm.generate(conditions, image_size=(512, 2048), tiling=tiling)
    ```
    """

    tile_size: int = 512
    overlap: int = 128
    shared_statistics: bool = True
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= self.tile_size // 2 or self.tile_size < 1:
            raise ValueError(
                "Expected a `tile_size` of at least one pixel, and an `overlap` from 0 to half of it. "
                f"Received: tile_size={self.tile_size}, overlap={self.overlap}"
            )
        if self.batch_size < 1:
            raise ValueError(f"Expected `batch_size` >= 1. Received: {self.batch_size}")

    def encode(self, function: TileFn, images: Array, factor: int) -> Array:
        """What an encoder says of images.

        Args:
            function: encodes tiles, `(n, h·factor, w·factor, channels)` -> `(n, h, w, c)`.
            images: `(batch, height, width, channels)`, sides that divide by `factor`.
            factor: how many pixels a latent's side stands for.

        Returns:
            float32 `(batch, height/factor, width/factor, c)`.

        Raises:
            ValueError: if a tile is not a whole number of latents, or there is no image.
        """
        return self._apply(function, images, factor, factor, 1)

    def decode(self, function: TileFn, latents: Array, factor: int) -> Array:
        """Images from latents.

        Args:
            function: decodes tiles, `(n, h, w, c)` -> `(n, h·factor, w·factor, channels)`.
            latents: `(batch, h, w, c)`.
            factor: how many pixels a latent's side stands for.

        Returns:
            float32 `(batch, h·factor, w·factor, channels)`.

        Raises:
            ValueError: if a tile is not a whole number of latents, or there is no image.
        """
        return self._apply(function, latents, factor, 1, factor)

    def _apply(self, function: TileFn, inputs: Array, factor: int, unit_in: int, unit_out: int) -> Array:
        """Blends what becomes of tiles; a latent is `unit_in` pixels of the input, and so on."""
        if self.tile_size % factor or self.overlap % factor:
            raise ValueError(
                f"Expected `tile_size` and `overlap` to divide by the downsampling factor {factor}. "
                f"Received: tile_size={self.tile_size}, overlap={self.overlap}"
            )
        if not len(inputs):
            raise ValueError("Expected at least one image. Received: none")
        height, width = (side // unit_in for side in inputs.shape[1:3])
        tile, overlap = self.tile_size // factor, self.overlap // factor
        grid = _Grid(_Cuts(height, tile, overlap), _Cuts(width, tile, overlap))
        shares = self.shared_statistics and len(grid) > 1
        count = len(inputs) * -(-len(grid) // self.batch_size) * (1 + shares)
        results = []
        with tqdm(total=count, desc="tiles", disable=count < 10, leave=False) as bar:
            for image in inputs:
                tiles = _Tiles(function, image, grid, unit_in, self.batch_size, bar)
                given = tiles.statistics() if shares else None
                results.append(tiles.blended(given, unit_out))
        return np.stack(results)


class _Cuts:
    """Where tiles lie along one side, in latents, and how much each counts.

    Args:
        side: of the image.
        tile: of a tile.
        overlap: of neighbours, at least.
    """

    def __init__(self, side: int, tile: int, overlap: int) -> None:
        self.side = side
        self.tile = min(side, tile)
        count = 1 if side <= tile else -(-(side - overlap) // (tile - overlap))
        self.starts: Sequence[int] = [
            round(i * (side - self.tile) / max(count - 1, 1)) for i in range(count)
        ]

    def window(self, index: int, unit: int) -> slice:
        """The places of a tile, where a latent has `unit` of them."""
        start = self.starts[index] * unit
        return slice(start, start + self.tile * unit)

    def mosaic(self, unit: int) -> Array:
        """Places of pieces from all over the side, as many as a tile has."""
        pieces = min(_PIECES, self.tile)
        strips = np.array_split(np.arange(self.side), pieces)
        parts = np.array_split(np.arange(self.tile), pieces)
        rows = [
            np.arange(len(part)) + strip[0] + (len(strip) - len(part)) // 2
            for strip, part in zip(strips, parts, strict=True)
        ]
        return (np.concatenate(rows)[:, None] * unit + np.arange(unit)).reshape(-1)

    def weights(self, index: int, unit: int) -> Array:
        """How much each place of a tile counts: those of all tiles sum to 1."""
        total = np.zeros(self.side * unit)
        for other in range(len(self.starts)):
            total[self.window(other, unit)] += self._ramp(other, unit)
        return np.asarray(self._ramp(index, unit) / total[self.window(index, unit)], np.float32)

    def _ramp(self, index: int, unit: int) -> Array:
        """Rises and falls over what a tile shares with its neighbours."""
        places = np.arange(self.tile * unit) + 0.5
        ramp = np.ones(self.tile * unit)
        if index > 0:
            shared = (self.starts[index - 1] + self.tile - self.starts[index]) * unit
            ramp = np.minimum(ramp, places / max(shared, 1))
        if index < len(self.starts) - 1:
            shared = (self.starts[index] + self.tile - self.starts[index + 1]) * unit
            ramp = np.minimum(ramp, places[::-1] / max(shared, 1))
        return ramp


@dataclass(frozen=True)
class _Grid:
    """Tiles by number, row by row."""

    rows: _Cuts
    columns: _Cuts

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def window(self, index: int, unit: int) -> tuple[slice, slice]:
        """The places of a tile, where a latent has `unit` of them a side."""
        row, column = divmod(index, len(self.columns.starts))
        return self.rows.window(row, unit), self.columns.window(column, unit)

    def mosaic(self, unit: int) -> tuple[Array, ...]:
        """Pieces from all over the image that make one as large as a tile."""
        return np.ix_(self.rows.mosaic(unit), self.columns.mosaic(unit))

    def weights(self, index: int, unit: int) -> Array:
        """How much each place of a tile counts."""
        row, column = divmod(index, len(self.columns.starts))
        return np.asarray(
            self.rows.weights(row, unit)[:, None] * self.columns.weights(column, unit), np.float32
        )


@dataclass(frozen=True)
class _Tiles:
    """An image's tiles, and what a function makes of them."""

    function: TileFn
    image: Array
    grid: _Grid
    unit: int  # places of the image a latent's side
    batch_size: int
    bar: "tqdm[None]"

    def blended(self, given: Array | None, unit: int) -> Array:
        """The function's outputs as one; a latent has `unit` of its places a side."""
        whole = np.zeros(0, np.float32)
        for indices, outputs, _ in self._results(given):
            if not whole.size:
                sides = (self.grid.rows.side * unit, self.grid.columns.side * unit)
                whole = np.zeros((*sides, outputs.shape[-1]), np.float32)
            for index, output in zip(indices, outputs, strict=True):
                weights = self.grid.weights(index, unit)[..., None]
                whole[self.grid.window(index, unit)] += output * weights
        return whole

    def statistics(self) -> Array | None:
        """Those of the whole image; None for a network without any."""
        mosaic = self.image[self.grid.mosaic(self.unit)][None]
        own = self._of_mosaic(mosaic)
        if not len(own):
            return None
        seen = np.concatenate([statistics for _, _, statistics in self._results(own)], axis=1)
        counts = [self.grid.weights(index, 1).sum() for index in range(len(self.grid))]
        return self._of_mosaic(mosaic, of_the_whole(seen, np.array(counts)), own)

    def _of_mosaic(self, mosaic: Array, *statistics: Array) -> Array:
        """The statistics in use where a mosaic is computed, `(calls, groups, 2)`."""
        weights = np.ones((1, self.grid.rows.tile, self.grid.columns.tile), np.float32)
        return self._call(mosaic, weights, *statistics)[1][:, 0]

    def _results(self, given: Array | None) -> Iterator[tuple[range, Array, Array]]:
        """Numbers of tiles, their outputs and their statistics, some tiles at a time."""
        for first in range(0, len(self.grid), self.batch_size):
            indices = range(first, min(first + self.batch_size, len(self.grid)))
            tiles = np.stack([self.image[self.grid.window(index, self.unit)] for index in indices])
            weights = np.stack([self.grid.weights(index, 1) for index in indices])
            yield indices, *self._call(tiles, weights, *([] if given is None else [given]))
            self.bar.update()

    def _call(self, *arrays: Array) -> tuple[Array, Array]:
        outputs, statistics = self.function(*map(ops.convert_to_tensor, arrays))
        return ops.convert_to_numpy(outputs), ops.convert_to_numpy(statistics)
