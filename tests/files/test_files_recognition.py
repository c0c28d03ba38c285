"""What a file is shows in its content; what it is not is said."""

import ast
import gzip
import io
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_ldm.files
from keras_ldm.files import read_tensors
from tests.files.handmade import GOOD, dictionary, legacy, refused, safetensors, zipped

PACKAGE = Path(keras_ldm.files.__file__).parent


def test_imports_no_framework() -> None:
    allowed = {"numpy", "ml_dtypes", "keras_ldm.types", *sys.stdlib_module_names}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.startswith("keras_ldm.files")
                assert ours or name in allowed or name.partition(".")[0] in allowed, (path.name, name)


def test_works_where_there_is_no_framework(tmp_path: Path) -> None:
    """Imported by itself, as a subpackage of nothing, it brings in no framework."""
    path = zipped(tmp_path / "a.ckpt", dictionary({"w": GOOD}))
    code = f"""
import sys, types
package = types.ModuleType("keras_ldm")
package.__path__ = [{str(PACKAGE.parent)!r}]
sys.modules["keras_ldm"] = package
for name in ("torch", "tensorflow", "jax", "keras"):
    sys.modules[name] = None
from keras_ldm.files import read_tensors, write_ckpt, write_safetensors
with read_tensors({str(path)!r}) as tensors:
    write_ckpt({str(tmp_path / "b.ckpt")!r}, tensors)
    write_safetensors({str(tmp_path / "b.safetensors")!r}, tensors)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    for name in ("b.ckpt", "b.safetensors"):
        with read_tensors(tmp_path / name) as tensors:
            assert tensors["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors", "a", "a.zip", "ä ö.bin"])
def test_the_ending_does_not_matter(tmp_path: Path, name: str) -> None:
    header = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    for write in (
        lambda path: zipped(path, dictionary({"w": GOOD})),
        lambda path: legacy(path, dictionary({"w": GOOD})),
        lambda path: safetensors(path, header, b"\0\0\0\0"),
    ):
        path = write(tmp_path / name)
        for given in (path, str(path)):
            with read_tensors(given) as tensors:
                assert list(tensors) == ["w"]


def picture(kind: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, kind)
    return data.getvalue()


def array() -> bytes:
    data = io.BytesIO()
    np.save(data, np.arange(3))
    return data.getvalue()


OTHERS = {
    "empty": (b"", "which is empty"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "Git LFS pointer: the weights themselves were not downloaded",
    ),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page"),
    "small page": (b"<html>404</html>", "a web page"),
    "text": ("Zürich, just notes.\n".encode(), "a text file"),
    "long text": ("ü".encode() * 300, "a text file"),
    "json": (b'{"epoch": 3, "list": [1, 2, 3]}', "a text file"),
    "png": (picture("PNG"), "a picture (PNG)"),
    "jpeg": (picture("JPEG"), "a picture (JPEG)"),
    "gif": (picture("GIF"), "a picture (GIF)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "numpy": (array(), "array of NumPy"),
    "gguf": (b"GGUF\x03\0\0\0", "GGUF"),
    "gzip": (gzip.compress(b"x" * 100), "gzip"),
    "zip of nothing": (b"PK\x05\x06" + bytes(18), "empty zip"),
    "pickle": (pickle.dumps({"a": 1}), "a bare pickle"),
    "zip head alone": (b"PK\x03\x04" + bytes(40), "damaged"),
    "legacy head alone": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "damaged"),
    "zeros": (bytes(100), "another kind of file"),
    "noise": (bytes(range(256)), "another kind of file"),
    "short": (b"\x08", "another kind of file"),
    "long length": (b"\xff" * 8 + b"{}", "header would have"),
    "code": (b"function{ return 3 }", "a text file"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_other_kinds(tmp_path: Path, kind: str) -> None:
    data, reason = OTHERS[kind]
    path = tmp_path / "model.ckpt"
    path.write_bytes(data)
    refused(path, reason)


def test_a_bare_pickle_that_would_run_something(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"cposix\nsystem\n(X\x05\0\0\0touchtR.")
    refused(path)
    path.write_bytes(b"\x80\x04cposix\nsystem\n(X\x05\0\0\0touchtR.")
    refused(path, "a bare pickle")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    missing = tmp_path / "missing.ckpt"
    with pytest.raises(FileNotFoundError, match=re.escape(f"{str(missing)!r}, which does not exist")):
        read_tensors(missing)
    refused(tmp_path, "which is a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe(tmp_path: Path) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "no regular file")


def test_a_refused_file_is_closed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.ckpt"
    for data in (b"PK\x03\x04", bytes(100)):
        path.write_bytes(data)
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        with pytest.raises(ValueError) as caught:
            read_tensors(path)
        after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        assert before == after and caught.value
    assert not [w for w in recwarn if issubclass(w.category, ResourceWarning)]
