"""Constants of a TensorFlow graph, from files written byte by byte."""

import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from keras_ldm.files.graph_def import read_graph_def
from tests.files.handmade import watching

FLOAT, DOUBLE, INT32, STRING, BFLOAT16 = 1, 2, 3, 7, 14


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(dtype: int, sizes: tuple[int, ...], data: bytes) -> bytes:
    dims = b"".join(block(2, number(1, size % 2**64)) for size in sizes)
    return number(1, dtype) + block(2, dims) + data


def node(name: str, value: bytes, operation: str = "Const", key: str = "value") -> bytes:
    dtype = block(5, block(1, b"dtype") + block(2, number(6, 1)))
    attribute = block(5, block(1, key.encode()) + block(2, block(8, value)))
    return block(1, block(1, name.encode()) + block(2, operation.encode()) + dtype + attribute)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


GOOD = node("w", tensor(FLOAT, (2, 3), block(4, floats(*range(6)))))


def written(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "graph.pb"


def refused(path: Path, reason: str) -> None:
    with watching() as ran, pytest.raises(ValueError, match=reason) as caught:
        read_graph_def(path).close()
    assert ran == [] and repr(str(path)) in str(caught.value)
    assert str(caught.value).startswith("Expected a graph of TensorFlow")


def test_constants_in_every_way_that_is_read(path) -> None:
    parts = (
        GOOD,
        node("packed", tensor(FLOAT, (2, 2), block(5, floats(1, 2, 3, 4)))),
        node("one for all", tensor(FLOAT, (3, 2), block(5, floats(7)))),
        node("unpacked", tensor(FLOAT, (2,), varint(5 << 3 | 5) + floats(8))),
        node("scalar", tensor(FLOAT, (), block(5, floats(9)))),
        node("double", tensor(DOUBLE, (2,), block(6, struct.pack("<2d", 0.1, 0.2)))),
        node("integers", tensor(INT32, (3,), block(4, struct.pack("<3i", 1, -2, 3)))),
        node("brain", tensor(BFLOAT16, (2,), block(4, np.array([1, 2], ml_dtypes.bfloat16).tobytes()))),
        block(4, number(1, 21)),  # the versions
        number(3, 5) + varint(9 << 3 | 1) + bytes(8) + varint(10 << 3 | 5) + bytes(4),
    )
    with watching() as ran, read_graph_def(written(path, *parts)) as file:
        found = {name: file[name] for name in file}
        assert file.shape("w") == (2, 3) and file.dtype("w") == np.float32
    assert ran == []
    expected = {
        "w": np.arange(6, dtype="float32").reshape(2, 3),
        "packed": np.array([[1, 2], [3, 4]], "float32"),
        "one for all": np.full((3, 2), 7, "float32"),
        "unpacked": np.array([8, 8], "float32"),
        "scalar": np.array(9, "float32"),
        "double": np.array([0.1, 0.2]),
        "integers": np.array([1, -2, 3], "int32"),
        "brain": np.array([1, 2], ml_dtypes.bfloat16),
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_what_is_no_constant_is_left_out(path) -> None:
    others = (
        node("image", tensor(STRING, (), block(8, b"\xff\xd8\xff" * 3000))),
        node("variable", tensor(FLOAT, (1,), block(4, floats(1))), operation="VariableV2"),
        node("other key", tensor(FLOAT, (1,), block(4, floats(1))), key="default"),
        node("small integers", tensor(INT32, (2,), block(7, b"\x01\x02"))),
        node("some for all", tensor(FLOAT, (3,), block(5, floats(1, 2)))),
        node("of another dtype", tensor(DOUBLE, (2,), block(5, floats(1, 2)))),
        node("no values", tensor(FLOAT, (3,), b"")),
        block(1, block(1, b"placeholder") + block(2, b"Placeholder") + block(3, b"w")),
        block(2, block(1, b"a library of functions")),
    )
    with read_graph_def(written(path, *others, GOOD)) as file:
        assert list(file) == ["w"]
    refused(written(path, *others), "which holds no constants")


def test_a_tensor_is_read_when_it_is_asked_for(path) -> None:
    """From the file: what was written there since is found."""
    with read_graph_def(written(path, GOOD)) as file:
        data = path.read_bytes()
        with open(path, "r+b") as other:
            other.seek(data.index(floats(*range(6))))
            other.write(floats(5))
        assert file["w"][0, 0] == 5.0
    with pytest.raises(ValueError, match="an open file"):
        file["w"]


def test_every_cut_is_noticed(path) -> None:
    whole = GOOD + node("v", tensor(FLOAT, (1,), block(4, floats(1))))
    for size in range(1, len(whole)):
        written(path, whole[:size])
        if size == len(GOOD):  # between two nodes
            with read_graph_def(path) as file:
                assert list(file) == ["w"]
        else:
            refused(path, "truncated|damaged")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "which is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "another kind of file"),
        (b"PK\x03\x04" + bytes(64), "another kind of file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "another kind of file"),
        (number(1, 1) + block(2, b"a saved model"), "another kind of file"),
        (varint(1 << 3 | 3) + GOOD, "another kind of file"),  # a group
        (block(0, b"x") + GOOD, "another kind of file"),  # field 0 is none
        (b"\xff" * 11, "another kind of file"),  # a number without end
        (varint(1 << 3 | 2) + varint(2**60) + GOOD, "truncated"),
        (GOOD + GOOD, "names twice 'w'"),
        (node("w", tensor(FLOAT, (2, 2), block(4, floats(1, 2, 3)))), "'w' has 12 bytes"),
        (node("w", tensor(FLOAT, (2**40, 2**40), block(4, floats(1)))), "dimensions"),
        (node("w", tensor(FLOAT, (-1,), block(4, floats(1)))), "dimensions"),
        (node("w", tensor(FLOAT, (1,) * 65, block(4, floats(1)))), "65 dimensions"),
        (node("w", block(1, b"float")), "another kind of file"),  # a dtype that is no number
        (node("n" * 5000, tensor(FLOAT, (1,), block(4, floats(1)))), "a name has 5000 bytes"),
        (block(1, block(1, b"\xff\xfe") + block(2, b"Const")), "damaged"),
    ],
)
def test_files_that_are_refused(path, data, reason) -> None:
    refused(written(path, data), reason)


def test_a_varint_is_no_float(path) -> None:
    """Four bytes long, where four bytes of a float could be."""
    value = tensor(FLOAT, (1,), number(5, 2**27))
    with read_graph_def(written(path, node("odd", value), GOOD)) as file:
        assert list(file) == ["w"]


def test_files_that_are_not_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.pb', which does not exist"):
        read_graph_def(tmp_path / "nothing.pb")
    refused(tmp_path, "which is a folder")


def test_changed_bytes_are_read_or_refused(path) -> None:
    whole = np.frombuffer(GOOD + node("v", tensor(DOUBLE, (2, 1), block(6, bytes(16)))), np.uint8)
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(300):
        data = whole.copy()
        places = rng.integers(0, len(data), rng.integers(1, 4))
        data[places] = rng.integers(0, 256, len(places))
        try:
            with read_graph_def(written(path, data.tobytes())) as file:
                assert all(file[name].shape == file.shape(name) for name in file)
        except ValueError as error:
            refusals += "Received: " in str(error)
    assert 100 < refusals < 300
