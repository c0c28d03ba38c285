"""What becomes of memory that TensorFlow has freed, on its CPU under glibc."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from keras_ldm.backend.compilation import is_tensorflow_on_cpu

_MALLOPT = {
    "M_MMAP_THRESHOLD": (-3, 1 << 30),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_TOP_PAD": (-2, 64 << 20),
}


def keep_freed_memory() -> None:
    """Tells the C library to keep freed memory for the next step.

    By default it gives the memory of large tensors back to the system and asks for it anew at each
    step, page by page: up to a sixth of a step's time. The process stays as large as it once was, but
    for `release_after_first_call`. Once more changes nothing, but brings it back after TensorFlow's
    generator dataset, which sets `M_TRIM_THRESHOLD` to 128 kB.
    """
    mallopt = _from_c_library("mallopt")
    if mallopt is not None:
        for parameter, value in _MALLOPT.values():
            mallopt(parameter, value)


def release_after_first_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose first call gives the system what it has freed.

    The first step of a training is traced and optimized, which takes memory that no later step needs.

    Args:
        function: what is compiled when it is first called.

    Returns:
        The function, or what calls it.
    """
    trim = _from_c_library("malloc_trim")
    if trim is None:
        return function
    first = True

    def call(*args: Any) -> Any:
        nonlocal first
        result = function(*args)
        if first:
            first = False
            trim(0)
        return result

    return call


def _from_c_library(name: str) -> Callable[..., int] | None:
    if not is_tensorflow_on_cpu() or not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
