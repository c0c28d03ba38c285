"""Reads safetensors: the length of a header (u64), the header (JSON), the data.

The format is read here, not by the safetensors library: that one reads bfloat16 into NumPy only in
its latest versions, gives no shape or dtype of a tensor in NumPy's terms without reading it, and
keeps the whole file mapped. Its checks are all made here: a header of at most 100 MB, no name twice,
and data that the tensors cover without gap or overlap.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, BinaryIO, NoReturn

from keras_ldm.files.dtypes import BY_SAFETENSORS
from keras_ldm.files.refusal import Refusal, shown, shown_all
from keras_ldm.files.tensor_file import Place, TensorFile, check_shape, contiguous

METADATA = "__metadata__"
_MAX_HEADER = 100_000_000


def looks_like_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a header of at most 100 MB, and with a header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def open_safetensors(file: BinaryIO, path: str, size: int) -> TensorFile:
    """Reads the header of an open file.

    Args:
        file: At its beginning.
        path: Its name.
        size: Its bytes.

    Raises:
        Refusal: The header breaks a rule of the format.
    """
    length = int.from_bytes(file.read(8), "little")
    if 8 + length > size:
        raise Refusal(f"which is truncated: {size} bytes, with a header of {length}")
    header = json.loads(
        file.read(length).decode("utf-8"), object_pairs_hook=_no_name_twice, parse_constant=_no_number
    )
    if not isinstance(header, dict):
        raise Refusal("which has a header that is no dictionary")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Refusal(f"in which {METADATA} is not strings by name")
    if not header:
        raise Refusal("which holds no tensors")
    places = {name: _place(name, entry, 8 + length) for name, entry in header.items()}
    _check_cover(places, 8 + length, size)
    return TensorFile(file, path, places, metadata)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise Refusal(f"which names twice {shown_all([n for n, k in counts.items() if k > 1])}")
    return found


def _no_number(text: str) -> NoReturn:
    raise Refusal(f"which has {text} in its header")


def _whole_numbers(values: Any) -> tuple[int, ...] | None:
    if isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values):
        return tuple(values)
    return None


def _place(name: str, entry: Any, data: int) -> Place:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Refusal(f"in which {shown(name)} is not described by dtype, shape and data_offsets")
    code, shape = entry["dtype"], _whole_numbers(entry["shape"])
    offsets = _whole_numbers(entry["data_offsets"])
    if not isinstance(code, str) or shape is None or offsets is None or len(offsets) != 2:
        raise Refusal(f"in which {shown(name)} has a wrong dtype, shape or data_offsets")
    dtype = BY_SAFETENSORS.get(code)
    if dtype is None:
        raise Refusal(f"in which {shown(name)} has the dtype {shown(code)}, which NumPy does not know")
    check_shape(shown(name), shape, dtype)
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise Refusal(f"in which {shown(name)} has {end - begin} bytes, not those of {shape}, {dtype}")
    return Place(dtype, shape, contiguous(shape, dtype.itemsize), data + begin)


def _check_cover(places: dict[str, Place], data: int, size: int) -> None:
    """Each byte of the data belongs to one tensor, and none lies beyond the file."""
    reached = data
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].extent)):
        if place.start != reached:
            raise Refusal(
                f"in which {shown(name)} begins at byte {place.start}, where {reached} should be"
            )
        reached += place.extent
    if reached > size:
        raise Refusal(f"which is truncated: {size} bytes, with tensors up to {reached}")
    if reached < size:
        raise Refusal(f"in which {size - reached} bytes follow the last tensor")
