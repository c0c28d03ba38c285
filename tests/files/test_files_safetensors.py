"""safetensors: files of the library, files written by hand, and files that break the format."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from keras_ldm.files import read_tensors
from tests.files.handmade import floats, opened, refused
from tests.files.handmade import safetensors as written

VALUES = np.arange(6, dtype="float32").reshape(2, 3)
CODES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def entry(shape: object = (2, 3), offsets: object = (0, 24), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_dtypes_and_bits(tmp_path: Path, code: str, before: int) -> None:
    """Also where a tensor does not begin at a multiple of its element's size."""
    values = (np.arange(6) - 2 if code[0] in "FI" else np.arange(6)).reshape(3, 2).astype(CODES[code])
    end = before + values.nbytes
    header = {
        "ahead": entry([before], [0, before], "U8"),
        "w": entry([3, 2], [before, end], code),
        "after": entry([], [end, end + 4]),
    }
    data = b"\7" * before + values.tobytes() + floats(2)[4:]
    with opened(written(tmp_path / "a.bin", header, data)) as tensors:
        assert list(tensors) == ["ahead", "w", "after"]
        assert tensors.shape("w") == (3, 2) and tensors.dtype("w") == values.dtype
        assert tensors["w"].dtype == values.dtype and tensors["w"].tobytes() == values.tobytes()
        assert tensors["w"].shape == (3, 2) and tensors["w"].flags.aligned
        assert tensors["after"].shape == () and tensors["after"] == 1
        assert tensors["ahead"].tolist() == [7] * before
        assert tensors.metadata == {}


def test_files_of_the_library(tmp_path: Path) -> None:
    arrays = {
        "b": VALUES,
        "a": VALUES.astype("float16"),
        "empty": np.empty((0, 3), "float32"),
        "scalar": np.array(3, "int64"),
        "flags": np.array([True, False, True]),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", {"format": "np", "ü": "ö"})
    with opened(tmp_path / "a.safetensors") as tensors:
        assert set(tensors) == set(arrays) and tensors.metadata == {"format": "np", "ü": "ö"}
        for name, array in arrays.items():
            assert tensors[name].dtype == array.dtype and tensors[name].shape == array.shape
            np.testing.assert_array_equal(tensors[name], array)


def test_order_is_that_of_the_header_not_of_the_data(tmp_path: Path) -> None:
    header = {
        "b": entry([1], [8, 12]),
        "none": entry([0], [8, 8]),
        "__metadata__": {"k": "v"},
        "a": entry([2], [0, 8]),
    }
    with opened(written(tmp_path / "a", header, floats(3))) as tensors:
        assert list(tensors) == ["b", "none", "a"] and tensors.metadata == {"k": "v"}
        assert [tensors[name].tolist() for name in tensors] == [[2], [], [0, 1]]


def test_header_padded_with_blanks(tmp_path: Path) -> None:
    header = json.dumps({"w": entry()}).encode() + b" " * 77
    with opened(written(tmp_path / "a", header, floats())) as tensors:
        np.testing.assert_array_equal(tensors["w"], VALUES)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({}, "no tensors"),
        ({"__metadata__": {"a": "b"}}, "no tensors"),
        ({"__metadata__": {"a": 1}, "w": entry()}, "__metadata__"),
        ({"__metadata__": "a", "w": entry()}, "__metadata__"),
        ({"w": 3}, "'w' is not described"),
        ({"w": {"dtype": "F32", "shape": [2, 3]}}, "'w' is not described"),
        ({"w": entry() | {"more": 1}}, "'w' is not described"),
        ({"w": entry(dtype="F4")}, "'w' has the dtype 'F4'"),
        ({"w": entry(dtype=["F32"])}, "'w' has a wrong dtype"),
        ({"w": entry([2, -3])}, "wrong dtype, shape"),
        ({"w": entry([2, 3.0])}, "wrong dtype, shape"),
        ({"w": entry([6, True])}, "wrong dtype, shape"),
        ({"w": entry([2**63])}, "wrong dtype, shape"),
        ({"w": entry("23")}, "wrong dtype, shape"),
        ({"w": entry(offsets=[0])}, "wrong dtype, shape"),
        ({"w": entry(offsets=[0, 24, 24])}, "wrong dtype, shape"),
        ({"w": entry(offsets=[-24, 0])}, "wrong dtype, shape"),
        ({"w": entry(offsets=[0, "24"])}, "wrong dtype, shape"),
        ({"w": entry([1] * 65, [0, 4])}, "dimensions"),
        ({"w": entry([0, 2**62, 2**62], [0, 0])}, "dimensions"),
        ({"w": entry([2, 2])}, "'w' has 24 bytes, not those"),
        ({"w": entry(offsets=[24, 0])}, "'w' has -24 bytes"),
        ({"w": entry(dtype="F16")}, "'w' has 24 bytes, not those"),
        ({"w": entry([7], [0, 28])}, "truncated"),
        ({"w": entry([2**40], [0, 2**42])}, "truncated"),
        ({"w": entry([5], [0, 20])}, "4 bytes follow"),
        ({"w": entry([5], [4, 24])}, "'w' begins at byte"),
        ({"v": entry([2], [0, 8]), "w": entry([3], [12, 24])}, "'w' begins at byte"),
        ({"v": entry([4], [0, 16]), "w": entry([3], [12, 24])}, "'w' begins at byte"),
        ({"v": entry(), "w": entry()}, "'w' begins at byte"),
        ({"v": entry([0], [4, 4]), "w": entry()}, "begins at byte"),
    ],
)
def test_headers_that_break_the_format(tmp_path: Path, header: dict, reason: str) -> None:
    refused(written(tmp_path / "a.safetensors", header, floats()), reason)


