"""Where the records of large files are: tar files as WebDataset reads them, TFRecord files.

A file is gone through once, from header to header; any record can then be read at once.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_LENGTH = struct.Struct("<QI")  # of a TFRecord, and the checksum of that
_SHARD = re.compile(r"\.(tar|tfrecords?(-\d+-of-\d+)?)$")
_BLOCK = 512  # of a tar file, which one of zeros ends
_CHECKSUM = 4  # bytes behind a TFRecord


@dataclass
class Record:
    """A record, and where its parts are.

    Attributes:
        name: what messages call it.
        path: of the file.
        parts: first byte and number of bytes of each part, by the ending of its name in a tar file; of
            a TFRecord the only one, by "".
    """

    name: str
    path: Path
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self, part: str) -> bytes:
        """The bytes of a part.

        Raises:
            ValueError: if there is none of that name, or the file has become shorter.
        """
        with self.open(part) as file:
            data = file.read()
        size = self.parts[part][1]
        if len(data) != size:
            raise ValueError(f"Expected {size} bytes of {self.name!r}. Received: {len(data)}")
        return data

    def open(self, part: str) -> IO[bytes]:
        """A part as a file, of which no more is read than is asked for.

        Raises:
            ValueError: if there is none of that name.
        """
        if part not in self.parts:
            raise ValueError(f"Expected a {part!r}. Received: {self.name!r} with {sorted(self.parts)}")
        return io.BufferedReader(_PartOfFile(self.path, *self.parts[part]))


class _PartOfFile(io.RawIOBase):
    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._start, self._size, self._place = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + {0: 0, 1: self._place, 2: self._size}[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        self._file.seek(self._start + self._place)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class TruncatedFileError(ValueError):
    """A file that ends in the middle of a record; those before it have been given."""


def records_of(path: Path) -> Iterator[Record]:
    """The records of a file, in their order.

    Members of a tar file belong together if their names are the same up to the first dot behind the last
    slash, and they follow one another.

    Raises:
        TruncatedFileError: behind the last whole record of a file that ends too early.
        ValueError: if the file is neither.
    """
    if not is_shard(path):
        raise ValueError(f"Expected files .tar or .tfrecord. Received: {str(path)!r}")
    yield from (_of_tar if path.suffix == ".tar" else _of_tfrecords)(path)


def is_shard(path: Path) -> bool:
    """Whether a file's name is that of one with records."""
    return _SHARD.search(path.name) is not None


def _of_tar(path: Path) -> Iterator[Record]:
    size = path.stat().st_size
    current: Record | None = None
    end = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                if not member.isfile() or not ending or not stem:
                    continue
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                name = f"{path}: {folder}/{stem}" if folder else f"{path}: {stem}"
                if current is None or current.name != name or ending.lower() in current.parts:
                    if current is not None:
                        yield current
                    current = Record(name, path)
                current.parts[ending.lower()] = member.offset_data, member.size
        if end + _BLOCK > size:
            raise tarfile.ReadError("no end of the archive")
        with path.open("rb") as opened:
            opened.seek(end)
            while rest := opened.read(1 << 20):
                if rest.strip(b"\0"):
                    raise tarfile.ReadError("more behind what reads as its end")
    except tarfile.TarError as error:
        if current is not None:
            yield current
        raise TruncatedFileError(f"Expected a whole tar file. Received: {path}, {error}") from error
    if current is not None:
        yield current


def _of_tfrecords(path: Path) -> Iterator[Record]:
    end, start, number = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while start < end:
            file.seek(start)
            head = file.read(_LENGTH.size)
            size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else end
            if start + _LENGTH.size + size + _CHECKSUM > end:
                raise TruncatedFileError(
                    f"Expected a whole TFRecord file. Received: {path}, which ends in record {number}"
                )
            yield Record(f"{path}: record {number}", path, {"": (start + _LENGTH.size, size)})
            start += _LENGTH.size + size + _CHECKSUM
            number += 1


# === tf.train.Example, without TensorFlow ===


Example = Mapping[str, list[bytes] | list[int] | list[float]]


def parse_example(data: bytes) -> Example:
    """The features of a serialized `tf.train.Example`, by name.

    Raises:
        ValueError: if it is none.
    """
    features: dict[str, list[bytes] | list[int] | list[float]] = {}
    try:
        for _, entries in _fields(data, {1}):
            for _, entry in _fields(entries, {1}):
                parts = dict(_fields(entry, {1, 2}))
                features[parts[1].decode()] = _values(parts.get(2, b""))
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(f"Expected a tf.train.Example. Received: {len(data)} other bytes") from error
    return features


def _values(feature: bytes) -> list[bytes] | list[int] | list[float]:
    for kind, values in _fields(feature, {1, 2, 3}):
        if kind == 1:
            return [value for _, value in _fields(values, {1})]
        if kind == 2:
            packed = b"".join(value for _, value in _fields(values, {1}))
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        integers: list[int] = []
        for _, value in _fields(values, {1}):
            place = 0
            while place < len(value):
                number, place = _varint(value, place)
                integers.append(number - (1 << 64) if number >= 1 << 63 else number)
        return integers
    return []


def _fields(message: bytes, expected: set[int]) -> Iterator[tuple[int, bytes]]:
    """The fields of a message of protocol buffers that are bytes, or are read as such."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            start = place
            _, place = _varint(message, place)
        elif kind == 2:
            size, start = _varint(message, place)
            place = start + size
        elif kind in (1, 5):
            start, place = place, place + (8 if kind == 1 else 4)
        else:
            raise KeyError(kind)
        if place > len(message):
            raise IndexError(place)
        if number in expected:
            yield number, message[start:place]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
