"""What both formats need of the tensors that they write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from keras_ldm.types import Array

Tensors: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]]


def checked(tensors: Tensors, dtypes: Collection[np.dtype[Any]]) -> Iterator[tuple[str, Array]]:
    """Gives name and array, one by one: in C order, little-endian.

    Args:
        tensors: Arrays by name, or pairs of both.
        dtypes: Those that the format has.

    Raises:
        TypeError: A name is no string.
        ValueError: There are no tensors, a name comes twice, or a dtype is none of those.
    """
    names: set[str] = set()
    for name, value in tensors.items() if isinstance(tensors, Mapping) else tensors:
        if not isinstance(name, str):
            raise TypeError(f"Expected strings as names. Received: {name!r}")
        if name in names:
            raise ValueError(f"Expected each name once. Received: {name!r} twice")
        array = np.asarray(value, order="C")
        dtype = array.dtype.newbyteorder("<")
        if dtype not in dtypes:
            known = ", ".join(sorted(str(known) for known in dtypes))
            raise ValueError(f"Expected one of {known} for {name!r}. Received: dtype {array.dtype}")
        names.add(name)
        yield name, array.astype(dtype, copy=False)
    if not names:
        raise ValueError("Expected tensors to write. Received: none")


def raw(array: Array) -> memoryview:
    """The bytes of an array in C order, without a copy."""
    return array.reshape(-1).view(np.uint8).data
