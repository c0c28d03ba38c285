"""Encodes a dataset once, into files."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_ldm.data.batch_sources import make_source
from keras_ldm.data.latent_cache import FORMAT, Encoder, LatentCache, part_name
from keras_ldm.files import atomic_write
from keras_ldm.files.tar_shards import Shard, write_shard
from keras_ldm.types import Array

Records = dict[str, Array]


def cache_latents(
    dataset: Any,
    first_stage: Encoder,
    path: str | Path,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    records_per_shard: int = 1024,
    dtype: str = "float32",
    part: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> LatentCache | None:
    """Encodes images once and for all, so that training need not do it in each epoch.

    The moments of their latents, of which each step draws anew, and everything else that the dataset
    has, captions or labels, go into tar files that WebDataset reads too. What is random in the data, a
    flip or a crop, is drawn once: encode several passes if it matters.

    After an interruption, the same call goes on with the first shard that is not there; the data are
    read again, and compared.

    Args:
        dataset: images with the key "image", and conditions, in any form that a task's `fit` takes.
        first_stage: an `AutoencoderKL`, a `VQModel` or another `FirstStage`.
        path: the folder to write to; made if it is missing.
        batch_size: images at a time; for arrays alone, 32 by default.
        steps: batches to encode; needed for data that do not end, else all.
        records_per_shard: how many records a file has.
        dtype: of the moments, "float32" or "float16".
        part: `(index, count)`: every `count`-th batch alone, from the `index`-th one on, for one of
            several processes that share the work. All of them need the same data in the same order.
        progress: whether to show a progress bar.

    Returns:
        The cache, in batches of `batch_size` or 32; None if other processes have not finished yet:
        `LatentCache(path)` is there when all have.

    Raises:
        ValueError: for images that the first stage does not take or of more than one size; if there are
            files of another first stage, other data or other arguments in the folder.

    Example:

    ```python
    cache = keras_ldm.data.cache_latents(dataset, first_stage.autoencoder, "runs/latents")
    ldm.fit(cache, epochs=100)
    ```
    """
    index, count = part
    if not 0 <= index < count or records_per_shard < 1 or dtype not in ("float32", "float16"):
        raise ValueError(
            "Expected `part` as (index, count) with 0 <= index < count, `records_per_shard` >= 1 and "
            "`dtype` 'float32' or 'float16'. Received: "
            f"part={part}, records_per_shard={records_per_shard}, dtype={dtype!r}"
        )
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    notes = {
        "format": FORMAT,
        "first_stage": first_stage.fingerprint(),
        "part": index,
        "parts": count,
        "records_per_shard": records_per_shard,
        "dtype": dtype,
    }
    _check_others(folder, notes)
    done = folder / part_name(index, count)
    done.unlink(missing_ok=True)
    names: list[str] = []
    source = make_source(dataset, batch_size, steps, False, None)
    shard: _Shard | None = None
    for numbers, batch in _batches(source, index, count, progress):
        if shard is None:
            names.append(f"latents-{index:03d}-{len(names):05d}.tar")
            shard = _Shard(folder / names[-1], first_stage, notes)
        shard.add(numbers, batch)
        if len(shard) >= records_per_shard:
            shard.finish()
            shard = None
    if shard is not None:
        shard.finish()
    with atomic_write(done) as file:
        file.write(json.dumps({**notes, "shards": names}).encode())
    if any(not (folder / part_name(other, count)).exists() for other in range(count)):
        return None
    return LatentCache(folder, batch_size or 32)


def _batches(source: Any, index: int, count: int, progress: bool) -> Iterator[tuple[Array, Records]]:
    """Those of this process, with numbers that no other record has."""
    source.start_epoch(0)
    first = 0
    for place in tqdm(range(source.num_batches), "encoding", disable=not progress):
        batch = dict(source.batch(place))
        if "image" not in batch:
            raise ValueError(f"Expected the key 'image'. Received: {sorted(batch)}")
        lengths = {name: len(value) if value.ndim else 0 for name, value in batch.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Expected one entry of each for an image. Received: {lengths}")
        if place % count == index:
            yield np.arange(first, first + len(batch["image"])), batch
        first += len(batch["image"])
    source.end_epoch()


class _Shard:
    """A file in the making; where it is there, its data are compared with what it was made of."""

    def __init__(self, path: Path, first_stage: Encoder, notes: dict[str, Any]) -> None:
        self.path, self.first_stage, self.notes = path, first_stage, notes
        self.written = Shard(path) if path.exists() else None
        self.checksum = 0
        self._numbers: list[Array] = []
        self._batches: list[Records] = []

    def __len__(self) -> int:
        return sum(len(numbers) for numbers in self._numbers)

    def add(self, numbers: Array, batch: Records) -> None:
        """Encodes a batch, or only looks at it."""
        for name, values in sorted(batch.items()):
            content = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
            self.checksum = zlib.crc32(content, zlib.crc32(name.encode(), self.checksum))
        self._numbers.append(numbers)
        if self.written is not None:
            return
        images = batch["image"]
        with np.errstate(over="ignore"):
            moments = self.first_stage.moments_of(images, len(images)).astype(self.notes["dtype"])
        if not np.isfinite(moments).all():
            raise ValueError(
                f"Expected finite moments in {self.notes['dtype']}. Received: NaN or infinity for some "
                f"of the images from {numbers[0]} to {numbers[-1]}"
            )
        conditions = {name: values for name, values in batch.items() if name != "image"}
        self._batches.append({"moments": moments, **conditions})

    def finish(self) -> None:
        """Writes it, or checks that it is of these data."""
        notes = {**self.notes, "checksum": self.checksum, "records": len(self)}
        if self.written is None:
            write_shard(self.path, np.concatenate(self._numbers), self._together(), notes)
        elif self.written.notes != notes:
            raise ValueError(
                f"Expected the data that {str(self.path)!r} was made of. Received: others; an empty "
                "folder has room for them"
            )

    def _together(self) -> Records:
        first, shapes = self._batches[0], {batch["moments"].shape[1:] for batch in self._batches}
        if len(shapes) != 1 or any(set(batch) != set(first) for batch in self._batches):
            raise ValueError(
                "Expected images of one size, and the same conditions in each batch. Received: moments "
                f"of {sorted(shapes)}, and {sorted({tuple(sorted(batch)) for batch in self._batches})}"
            )
        return {name: np.concatenate([batch[name] for batch in self._batches]) for name in first}


def _check_others(folder: Path, notes: dict[str, Any]) -> None:
    """Checks that the shards that are there are of the same cache."""
    for path in sorted(folder.glob("latents-*.tar")):
        there = Shard(path).notes
        wrong = {k: there.get(k) for k in notes if k != "part" and there.get(k) != notes[k]}
        if wrong:
            expected = {k: notes[k] for k in wrong}
            raise ValueError(
                f"Expected an empty folder, or one with shards of {expected}. "
                f"Received: {str(path)!r}, of {wrong}"
            )
