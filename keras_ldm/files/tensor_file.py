"""An open file of tensors, read one at a time."""

from __future__ import annotations

import math
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from keras_ldm.files.refusal import Refusal, refusing, shown
from keras_ldm.types import Array

Scalar: TypeAlias = str | int | float | bool | None

_MAX_DIMENSIONS = 64  # NumPy's


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a tensor lie.

    Attributes:
        dtype: of the elements.
        shape: of the array.
        strides: bytes from one element to the next, along each axis.
        start: first byte, in the file or in the member.
        member: for a compressed member of a zip, its name.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    member: str | None = None

    @property
    def extent(self) -> int:
        """Bytes from the first to the end of the last element; 0 if there is none."""
        if 0 in self.shape:
            return 0
        steps = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        return steps + self.dtype.itemsize


def check_shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises Refusal where NumPy could not make such an array."""
    size = math.prod(max(n, 1) for n in shape[: _MAX_DIMENSIONS + 1]) * dtype.itemsize
    if len(shape) > _MAX_DIMENSIONS or size >= 2**63:
        raise Refusal(f"in which {name} has {len(shape)} dimensions of {size} bytes or more")


def contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The strides in bytes of an array in C order."""
    return tuple(itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))


class TensorFile(Mapping[str, Array]):
    """The tensors of an open file by name, in the file's order; `read_tensors` makes it.

    Names, shapes and dtypes are known at once. `file[name]` reads one tensor, through a map of the
    part of the file where it lies, into an array of its own; nothing else is held in memory.
    bfloat16 and float16 stay what they are: `ml_dtypes.bfloat16` casts with `astype`.

    It may be used from several threads. Close it, or use it in a `with` statement.

    Args:
        file: The open file, which is closed with it.
        path: Its name, for messages.
        places: Where each tensor lies.
        metadata: What the file says besides.
        archive: The file as a zip, where tensors are compressed in it.

    Attributes:
        metadata: for safetensors its `__metadata__`, strings by name; for a checkpoint the numbers
            and strings beside the `state_dict`, such as `global_step`.

    Example:
        ```python
        with read_tensors("model.safetensors") as tensors:
            for name in tensors:
                print(name, tensors.shape(name), tensors.dtype(name))
            kernel = tensors["conv_in.weight"].astype("float32")
        ```
    """

    def __init__(
        self,
        file: BinaryIO,
        path: str,
        places: Mapping[str, Place],
        metadata: Mapping[str, Scalar],
        archive: zipfile.ZipFile | None = None,
    ) -> None:
        self._file = file
        self._path = path
        self._places = dict(places)
        self._archive = archive
        self.metadata = dict(metadata)

    # === Without reading data ===

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._places[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """The dtype of a tensor."""
        return self._places[name].dtype

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __repr__(self) -> str:
        return f"TensorFile({self._path!r}, {len(self)} tensors)"

    # === Reading ===

    def __getitem__(self, name: str) -> Array:
        place = self._places[name]
        if self._file.closed:
            raise ValueError(f"Expected an open file. Received: {self._path!r}, which was closed")
        if not place.extent:
            return np.empty(place.shape, place.dtype)
        with refusing(f"tensor {shown(name)} in the file", self._path):
            if place.member is not None:
                return self._unpack(place)
            # Only a multiple of the granularity can be mapped; `ahead` bytes lie before the tensor.
            ahead = place.start % mmap.ALLOCATIONGRANULARITY
            begin, length = place.start - ahead, ahead + place.extent
            with mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=begin) as mapped:
                return _copy(place, mapped, ahead)

    def _unpack(self, place: Place) -> Array:
        if self._archive is None or place.member is None:
            raise Refusal("which is not an archive")
        size = self._archive.getinfo(place.member).file_size
        with self._archive.open(place.member) as member:
            data = member.read(size)  # without a number it would unpack more before it cuts
        if len(data) < place.start + place.extent:
            raise Refusal(f"in which {shown(place.member)} is truncated")
        return _copy(place, data, place.start)

    # === Closing ===

    def close(self) -> None:
        """Closes the file; arrays that were read stay."""
        self._file.close()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _copy(place: Place, buffer: bytes | mmap.mmap, offset: int) -> Array:
    return np.ndarray(place.shape, place.dtype, buffer, offset, place.strides).copy()
