"""Captioned pictures in large files: tar files as WebDataset has them, TFRecord files."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_ldm.checks import check_int
from keras_ldm.data.buckets import Sides, nearest_bucket
from keras_ldm.data.images import Crop, check_square, picture_sides, read_picture
from keras_ldm.data.pass_dataset import PassDataset
from keras_ldm.data.record_fields import RecordFields, example_of
from keras_ldm.files.record_places import Record, TruncatedFileError, is_shard, records_of
from keras_ldm.types import Array

_NAMED = 5  # records that a message names
_log = logging.getLogger(__name__)


class ImageShards(PassDataset):
    """Batches of pictures, captions and labels that are in many large files.

    The files are gone through once, from header to header; then each pass has an order of its own, over
    all records, and a training that goes on from a checkpoint has its place at once. Pictures are read
    and decoded by several threads, a batch ahead. They are read from where they are: files on a disk
    that reads small parts slowly are better copied first.

    Args:
        files: a folder, a pattern such as "data/train-*.tar" or "data/**/*.tar", or paths, of `.tar` or
            `.tfrecord` files (or parts of these, `.tfrecord-00000-of-00010`), not compressed.
        image_size: height and width, or one side, of all images; what sticks out is cut off. None with
            `buckets`.
        batch_size: records in a batch; the last one of a pass, or of a bucket, may have fewer.
        fields: what a record has besides its picture, by the name that the task gives it: in tar files
            the ending of a member ("txt", "cls"), or "json:" and a key; in TFRecord files the name of a
            feature. Members are text, those that end in "cls" integers. By default the caption, in
            "txt" or "caption"; {} for pictures alone.
        image_field: the same for the picture: by default the member whose name ends as a picture's
            does, or the feature "image". Encoded, as JPEG, PNG, WebP or what else Pillow reads.
        buckets: sizes `(height, width)`, such as `aspect_ratio_buckets` gives: each picture goes to the
            one whose proportions are nearest to its own, and each batch has one size. Takes a look at
            the beginning of each picture first, in TFRecord files at each whole record.
        crop: "center" or "random"; "none" squeezes.
        shuffle: whether each pass has an order of its own; without it, all have that of the files.
        seed: of orders and crops.
        drop_remainder: leave out batches that are not full.
        shard: `(index, count)`: every `count`-th record alone, from the `index`-th one on, for one of
            several processes that each read their own; not with several buckets.
        most_damaged: records that may be unreadable. Another one takes the place of each, and a warning
            in the log names it; one more ends the training with a `DamagedRecordsError`. A TFRecord's
            checksum is not computed: what is noticed is what cannot be parsed or decoded.
        threads: that read pictures; by default one for each core.
        progress: whether to show a progress bar while files are gone through.
        **kwargs: see `keras.utils.PyDataset`.

    Attributes:
        damaged: names of the records that could not be read so far, and why.

    Raises:
        FileNotFoundError: if there are no such files.
        ValueError: for arguments that make no sense, files without records, or records with several
            pictures without an `image_field`.
        DamagedRecordsError: for more damaged records than may be.

    Example:

    ```python
    data = keras_ldm.data.ImageShards("data/train-*.tar", image_size=256, batch_size=64)
    task.fit(data, epochs=10)
    ```
    """

    def __init__(
        self,
        files: str | Path | Sequence[str | Path],
        image_size: int | Sides | None = None,
        batch_size: int = 32,
        *,
        fields: Mapping[str, str] | None = None,
        image_field: str | None = None,
        buckets: Sequence[Sides] | None = None,
        crop: Crop = "center",
        shuffle: bool = True,
        seed: int = 0,
        drop_remainder: bool = False,
        shard: tuple[int, int] = (0, 1),
        most_damaged: int = 100,
        threads: int | None = None,
        progress: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_size, shuffle=shuffle, seed=seed, drop_remainder=drop_remainder, shard=shard, **kwargs
        )
        self.sizes = _sizes(image_size, buckets)
        for side in np.ravel(self.sizes):
            check_square(int(side), crop)
        check_int("most_damaged", most_damaged, 0)
        if threads is not None:
            check_int("threads", threads, 1)
        if shard[1] > 1 and len(self.sizes) > 1:
            raise ValueError(
                "Expected one size with a `shard`: processes would have batches of different sizes. "
                f"Received: {len(self.sizes)} buckets and shard={shard}"
            )
        self.crop, self.most_damaged = crop, most_damaged
        self.fields = RecordFields(fields, image_field)
        self.damaged: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)
        self._next: tuple[tuple[int, int], Future[dict[str, Array]]] | None = None
        self._ahead = ThreadPoolExecutor(1)
        records = self._go_through(find_shards(files), progress)
        self.records = [records[number] for number in self._part_of(len(records))]
        self._make_batches_of(self._sort_into_buckets(progress))

    def _go_through(self, paths: Sequence[Path], progress: bool) -> list[Record]:
        records: list[Record] = []
        for path in tqdm(paths, "looking for records", disable=not progress, delay=2, leave=False):
            try:
                for record in records_of(path):
                    self.fields.check(record)
                    records.append(record)
            except TruncatedFileError as error:
                self._leave_out(f"{path}: what follows record {len(records)}", error)
        if not records:
            raise ValueError(f"Expected records in {[str(path) for path in paths]}. Received: none")
        return records

    def _sort_into_buckets(self, progress: bool) -> list[Array]:
        """The numbers of the records of each size."""
        if len(self.sizes) == 1:
            return [np.arange(len(self.records))]
        looked = self._pool.map(self._sides_of, self.records)
        bar = tqdm(
            looked, "looking at pictures", len(self.records),
            disable=not progress, delay=2, leave=False,
        )  # fmt: skip
        sides = list(bar)
        good = np.array([i for i, found in enumerate(sides) if found is not None], int)
        if not len(good):
            raise ValueError("Expected pictures that can be read. Received: none")
        places = nearest_bucket(np.array([sides[i] for i in good], float), self.sizes)
        return [good[places == place] for place in range(len(self.sizes))]

    def _sides_of(self, record: Record) -> Sides | None:
        try:
            with self.fields.picture(record, example_of(record)) as picture:
                return picture_sides(picture, record.name)
        except (OSError, ValueError) as error:
            self._leave_out(record.name, error)
            return None

    # === Batches ===

    def batch_of_pass(self, number: int, index: int) -> dict[str, Array]:
        """A batch of any pass: `image`, uint8 `(batch, height, width, 3)`, and the fields."""
        ahead, self._next = self._next, None
        batch = ahead[1].result() if ahead and ahead[0] == (number, index) else self._read(number, index)
        if index + 1 < self._length:
            self._next = (number, index + 1), self._ahead.submit(self._read, number, index + 1)
        return batch

    def _read(self, number: int, index: int) -> dict[str, Array]:
        place, rows = self._batches_of(number)[index]
        read = list(self._pool.map(lambda row: self._read_record(int(row), place, number), rows))
        others = iter(np.random.default_rng([self.seed, number, index]).permutation(self._groups[place]))
        for at, found in enumerate(read):
            while found is None:  # another one in its place, always the same
                other = next(others, None)
                if other is None:
                    raise ValueError(
                        f"Expected records that can be read. Received: none. {self._last_damages()}"
                    )
                found = self._read_record(int(other), place, number)
            read[at] = found
        good: list[dict[str, Any]] = [found for found in read if found is not None]
        return {name: _stacked(name, [found[name] for found in good]) for name in good[0]}

    # === Records ===

    def _read_record(self, row: int, place: int, number: int) -> dict[str, Any] | None:
        record = self.records[row]
        try:
            rng = np.random.default_rng([self.seed, number, row])
            example = example_of(record)
            with self.fields.picture(record, example) as picture:
                image = read_picture(picture, record.name, self.sizes[place], crop=self.crop, rng=rng)
            return {"image": image, **self.fields.values(record, example)}
        except (OSError, ValueError) as error:
            self._leave_out(record.name, error)
            return None

    def _last_damages(self) -> str:
        return " / ".join(f"{name}: {why}" for name, why in list(self.damaged.items())[-_NAMED:])

    def _leave_out(self, name: str, error: Exception) -> None:
        if name in self.damaged:
            return
        self.damaged[name] = str(error)
        if len(self.damaged) > self.most_damaged:
            raise DamagedRecordsError(
                f"Expected at most {self.most_damaged} damaged records. Received: {len(self.damaged)}. "
                f"{self._last_damages()}"
            ) from error
        _log.warning("Left out, %d so far: %s", len(self.damaged), error)


class DamagedRecordsError(RuntimeError):
    """More records than may be could not be read."""


def find_shards(files: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of a folder, a pattern or a list of paths, in the order of their names.

    Raises:
        FileNotFoundError: if there are none, or one of a list is missing.
    """
    if isinstance(files, (str, Path)):
        path = Path(files).expanduser()
        found = [path] if path.is_file() else path.iterdir() if path.is_dir() else _matches(path)
        shards = sorted(path for path in found if is_shard(path) and path.is_file())
        if not shards:
            raise FileNotFoundError(f"Expected files .tar or .tfrecord. Received: {str(files)!r}")
        return shards
    paths = [Path(file).expanduser() for file in files]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(f"Expected files that exist. Received: {missing or 'an empty list'}")
    return paths


def _matches(pattern: Path) -> list[Path]:
    return [Path(found) for found in glob(str(pattern), recursive=True)]


def _sizes(image_size: int | Sides | None, buckets: Sequence[Sides] | None) -> list[Sides]:
    sizes: list[Any] = [] if image_size is None else [image_size]
    if isinstance(buckets, Sequence):
        sizes += buckets
    if (image_size is None) == (buckets is None) or not sizes:
        raise ValueError(
            "Expected either `image_size` or a list of `buckets`. "
            f"Received: image_size={image_size}, buckets={buckets}"
        )
    if any(np.shape(s) not in ((), (2,)) or np.asarray(s).dtype.kind not in "iu" for s in sizes):
        raise ValueError(f"Expected sizes as (height, width), or one side. Received: {sizes}")
    return [(int(height), int(width)) for height, width in (np.broadcast_to(s, 2) for s in sizes)]


def _stacked(name: str, values: list[Any]) -> Array:
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    shapes = {np.shape(value) for value in values}
    if len(shapes) > 1:
        raise ValueError(f"Expected {name!r} of one shape in all records. Received: {sorted(shapes)}")
    return np.stack(values)