ENTRY = json.dumps(entry())


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (f'{{"w": {ENTRY}, "w": {ENTRY}}}', "twice 'w'"),
        (f'{{"w": {ENTRY}, "__metadata__": {{"a": "1", "a": "2"}}}}', "twice 'a'"),
        ('{"w": {"dtype": "F32", "dtype": "F16"}}', "twice 'dtype'"),
        ('{"w": NaN}', "NaN"),
        ('{"w": -Infinity}', "-Infinity"),
        ('{"w": ' + "9" * 5000 + "}", "damaged"),
        ("{" + '"a":{' * 100_000 + "}" * 100_001, "damaged"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "damaged"),
        ('{"w": }', "damaged (JSONDecodeError"),
        ('{"w": {}} x', "damaged (JSONDecodeError"),
        ("{", "damaged (JSONDecodeError"),
        (b'{"w\xff": 1}', "damaged (UnicodeDecodeError"),
        ('{"w": 1}'.encode("utf-16-le").replace(b"{", b"{", 1), "damaged"),
    ],
)
def test_headers_that_are_no_json(tmp_path: Path, header: str | bytes, reason: str) -> None:
    data = header if isinstance(header, bytes) else header.encode()
    refused(written(tmp_path / "a.safetensors", data, floats()), reason)


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (100_000_001, "header would have 100000001 bytes"),
        (2**64 - 1, "header would have 18446744073709551615 bytes"),
        (100_000_000, "truncated"),
        (200, "truncated"),
    ],
)
def test_length_of_the_header(tmp_path: Path, length: int, reason: str) -> None:
    refused(written(tmp_path / "a.safetensors", {"w": entry()}, floats(), length=length), reason)


@pytest.mark.parametrize("low", [0x80, 0xFF, 0x1F, 0x89, ord("<"), ord("P"), ord("G")])
def test_a_length_that_looks_like_another_kind_of_file(tmp_path: Path, low: int) -> None:
    header = json.dumps({"w": entry()}).encode()
    with opened(written(tmp_path / "a", header.ljust(256 + low), floats())) as tensors:
        np.testing.assert_array_equal(tensors["w"], VALUES)


@pytest.mark.parametrize("keep", [9, 40, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, keep: float) -> None:
    data = written(tmp_path / "a", {"w": entry([1000], [0, 4000])}, floats(1000)).read_bytes()
    path = tmp_path / "b.safetensors"
    path.write_bytes(data[: int(keep if keep > 1 else len(data) * keep)])
    refused(path, "truncated")


def test_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    path = written(tmp_path / "a", {"w": entry()}, floats())
    with read_tensors(path) as tensors:
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match="tensor 'w'"):
            tensors["w"]
