"""Large images in overlapping tiles, so that memory depends on the tile and not on the image.

Tiles lie on a grid. Where they overlap, each counts by a ramp that falls to its edge, and the weights
sum to 1. Group normalizations take the statistics of the whole image, as mosaics of its pieces have them
that are as large as a tile. Attention sees a tile where it would see the whole image. The result is
close to that of the whole image, not equal to it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.layers.shared_statistics import of_the_whole
from keras_ldm.types import Array, Tensor

TileFn = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""`(tiles, weights, statistics) -> (outputs, statistics of them)`, see `layers.SharedStatistics`."""


_PIECES = 4  # a side of a mosaic


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Args:
        tile_size: side of a tile in the image's pixels; a shorter side of an image is not cut. Larger
            tiles are closer to the whole image, and take more memory.
        overlap: pixels that neighbours share, at least.
        shared_statistics: whether group normalizations take the statistics of the whole image, which
            costs about half as much again. Tiles that take their own differ in colour.
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
        mosaics = grid.mosaics(unit_in) if self.shared_statistics and len(grid) > 1 else []
        count = len(inputs) * (len(mosaics) + -(-len(grid) // self.batch_size))
        results = []
        with tqdm(total=count, desc="tiles", disable=count < 10, leave=False) as bar:
            for image in inputs:
                given = _statistics(function, image, grid, mosaics, bar) if mosaics else None
                results.append(self._blended(function, image, grid, given, unit_in, unit_out, bar))
        return np.stack(results)

    def _blended(
        self,
        function: TileFn,
        image: Array,
        grid: "_Grid",
        given: Array | None,
        unit_in: int,
        unit_out: int,
        bar: "tqdm[None]",
    ) -> Array:
        """The blended outputs of one image's tiles."""
        whole = np.zeros(0, np.float32)
        for first in range(0, len(grid), self.batch_size):
            indices = range(first, min(first + self.batch_size, len(grid)))
            tiles = np.stack([image[grid.window(index, unit_in)] for index in indices])
            weights = np.stack([grid.weights(index, 1) for index in indices])
            outputs, _ = function(
                ops.convert_to_tensor(tiles),
                ops.convert_to_tensor(weights),
                None if given is None else ops.convert_to_tensor(given),
            )
            outputs = ops.convert_to_numpy(outputs)
            if not whole.size:
                sides = (grid.rows.side * unit_out, grid.columns.side * unit_out, outputs.shape[-1])
                whole = np.zeros(sides, np.float32)
            for index, output in zip(indices, outputs, strict=True):
                whole[grid.window(index, unit_out)] += output * grid.weights(index, unit_out)[..., None]
            bar.update()
        return whole


def _statistics(
    function: TileFn, image: Array, grid: "_Grid", mosaics: Sequence[Any], bar: "tqdm[None]"
) -> Array | None:
    """The statistics of a whole image, by mosaics of it; None for a network without any."""
    weights = ops.ones((1, grid.rows.tile, grid.columns.tile))
    seen = []
    for places in mosaics:
        _, statistics = function(ops.convert_to_tensor(image[places][None]), weights, None)
        seen.append(ops.convert_to_numpy(statistics))
        bar.update()
    if not len(seen[0]):
        return None
    return of_the_whole(np.concatenate(seen, axis=1), np.ones(len(seen)))


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

    def mosaics(self, unit: int) -> list[Array]:
        """Places of pieces from all over the side, as many as a tile has; together nearly all of it."""
        pieces = min(_PIECES, self.tile)
        widths = [len(piece) for piece in np.array_split(np.arange(self.tile), pieces)]
        strips = np.linspace(0, self.side, pieces + 1)
        shifts = np.linspace(0, 1, -(-self.side // self.tile)) if self.side > self.tile else [0.0]
        found = []
        for shift in shifts:
            starts = [
                int(low + shift * (high - low - width))
                for low, high, width in zip(strips, strips[1:], widths, strict=False)
            ]
            rows = [np.arange(width) + start for start, width in zip(starts, widths, strict=True)]
            found.append((np.concatenate(rows)[:, None] * unit + np.arange(unit)).reshape(-1))
        return found

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

    def mosaics(self, unit: int) -> list[tuple[Array, ...]]:
        """Pieces from all over the image that make pictures of the size of a tile."""
        rows, columns = self.rows.mosaics(unit), self.columns.mosaics(unit)
        return [np.ix_(*sides) for sides in itertools.product(rows, columns)]

    def weights(self, index: int, unit: int) -> Array:
        """How much each place of a tile counts."""
        row, column = divmod(index, len(self.columns.starts))
        return np.asarray(
            self.rows.weights(row, unit)[:, None] * self.columns.weights(column, unit), np.float32
        )
