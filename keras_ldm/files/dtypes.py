"""The dtypes that tensors in files have, and what each format calls them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

# name in NumPy and PyTorch, code in safetensors, storage class in PyTorch
_TABLE = (
    ("float64", np.float64, "F64", "DoubleStorage"),
    ("float32", np.float32, "F32", "FloatStorage"),
    ("float16", np.float16, "F16", "HalfStorage"),
    ("bfloat16", ml_dtypes.bfloat16, "BF16", "BFloat16Storage"),
    ("float8_e4m3fn", ml_dtypes.float8_e4m3fn, "F8_E4M3", None),
    ("float8_e5m2", ml_dtypes.float8_e5m2, "F8_E5M2", None),
    ("int64", np.int64, "I64", "LongStorage"),
    ("int32", np.int32, "I32", "IntStorage"),
    ("int16", np.int16, "I16", "ShortStorage"),
    ("int8", np.int8, "I8", "CharStorage"),
    ("uint64", np.uint64, "U64", None),
    ("uint32", np.uint32, "U32", None),
    ("uint16", np.uint16, "U16", None),
    ("uint8", np.uint8, "U8", "ByteStorage"),
    ("bool", np.bool_, "BOOL", "BoolStorage"),
)

BY_SAFETENSORS: dict[str, np.dtype[Any]] = {code: np.dtype(kind) for _, kind, code, _ in _TABLE}
BY_TORCH: dict[str, np.dtype[Any]] = {f"torch.{name}": np.dtype(kind) for name, kind, _, _ in _TABLE}
BY_STORAGE: dict[str, np.dtype[Any]] = {
    f"torch.{storage}": np.dtype(kind) for _, kind, _, storage in _TABLE if storage
} | {f"torch.{name}": np.dtype(np.uint8) for name in ("UntypedStorage", "storage.UntypedStorage")}

TO_SAFETENSORS: dict[np.dtype[Any], str] = {dtype: code for code, dtype in BY_SAFETENSORS.items()}
TO_STORAGE: dict[np.dtype[Any], str] = {np.dtype(kind): s for _, kind, _, s in _TABLE if s}
