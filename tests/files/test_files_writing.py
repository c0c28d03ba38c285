"""Written files hold what was given, bit by bit, and are there whole or not at all."""

import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from keras_ldm.files import atomic_write, checkpoint_writing, read_tensors, write_ckpt, write_safetensors

VALUES = np.arange(6, dtype="float32").reshape(2, 3)
ARRAYS: dict[str, Any] = {
    "flags": np.array([True, False, True]),
    "double": VALUES.astype("float64") / 3,
    "single": VALUES / 3,
    "half": (VALUES / 3).astype("float16"),
    "brain": (VALUES / 3).astype(ml_dtypes.bfloat16),
    "i64": np.array([-(2**63), 2**63 - 1]),
    "i32": np.array([-5, 5], "int32"),
    "i16": np.array([-5, 5], "int16"),
    "i8": np.array([-5, 5, 6], "int8"),
    "u8": np.array([255], "uint8"),
    "scalar": np.float32(2.5),
    "empty": np.empty((0, 3), "float16"),
    "transposed": VALUES.T,
    "every second": np.arange(20, dtype="float32")[::2],
    "big-endian": np.arange(3, dtype=">i4"),
    "ünï.cödé\n'\"\\": np.array([np.nan, -0.0, np.inf], "float32"),
}
both = pytest.mark.parametrize("write", [write_safetensors, write_ckpt])


def little(array: Any) -> bytes:
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


@both
@pytest.mark.parametrize("form", [dict, lambda d: iter(d.items()), lambda d: list(d.items())])
def test_round_trip(tmp_path: Path, write: Callable[..., None], form: Callable[..., Any]) -> None:
    path = tmp_path / "new folder" / "a.bin"
    write(path, form(ARRAYS), {"made by": "ü"})
    with read_tensors(path) as tensors:
        assert list(tensors) == list(ARRAYS) and tensors.metadata == {"made by": "ü"}
        for name, array in ARRAYS.items():
            assert tensors[name].shape == np.shape(array)
            assert tensors[name].dtype == np.asarray(array).dtype.newbyteorder("<")
            assert tensors[name].tobytes() == little(array)
    again = tmp_path / "again"
    write(again, form(ARRAYS), {"made by": "ü"})
    assert again.read_bytes() == path.read_bytes()


