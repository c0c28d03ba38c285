"""Reads the pickles of NumPy arrays that some packages bring their weights in."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np

from keras_ldm.files.refusal import Refusal, refusing

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise Refusal(f"which names {module}.{name}: only NumPy arrays are read")
        if name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        return getattr(np, name)


def read_numpy_pickle(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a pickle of nested dictionaries of arrays; nothing else that it names is looked up.

    Args:
        path: The file.

    Returns:
        The arrays, by their keys joined with "/".

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is something else, or damaged.
    """
    expected, name = "a pickle of NumPy arrays", os.fspath(path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"Expected {expected}. Received: {name!r}, which does not exist")
    with refusing(expected, name), open(name, "rb") as file:
        try:
            value = _Unpickler(file).load()
        except pickle.UnpicklingError as error:
            raise Refusal(f"which is no pickle ({error})") from error
        arrays: dict[str, np.ndarray] = {}
        _flatten(value, "", arrays)
        return arrays


def _flatten(value: Any, name: str, into: dict[str, np.ndarray]) -> None:
    if isinstance(value, dict):
        for key, inside in value.items():
            _flatten(inside, f"{name}/{key}" if name else str(key), into)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        into[name] = value
    else:
        raise Refusal(f"in which {name!r} is a {type(value).__name__}")
