"""Writes safetensors."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from keras_ldm.files.atomic import atomic_write
from keras_ldm.files.dtypes import TO_SAFETENSORS
from keras_ldm.files.safetensors_reading import METADATA
from keras_ldm.files.tensor_writing import Tensors, checked, raw

_CHUNK = 2**20


def write_safetensors(
    path: str | os.PathLike[str], tensors: Tensors, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors to a safetensors file, whole or not at all: see `atomic_write`.

    One tensor is in memory at a time, if `tensors` makes them one at a time. As their sizes are not
    known before, they go through a second file in the same folder, which needs as much space again.

    Args:
        path: The file; one of that name is replaced.
        tensors: Arrays by name, or an iterable of pairs of name and array. Floats of 64, 32, 16 and
            8 bits, bfloat16, integers and bool.
        metadata: Strings to keep in the file.

    Raises:
        TypeError: A name, or something in `metadata`, is no string.
        ValueError: There are no tensors, a name comes twice, or a dtype is not one of those.

    Example:
        ```python
        write_safetensors("model.safetensors", {"kernel": np.ones((2, 3), "float16")})
        ```
    """
    metadata = dict(metadata or {})
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise TypeError(f"Expected strings by name as metadata. Received: {metadata!r}")
    with atomic_write(path) as file, tempfile.TemporaryFile(dir=Path(path).parent) as body:
        sizes: dict[str, tuple[int, int, int]] = {}  # bytes of an element, start in the body, bytes
        entries: dict[str, dict[str, object]] = {}
        for name, array in checked(tensors, TO_SAFETENSORS):
            if name == METADATA:
                raise ValueError(f"Expected names of tensors. Received: {name!r}, which has a meaning")
            sizes[name] = (array.itemsize, body.tell(), array.nbytes)
            entries[name] = {"dtype": TO_SAFETENSORS[array.dtype], "shape": list(array.shape)}
            body.write(raw(array))
        # The widest first, so that each is aligned, as other readers need it.
        order = sorted(sizes, key=lambda name: -sizes[name][0])
        end = 0
        for name in order:
            begin, end = end, end + sizes[name][2]
            entries[name]["data_offsets"] = [begin, end]
        header = {METADATA: metadata} if metadata else {}
        text = json.dumps(header | entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            _copy(body, file, *sizes[name][1:])


def _copy(source: BinaryIO, target: BinaryIO, start: int, size: int) -> None:
    source.seek(start)
    for done in range(0, size, _CHUNK):
        target.write(source.read(min(_CHUNK, size - done)))
