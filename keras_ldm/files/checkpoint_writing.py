"""Writes checkpoints that `torch.load` opens."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

from keras_ldm.files.atomic import atomic_write
from keras_ldm.files.dtypes import TO_STORAGE
from keras_ldm.files.tensor_file import Scalar, contiguous
from keras_ldm.files.tensor_writing import Tensors, checked, raw
from keras_ldm.types import Array

_FOLDER = "archive"
_ALIGNMENT = 64
_LARGE = 2**30  # members that might need sizes of 64 bits


def write_ckpt(
    path: str | os.PathLike[str], state_dict: Tensors, metadata: Mapping[str, Scalar] | None = None
) -> None:
    """Writes tensors to a checkpoint, whole or not at all: see `atomic_write`.

    `torch.load(path, weights_only=True)["state_dict"]` gives the same tensors by name. One tensor is
    in memory at a time, if `state_dict` makes them one at a time. The same tensors give the same bytes.

    Args:
        path: The file; one of that name is replaced.
        state_dict: Arrays by name, or an iterable of pairs of name and array. Floats of 64, 32 and 16
            bits, bfloat16, signed integers, uint8 and bool.
        metadata: Numbers and strings to stand beside the `state_dict`, such as `global_step`.

    Raises:
        TypeError: A name is no string, or something in `metadata` is neither number nor string.
        ValueError: There are no tensors, a name comes twice, or a dtype is not one of those.

    Example:
        ```python
        write_ckpt("model.ckpt", {"weight": np.ones((2, 3), "float32")}, {"global_step": 1000})
        ```
    """
    metadata = dict(metadata or {})
    for name, value in metadata.items():
        known = value is None or type(value) in (str, int, float, bool)
        if not isinstance(name, str) or name == "state_dict" or not known:
            raise TypeError(f"Expected numbers and strings by name as metadata. Received: {metadata!r}")
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        entries = bytearray()
        for index, (name, array) in enumerate(checked(state_dict, TO_STORAGE)):
            _add(archive, file, f"data/{index}", raw(array))
            entries += _plain(name) + _tensor(str(index), array)
        beside = b"".join(_plain(name) + _plain(value) for name, value in metadata.items())
        pickled = b"\x80\x02}(" + _plain("state_dict") + b"}(" + entries + b"u" + beside + b"u."
        _add(archive, file, "data.pkl", memoryview(pickled))
        _add(archive, file, "byteorder", memoryview(b"little"))
        _add(archive, file, "version", memoryview(b"3\n"))


# === The archive ===


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: memoryview) -> None:
    """Adds a member whose bytes begin at a multiple of 64, as torch has them."""
    info = zipfile.ZipInfo(f"{_FOLDER}/{name}")
    info.file_size = data.nbytes
    large = data.nbytes > _LARGE
    # As torch does, an extra field named FB fills the gap. Before its bytes there are the member's
    # header and name, the field's own head, and behind them the sizes of a large member.
    start = file.tell() + 30 + len(info.filename) + 4 + (20 if large else 0)
    gap = -start % _ALIGNMENT
    info.extra = b"FB" + gap.to_bytes(2, "little") + b"Z" * gap
    with archive.open(info, "w", force_zip64=large) as member:
        member.write(data)


# === The pickle, protocol 2 ===


def _plain(value: Scalar | tuple[int, ...]) -> bytes:
    """The opcodes that make a value: its own pickle, without what begins and ends it."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.fast = True  # no memo, of which each such piece would have its own
    pickler.dump(value)
    return buffer.getvalue()[2:-1]


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _tensor(key: str, array: Array) -> bytes:
    """A call of `torch._utils._rebuild_tensor_v2`; what it takes is spelled out in PyTorch."""
    storage = (
        b"("
        + _plain("storage")
        + _global("torch", TO_STORAGE[array.dtype])
        + _plain(key)
        + _plain("cpu")
        + _plain(array.size)
        + b"tQ"  # a tuple, and the storage that it names
    )
    no_hooks = _global("collections", "OrderedDict") + b")R"
    return (
        _global("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage
        + _plain(0)  # offset
        + _plain(array.shape)
        + _plain(contiguous(array.shape, 1))
        + _plain(False)  # requires_grad
        + no_hooks
        + b"tR"
    )
