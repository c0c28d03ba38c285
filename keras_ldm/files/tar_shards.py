"""Records in tar files, as WebDataset lays them out, of which any can be read at once.

A record is a few members of one stem, `00000012.moments.npy` and `00000012.caption.txt`: arrays as NumPy
writes them, strings as UTF-8. `tar` unpacks such a file, and WebDataset streams it. Beside it lies
`….index.json`, which says where the bytes of each member are, so that nobody has to read through it.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ldm.files.atomic import atomic_path, atomic_write
from keras_ldm.types import Array

_INDEX = ".index.json"


@dataclass(frozen=True)
class Field:
    """What a field of all records in a shard is.

    Attributes:
        name: such as "moments".
        dtype: NumPy's name of it; "str" for text.
        shape: of one record's array; empty for text.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether it is a string."""
        return self.dtype == "str"

    @property
    def ending(self) -> str:
        """Of its members' names."""
        return f"{self.name}.{'txt' if self.is_text else 'npy'}"


def fields_of(records: Mapping[str, Array]) -> tuple[Field, ...]:
    """The fields of arrays whose first axis is the record.

    Raises:
        ValueError: for arrays of objects that are no strings.
    """
    found = []
    for name, values in sorted(records.items()):
        if values.dtype.kind in "US" or (
            values.dtype == object and all(isinstance(x, (str, bytes)) for x in values.flat)
        ):
            if values.ndim != 1:
                raise ValueError(f"Expected one string a record as {name!r}. Received: {values.shape}")
            found.append(Field(name, "str"))
        elif values.dtype.kind in "fiub":
            found.append(Field(name, values.dtype.str, values.shape[1:]))
        else:
            raise ValueError(f"Expected numbers or strings as {name!r}. Received: {values.dtype}")
    return tuple(found)


def write_shard(
    path: Path, numbers: Sequence[int] | Array, records: Mapping[str, Array], notes: Mapping[str, Any]
) -> None:
    """Writes a tar file and its index, each whole or not at all, the index first.

    Args:
        path: ending in `.tar`.
        numbers: of the records, which their names begin with.
        records: arrays of that length; their first axis is the record.
        notes: to keep in the index, of anything that JSON has.

    Raises:
        ValueError: see `fields_of`.
    """
    fields = fields_of(records)
    places: dict[str, list[tuple[int, int]]] = {field.name: [] for field in fields}
    with atomic_path(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for row, number in enumerate(numbers):
                for field in fields:
                    content, ahead = _encoded(field, records[field.name][row])
                    member = tarfile.TarInfo(f"{number:08d}.{field.ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                    start = archive.offset - -(-len(content) // 512) * 512
                    places[field.name].append((start + ahead, len(content) - ahead))
        size = temporary.stat().st_size
        index = {
            "count": len(numbers),
            "size": size,
            "fields": [[field.name, field.dtype, list(field.shape)] for field in fields],
            "places": places,
            "notes": dict(notes),
        }
        with atomic_write(_index_of(path)) as file:
            file.write(json.dumps(index).encode())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())


def _index_of(path: Path) -> Path:
    return path.with_name(path.name + _INDEX)


def _encoded(field: Field, value: Any) -> tuple[bytes, int]:
    """The bytes of a member, and how many of them come before the value's own."""
    if field.is_text:
        return (value if isinstance(value, bytes) else str(value).encode()), 0
    array = np.ascontiguousarray(value)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue(), buffer.tell() - array.nbytes


class Shard:
    """A tar file that `write_shard` wrote; any of its records can be read, from several threads.

    Args:
        path: of the tar file.

    Attributes:
        fields: what its records have.
        notes: what was kept in its index.

    Raises:
        FileNotFoundError: if the file or its index is missing.
        ValueError: if they are damaged, or do not belong together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        index_path = _index_of(path)
        for part in (path, index_path):
            if not part.is_file():
                raise FileNotFoundError(
                    f"Expected a shard and its index. Received: {str(part)!r}, which does not exist"
                )
        size = path.stat().st_size
        try:
            index = json.loads(index_path.read_bytes())
            self.fields = tuple(
                Field(name, dtype, tuple(shape)) for name, dtype, shape in index["fields"]
            )
            self.notes: dict[str, Any] = index["notes"]
            self._places = {name: [tuple(x) for x in places] for name, places in index["places"].items()}
            self._count, whole = int(index["count"]), int(index["size"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected the index of a shard. Received: {str(index_path)!r}, which is damaged "
                f"({type(error).__name__}: {error})"
            ) from error
        if size != whole:
            raise ValueError(
                f"Expected a shard of {whole} bytes, as its index says. "
                f"Received: {str(path)!r}, of {size} bytes"
            )

    def __len__(self) -> int:
        return self._count

    def read(self, rows: Sequence[int] | Array) -> dict[str, Array]:
        """Records by field, in the order that is asked for."""
        found: dict[str, list[Any]] = {field.name: [] for field in self.fields}
        with self.path.open("rb", buffering=0) as file:
            for row in rows:
                for field in self.fields:
                    start, size = self._places[field.name][row]
                    file.seek(start)
                    found[field.name].append(self._decoded(field, file.read(size), size))
        return {
            field.name: np.array(found[field.name], object)
            if field.is_text
            else np.stack(found[field.name])
            for field in self.fields
        }

    def _decoded(self, field: Field, content: bytes, size: int) -> Any:
        if len(content) != size:
            raise ValueError(f"Expected a whole shard. Received: {str(self.path)!r}, which is truncated")
        if field.is_text:
            return content.decode("utf-8", "replace")
        return np.frombuffer(content, np.dtype(field.dtype)).reshape(field.shape)
