"""Latents that were encoded once, to train on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_ldm.data.pass_dataset import PassDataset
from keras_ldm.files.tar_shards import Shard
from keras_ldm.types import Array

FORMAT = "keras_ldm latent cache 1"


class Encoder(Protocol):
    """What makes latents: a first stage."""

    def moments_of(self, images: Array, batch_size: int = 32) -> Array:
        """Their moments, `(N, h, w, channels)`."""

    def fingerprint(self) -> str:
        """Which one it is."""


def part_name(part: int, parts: int) -> str:
    """The file that says that a process has written its part."""
    return f"part-{part:03d}-of-{parts:03d}.json"


class LatentCache(PassDataset):
    """What `cache_latents` wrote, in batches for a task's `fit`.

    Each pass has an order of its own over all records, drawn from `seed` and the number of the pass, so
    that the same passes come in any process. A batch is asked for by its number: with
    `keras_ldm.callbacks.Checkpoints` a training goes on at once.

    Args:
        path: the folder.
        batch_size: records in a batch; the last one of a pass may have fewer.
        shuffle: whether each pass has an order of its own; without it, all have that of the files.
        seed: of the orders.
        drop_remainder: leave out a last batch that is not full.
        shard: `(index, count)`: every `count`-th record alone, from the `index`-th one on, for one of
            several processes that train together.
        **kwargs: see `keras.utils.PyDataset`.

    Attributes:
        first_stage: the fingerprint of the first stage that made the latents.

    Raises:
        FileNotFoundError: if there is no cache, or one that is not finished.
        ValueError: if its files do not belong together, or an argument makes no sense.

    Example:

    ```python
    cache = keras_ldm.data.cache_latents(dataset, first_stage.autoencoder, "runs/latents")
    ldm.fit(cache, epochs=100)
    ldm.fit(keras_ldm.data.LatentCache("runs/latents", batch_size=64), epochs=200)
    ```
    """

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_remainder: bool = False,
        shard: tuple[int, int] = (0, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_size, shuffle=shuffle, seed=seed, drop_remainder=drop_remainder, shard=shard, **kwargs
        )
        self.path = Path(path)
        self._shards = list(self._read_shards())
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self._make_batches_of([self._part_of(int(self._ends[-1]))])

    def _read_shards(self) -> Iterator[Shard]:
        found = sorted(self.path.glob("part-*-of-*.json"))
        if not found:
            raise FileNotFoundError(
                f"Expected a cache that `cache_latents` has finished. Received: {str(self.path)!r}"
                + ("" if self.path.is_dir() else ", which does not exist")
            )
        notes = [json.loads(path.read_bytes()) for path in found]
        parts = notes[0].get("parts")
        names = [part_name(part, parts) for part in range(parts)] if isinstance(parts, int) else []
        if any(note.get("format") != FORMAT for note in notes) or names != [p.name for p in found]:
            missing = sorted(set(names) - {path.name for path in found})
            if missing and {path.name for path in found} < set(names):
                raise FileNotFoundError(
                    f"Expected all parts of the cache in {str(self.path)!r}. Received: {missing} are "
                    "missing, whose processes have not finished"
                )
            raise ValueError(
                f"Expected the parts of one cache in {str(self.path)!r}. "
                f"Received: {[path.name for path in found]}"
            )
        stages = {note["first_stage"] for note in notes}
        self.first_stage: str = notes[0]["first_stage"]
        fields = None
        for note in notes:
            for name in note["shards"]:
                shard = Shard(self.path / name)
                fields = fields or shard.fields
                if shard.fields != fields or len(stages) != 1:
                    raise ValueError(
                        f"Expected shards of one first stage, with the fields {fields}. "
                        f"Received: {name!r} with {shard.fields}, of {sorted(stages)}"
                    )
                yield shard

    def check_first_stage(self, first_stage: Encoder) -> None:
        """Checks that the latents are those of a first stage as it is.

        Raises:
            ValueError: if they are not.
        """
        digits = first_stage.fingerprint()
        if digits != self.first_stage:
            raise ValueError(
                f"Expected the first stage that {str(self.path)!r} was made with, {self.first_stage}. "
                f"Received: {digits}, another one or one that has been trained since"
            )

    # === Batches ===

    def batch_of_pass(self, number: int, index: int) -> dict[str, Array]:
        """A batch of any pass: `moments`, float32 `(batch, h, w, channels)`, and the conditions."""
        _, rows = self._batches_of(number)[index]
        numbers = np.searchsorted(self._ends, rows, side="right")
        batch: dict[str, Any] = {}
        for number in np.unique(numbers):  # one shard after the other
            places = np.flatnonzero(numbers == number)
            shard = self._shards[number]
            read = shard.read(rows[places] - (self._ends[number] - len(shard)))
            for name, values in read.items():
                if name not in batch:
                    batch[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                batch[name][places] = values
        batch["moments"] = batch["moments"].astype(np.float32, copy=False)
        return batch
