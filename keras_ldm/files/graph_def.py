"""Reads the constants of a TensorFlow graph (a `GraphDef` in a `.pb` file), without TensorFlow.

It is a message of Protocol Buffers. A message is fields one behind the other: a key (its number · 8 +
its kind, as a varint), then a varint, 8 bytes, 4 bytes, or a length and so many bytes, which may be a
message again. Of all fields these matter here:

    graph         1 node, repeated
    node          1 name, 2 operation ("Const"), 5 attribute, repeated
    attribute     1 key ("value"), 2 value
    value         8 tensor
    tensor        1 dtype, 2 shape, 4 content, 5 floats, 6 doubles
    shape         2 dimension, repeated
    dimension     1 size

Only their places are noted: nothing is copied but names, and nothing that the graph computes is run.

Reference: https://protobuf.dev/programming-guides/encoding, and graph.proto, node_def.proto,
attr_value.proto, tensor.proto, tensor_shape.proto and types.proto of tensorflow/core/framework.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from keras_ldm.files.opening import open_tensor_file
from keras_ldm.files.refusal import Refusal, shown
from keras_ldm.files.tensor_file import Place, TensorFile, check_shape, contiguous

_EXPECTED = "a graph of TensorFlow (GraphDef)"
_MAX_SIZE = 2**31  # that of a message, by the rules of the format
_MAX_NAME = 4096

# The numbers of TensorFlow's dtypes.
_DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(kind)
    for number, kind in (
        (1, np.float32),
        (2, np.float64),
        (3, np.int32),
        (4, np.uint8),
        (5, np.int16),
        (6, np.int8),
        (9, np.int64),
        (10, np.bool_),
        (14, ml_dtypes.bfloat16),
        (17, np.uint16),
        (19, np.float16),
        (22, np.uint32),
        (23, np.uint64),
    )
}
_VALUES = {5: np.dtype(np.float32), 6: np.dtype(np.float64)}  # fields with values in a tensor
_VARINT, _BYTES = 0, 2  # kinds of fields
_LENGTHS = {1: 8, 5: 4}  # of the others
_OTHER = "which is another kind of file, or damaged"
_TRUNCATED = "which is truncated, or another kind of file"


def read_graph_def(path: str | os.PathLike[str]) -> TensorFile:
    """Opens a graph of TensorFlow, to read its constants by the names of their nodes.

    Constants of other kinds than numbers are left out, and so are those whose numbers do not lie in the
    file one by one, as in memory: small integers, say. A single float or double may stand for all.

    Args:
        path: The file, such as `classify_image_graph_def.pb`.

    Returns:
        The constants by name; each is read when it is asked for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, is damaged, or has no constants.

    Example:
        ```python
        with read_graph_def("classify_image_graph_def.pb") as constants:
            kernel = constants["conv/conv2d_params"]  # (height, width, inputs, outputs)
        ```
    """
    return open_tensor_file(
        path, _EXPECTED, lambda file, name: TensorFile(file, name, _find_constants(file), {})
    )


def _find_constants(file: BinaryIO) -> dict[str, Place]:
    size = os.fstat(file.fileno()).st_size
    if not 0 < size < _MAX_SIZE:
        raise Refusal("which is empty" if size == 0 else f"which has {size} bytes, more than one may")
    places: dict[str, Place] = {}
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        for field in _fields(data, range(size)):
            if field.number != 1:
                continue
            found = _constant(data, _message(field))
            if found is None:
                continue
            name, place = found
            if name in places:
                raise Refusal(f"which names twice {shown(name)}")
            places[name] = place
    if not places:
        raise Refusal("which holds no constants")
    return places


# === The messages ===


def _constant(data: mmap.mmap, span: range) -> tuple[str, Place] | None:
    """Name and place of a node's tensor; None for what is no constant, or not read."""
    name = operation = ""
    attributes = []
    for field in _fields(data, span):
        if field.number == 1:
            name = _text(data, field)
        elif field.number == 2:
            operation = _text(data, field)
        elif field.number == 5:
            attributes.append(_message(field))
    if operation != "Const":
        return None
    for attribute in attributes:
        parts = {field.number: field for field in _fields(data, attribute)}
        if 1 in parts and 2 in parts and _text(data, parts[1]) == "value":
            for field in _fields(data, _message(parts[2])):
                if field.number == 8:
                    place = _tensor(data, _message(field), shown(name))
                    return None if place is None else (name, place)
    return None


def _tensor(data: mmap.mmap, span: range, name: str) -> Place | None:
    """Where the numbers of a tensor lie; None where they do not lie one by one."""
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    content, values = range(0), []
    for field in _fields(data, span):
        if field.number == 1:
            dtype = _DTYPES.get(_number(field))
        elif field.number == 2:
            shape = tuple(_sizes(data, _message(field)))
        elif field.number == 4:
            content = _message(field)
        elif field.number in _VALUES:
            values.append(field)
    if dtype is None:
        return None
    check_shape(name, shape, dtype)
    size, strides = math.prod(shape) * dtype.itemsize, contiguous(shape, dtype.itemsize)
    if content:
        if len(content) != size:
            raise Refusal(f"in which {name} has {len(content)} bytes, not those of {shape}, {dtype}")
        return Place(dtype, shape, strides, content.start)
    if len(values) != 1 or _VALUES[values[0].number] != dtype or values[0].kind == _VARINT:
        return None
    found = values[0].span
    if len(found) == dtype.itemsize:  # one for all
        return Place(dtype, shape, (0,) * len(shape), found.start)
    return Place(dtype, shape, strides, found.start) if len(found) == size else None


def _sizes(data: mmap.mmap, span: range) -> Iterator[int]:
    for field in _fields(data, span):
        if field.number == 2:
            sizes = [_number(part) for part in _fields(data, _message(field)) if part.number == 1]
            yield sizes[-1] if sizes else 0


# === The fields ===


class _Field(NamedTuple):
    number: int
    kind: int
    span: range  # its bytes
    value: int = 0  # of a varint


def _fields(data: mmap.mmap, span: range) -> Iterator[_Field]:
    """The fields of a message, all of which lie inside it."""
    at, stop = span.start, span.stop
    while at < stop:
        key, at = _varint(data, at, stop)
        number, kind, value = key >> 3, key & 7, 0
        start = at
        if kind == _VARINT:
            value, at = _varint(data, at, stop)
        elif kind == _BYTES:
            length, start = _varint(data, at, stop)
            at = start + length
        elif kind in _LENGTHS:
            at += _LENGTHS[kind]
        else:
            raise Refusal(_OTHER)
        if number == 0:
            raise Refusal(_OTHER)
        if at > stop:
            raise Refusal(_TRUNCATED)
        yield _Field(number, kind, range(start, at), value)


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    """A number of which each byte holds seven bits, the lowest first; and where the next byte is."""
    value = 0
    for index in range(10):
        if at >= stop:
            raise Refusal(_TRUNCATED)
        byte, at = data[at], at + 1
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at
    raise Refusal(_OTHER)


def _message(field: _Field) -> range:
    if field.kind != _BYTES:
        raise Refusal(_OTHER)
    return field.span


def _number(field: _Field) -> int:
    if field.kind != _VARINT:
        raise Refusal(_OTHER)
    return field.value


def _text(data: mmap.mmap, field: _Field) -> str:
    span = _message(field)
    if len(span) > _MAX_NAME:
        raise Refusal(f"in which a name has {len(span)} bytes")
    return data[span.start : span.stop].decode("utf-8")
