"""Only one tensor at a time is in memory, whatever the file holds."""

import resource
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ldm.files import read_tensors, write_ckpt, write_safetensors
from tests.files.handmade import dictionary, legacy, tensor, text, zipped

COUNT, SIZE = 25, 2_000_000  # 25 tensors of 8 MB
LIMIT = 1.3 * 4 * SIZE


def generated() -> Iterator[tuple[str, Any]]:
    for i in range(COUNT):
        yield f"t{i}", np.full(SIZE, i, "float32")


@pytest.mark.parametrize("write", [write_safetensors, write_ckpt])
def test_one_tensor_at_a_time(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "a"
    tracemalloc.start()
    try:
        write(path, generated())
        # The generator makes the next one while `checked` still has the last.
        assert tracemalloc.get_traced_memory()[1] < 2 * LIMIT
        tracemalloc.reset_peak()
        with read_tensors(path) as tensors:
            assert len(tensors) == COUNT and tensors.shape("t3") == (SIZE,)
            assert tracemalloc.get_traced_memory()[1] < 2**20  # no data yet
            for i in range(COUNT):
                assert tensors[f"t{i}"][-1] == i
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > COUNT * SIZE * 4


def test_a_process_that_reads_it_stays_small(tmp_path: Path) -> None:
    """Maps of the file count, too: the whole of it is never in the process's memory."""
    path = tmp_path / "a.ckpt"
    write_ckpt(path, generated())
    code = f"""
import resource, sys, types
package = types.ModuleType("keras_ldm")
package.__path__ = [{str(Path(sys.modules["keras_ldm"].__file__).parent)!r}]
sys.modules["keras_ldm"] = package
from keras_ldm.files import read_tensors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with read_tensors({str(path)!r}) as tensors:
    for array in tensors.values():
        array.sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    # Three tensors: this one, its map, and the last one; with room for what else a process takes.
    assert int(done.stdout) * unit < 8 * 4 * SIZE


def test_names_of_many_tensors_come_fast(tmp_path: Path) -> None:
    entries = {
        f"model.layer.{i}.weight": tensor("FloatStorage", 1, (1,), key=str(i)) for i in range(3000)
    }
    path = zipped(
        tmp_path / "a", dictionary(entries), {str(i): struct.pack("<f", i) for i in range(3000)}
    )
    start = time.perf_counter()
    with read_tensors(path) as tensors:
        assert len(tensors) == 3000 and tensors["model.layer.2999.weight"] == 2999
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("write", [zipped, legacy])
def test_literals_are_bounded_by_the_file(tmp_path: Path, write: Any) -> None:
    """A length of gigabytes is not believed before the bytes are there."""
    path = write(tmp_path / "a", text("k") + b"\x8e" + struct.pack("<Q", 2**34))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="damaged"):
            read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_compressed_member_is_not_unpacked_further_than_it_says(tmp_path: Path) -> None:
    """One that says 24 bytes and unpacks to 200 MB."""
    path = tmp_path / "a"
    zipped(path, dictionary({"w": tensor("FloatStorage", 6, (6,))}), {"0": b""})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "archive/data.pkl", b"\x80\x02" + dictionary({"w": tensor("FloatStorage", 6, (6,))}) + b"."
        )
        archive.writestr("archive/data/0", bytes(200_000_000))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 200_000_000), struct.pack("<I", 24)))
    with read_tensors(path) as tensors:
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="tensor 'w'"):
                tensors["w"]
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()
