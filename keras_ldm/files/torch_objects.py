"""What torch's functions would rebuild from a pickle: tensors, described but not read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from keras_ldm.files.dtypes import BY_STORAGE, BY_TORCH
from keras_ldm.files.inert_values import Global, Inert, PickledDict, kind
from keras_ldm.files.refusal import Refusal, shown
from keras_ldm.files.tensor_file import Place, Scalar, check_shape

# A tensor may repeat its storage (`expand`) up to that many bytes; more would be a trap.
_MAX_REPEATED = 2**26


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of elements in the file."""

    key: str
    dtype: np.dtype[Any]
    nbytes: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A view of a storage; offset and strides in bytes."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def place(self, start: int, member: str | None = None) -> Place:
        """Where it lies, if its storage lies at `start`."""
        return Place(self.dtype, self.shape, self.strides, start + self.offset, member)


def storage_of(persistent_id: object) -> Storage:
    """Reads `("storage", class, key, device, elements)`, as torch names a storage.

    Raises:
        Refusal: It is something else.
    """
    # The legacy format has a sixth entry, for views as they were before PyTorch 0.4.
    match persistent_id:
        case ("storage", Global(name=name), str(key), _, int(numel), *view) if view in ([], [None]):
            dtype = BY_STORAGE.get(name)
            if dtype is None:
                raise Refusal(f"which has a storage of the kind {shown(name)}")
            return Storage(key, dtype, _whole(numel) * dtype.itemsize)
    raise Refusal("which has a persistent id that names no storage")


# === Functions that a pickle calls ===


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise Refusal("in which a size, stride or offset is negative, too large or no number")
    return value


def _is_sizes(values: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(values, tuple) and len(values) <= 64


def _rebuild(storage: object, offset: object, size: object, stride: object, dtype: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise Refusal(f"in which a tensor has {kind(storage)} for its storage")
    if not _is_sizes(size) or not _is_sizes(stride) or len(size) != len(stride):
        raise Refusal("in which a tensor has a size and a stride that do not fit each other")
    shape, steps = tuple(map(_whole, size)), tuple(map(_whole, stride))
    start, count = _whole(offset), math.prod(shape)
    check_shape("a tensor", shape, dtype)
    if count:
        end = start + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + 1
        if end * dtype.itemsize > storage.nbytes:
            raise Refusal(
                f"in which a tensor reaches to element {end} of a storage "
                f"of {storage.nbytes // dtype.itemsize}"
            )
        if count * dtype.itemsize > max(storage.nbytes, _MAX_REPEATED):
            raise Refusal(f"in which a tensor of {count} elements repeats {storage.nbytes} bytes")
    strides = tuple(step * dtype.itemsize for step in steps) if count else (0,) * len(shape)
    return StoredTensor(storage, dtype, start * dtype.itemsize, shape, strides)


def _tensor(*arguments: object) -> StoredTensor:
    storage, offset, size, stride, *more = arguments
    if len(more) > 2:
        _no_metadata(more[2])
    dtype = storage.dtype if isinstance(storage, Storage) else None
    return _rebuild(storage, offset, size, stride, dtype)


def _tensor_with_dtype(*arguments: object) -> StoredTensor:
    storage, offset, size, stride, _, _, named, *more = arguments
    if more:
        _no_metadata(more[0])
    dtype = BY_TORCH.get(named.name) if isinstance(named, Global) else None
    if dtype is None:
        raise Refusal(f"in which a tensor has {kind(named)} for its dtype")
    return _rebuild(storage, offset, size, stride, dtype)


def _no_metadata(metadata: object) -> None:
    if metadata is not None and not (isinstance(metadata, PickledDict) and not metadata.pairs):
        raise Refusal("in which a tensor is negated or conjugated when it is read")


def _parameter(*arguments: object) -> object:
    data, *_ = arguments
    if not isinstance(data, StoredTensor | Inert):
        raise Refusal(f"in which a parameter has {kind(data)} for its data")
    return data


def _size(*arguments: object) -> object:
    (sizes,) = arguments
    if not isinstance(sizes, tuple | list):
        raise Refusal(f"in which torch.Size is made of {kind(sizes)}")
    return tuple(sizes)


def _ordered_dict(*arguments: object) -> PickledDict:
    pairs = arguments[0] if arguments else []  # Python 2 gives the pairs as an argument
    if len(arguments) > 1 or not isinstance(pairs, list):
        raise Refusal("in which an OrderedDict is made of something else than pairs")
    made = PickledDict()
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Refusal("in which an OrderedDict is made of something else than pairs")
        made.pairs.append((pair[0], pair[1]))
    return made


REBUILT: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}

# === The state_dict ===


def state_dict_of(value: object) -> tuple[dict[str, StoredTensor], dict[str, Scalar]]:
    """Finds the tensors of a checkpoint, and the numbers and strings beside them.

    Args:
        value: What the checkpoint's pickle gives.

    Raises:
        Refusal: There are none, or something else stands among them.
    """
    if not isinstance(value, PickledDict):
        raise Refusal(f"which holds {kind(value)}, not a dictionary of tensors")
    named = [(name, entry) for name, entry in value.pairs if isinstance(name, str)]
    found = [entry for name, entry in named if name == "state_dict"]
    if not found or isinstance(found[-1], StoredTensor):
        return _tensors(value), {}
    if not isinstance(found[-1], PickledDict):
        raise Refusal(f"in which 'state_dict' is {kind(found[-1])}, not a dictionary of tensors")
    scalars = {n: v for n, v in named if v is None or isinstance(v, str | int | float)}
    return _tensors(found[-1]), scalars


def _tensors(state_dict: PickledDict) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    wrong: list[str] = []
    for name, value in state_dict.pairs:
        if not isinstance(name, str):
            raise Refusal(f"in which a tensor's name is {kind(name)}")
        if name in tensors:
            raise Refusal(f"which names twice {shown(name)}")
        if isinstance(value, StoredTensor):
            tensors[name] = value
        else:
            wrong.append(f"{shown(name)} is {kind(value)}")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise Refusal(f"in which not all are tensors: {', '.join(wrong[:5])}{more}")
    if not tensors:
        raise Refusal("which holds no tensors")
    return tensors