def test_from_one_format_to_the_other(tmp_path: Path) -> None:
    write_ckpt(tmp_path / "a.ckpt", ARRAYS)
    with read_tensors(tmp_path / "a.ckpt") as tensors:
        write_safetensors(tmp_path / "a.safetensors", tensors)
    with read_tensors(tmp_path / "a.safetensors") as tensors:
        assert {n: a.tobytes() for n, a in tensors.items()} == {n: little(a) for n, a in ARRAYS.items()}


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    arrays = {name: array for name, array in ARRAYS.items() if name != "brain"}
    arrays |= {"u16": np.array([65535], "uint16"), "u32": np.array([7], "uint32")}
    arrays |= {"u64": np.array([2**64 - 1], "uint64")}
    write_safetensors(tmp_path / "a.safetensors", arrays, {"format": "pt"})
    found = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert {n: a.tobytes() for n, a in found.items()} == {n: little(a) for n, a in arrays.items()}
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("length", range(3))
def test_tensors_in_safetensors_are_aligned(tmp_path: Path, length: int) -> None:
    write_safetensors(tmp_path / "a.safetensors", ARRAYS, {"k": "v" * length})
    data = (tmp_path / "a.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert (8 + length) % 8 == 0
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    for name, entry in header.items():
        size = np.asarray(ARRAYS[name]).itemsize
        assert entry["data_offsets"][0] % size == 0


@pytest.mark.parametrize("large", [2**30, 10])
def test_storages_in_checkpoints_are_aligned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(checkpoint_writing, "_LARGE", large)
    write_ckpt(tmp_path / "a.ckpt", ARRAYS)
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
        names = {info.filename for info in infos}
    assert {"archive/data.pkl", "archive/version", "archive/byteorder", "archive/data/0"} <= names
    data = (tmp_path / "a.ckpt").read_bytes()
    for info in infos:
        lengths = struct.unpack_from("<HH", data, info.header_offset + 26)
        start = info.header_offset + 30 + sum(lengths)
        assert start % 64 == 0 and info.compress_type == zipfile.ZIP_STORED
    with read_tensors(tmp_path / "a.ckpt") as tensors:
        assert {n: a.tobytes() for n, a in tensors.items()} == {n: little(a) for n, a in ARRAYS.items()}


def test_metadata_of_a_checkpoint(tmp_path: Path) -> None:
    metadata = {"global_step": 2**40, "epoch": -1, "loss": 0.1, "done": False, "best": None, "v": "1.0"}
    write_ckpt(tmp_path / "a.ckpt", ARRAYS, metadata)
    with read_tensors(tmp_path / "a.ckpt") as tensors:
        assert tensors.metadata == metadata
        assert [type(v) for v in tensors.metadata.values()] == [type(v) for v in metadata.values()]


def test_what_the_formats_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for write in (write_safetensors, write_ckpt):
        with pytest.raises(ValueError, match="Expected tensors to write. Received: none"):
            write(path, {})
        with pytest.raises(TypeError, match="Expected strings as names. Received: 3"):
            write(path, {3: VALUES})
        with pytest.raises(ValueError, match="Expected each name once. Received: 'a' twice"):
            write(path, [("a", VALUES), ("a", VALUES)])
        for value in (np.array(["text"]), np.array([None]), np.array([1j]), np.zeros(2, "f4,f4")):
            with pytest.raises(
                ValueError, match=r"Expected one of .*float32.* for 'a'. Received: dtype"
            ):
                write(path, {"a": value})
    with pytest.raises(ValueError, match="for 'a'. Received: dtype uint16"):
        write_ckpt(path, {"a": np.zeros(2, "uint16")})
    with pytest.raises(ValueError, match="Received: '__metadata__'"):
        write_safetensors(path, {"__metadata__": VALUES})
    with pytest.raises(TypeError, match="as metadata"):
        write_safetensors(path, {"a": VALUES}, {"a": 1})  # type: ignore[dict-item]
    for metadata in ({"a": [1]}, {"a": np.float64(1)}, {1: 1}, {"state_dict": 1}):
        with pytest.raises(TypeError, match="as metadata"):
            write_ckpt(path, {"a": VALUES}, metadata)
    assert not list(tmp_path.iterdir())


# === Whole or not at all ===


def broken() -> Iterator[tuple[str, Any]]:
    yield "a", VALUES
    yield "b", VALUES
    raise RuntimeError("no more")


@both
@pytest.mark.parametrize("existing", [None, b"as it was"])
def test_after_an_error_nothing_has_changed(
    tmp_path: Path, write: Callable[..., None], existing: bytes | None
) -> None:
    path = tmp_path / "a"
    if existing is not None:
        path.write_bytes(existing)
    with pytest.raises(RuntimeError, match="no more"):
        write(path, broken())
    assert [p.name for p in tmp_path.iterdir()] == ([] if existing is None else ["a"])
    assert existing is None or path.read_bytes() == existing


@both
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_after_an_error_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None], function: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    (tmp_path / "a").write_bytes(b"as it was")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a", ARRAYS)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"as it was"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_write_removes_what_it_began(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        assert not (tmp_path / "a").exists() and len(list(tmp_path.iterdir())) == 1
        raise error
    assert not list(tmp_path.iterdir())


def test_atomic_write_flushes_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append(f"fsync {os.fstat(fd).st_size}"), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    with atomic_write(str(tmp_path / "a")) as file:
        file.write(b"whole")
    assert done == ["fsync 5", "replace"] and (tmp_path / "a").read_bytes() == b"whole"


def test_atomic_write_replaces(tmp_path: Path) -> None:
    path = tmp_path / ("long name " * 24)  # close to what a file system takes
    for data in (b"first", b"second"):
        with atomic_write(path) as file:
            file.write(data)
        assert path.read_bytes() == data and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_ckpt(tmp_path / "a", ARRAYS)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")]
    assert modes[0] == modes[1]


@both
def test_a_folder_of_that_name(tmp_path: Path, write: Callable[..., None]) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match="Expected the name of a file"):
        write(tmp_path / "a", ARRAYS)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
