"""Several devices and several processes train to the weights that one device comes to."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_ldm
from keras_ldm.backend import BatchShare
from keras_ldm.models import UNet, layout_map
from keras_ldm.tasks.inputs import TaskDataset
from tests.distributed_training import BATCH, EPOCHS, EXAMPLES
from tests.scripts import free_ports

BACKEND = keras.backend.backend()
Results = dict[str, Any]


def start(*arguments: object, devices: int = 1) -> subprocess.Popen[str]:
    environment = {
        "KERAS_BACKEND": BACKEND,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distributed_training", *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=Path(__file__).resolve().parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> None:
    try:
        said = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, said, strict=True):
        assert process.returncode == 0, output[-3000:]


def read(path: Path) -> Results:
    with np.load(path) as file:
        return dict(file)


def of_kind(results: Results, prefix: str) -> Results:
    return {name[len(prefix) :]: v for name, v in results.items() if name.startswith(prefix)}


def assert_equal(one: Results, other: Results) -> None:
    assert one.keys() == other.keys() and "loss" in one and len(one) > 10
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One device and several, in a process with eight on JAX and two on TensorFlow."""
    path = tmp_path_factory.mktemp("devices") / "results.npz"
    finish([start("devices", path, devices=8)])
    return read(path)


def two_processes(folder: Path, *arguments: str) -> list[Results]:
    ports = free_ports(2)
    paths = [folder / f"{rank}.npz" for rank in range(2)]
    finish([start("process", path, i, *ports, *arguments, devices=2) for i, path in enumerate(paths)])
    return [read(path) for path in paths]


def assert_goes_on(results: Results, kind: str, one: Results) -> None:
    """A signal to the second process at the third batch ended both there, and both went on."""
    assert results[f"end of {kind}"].tolist() == [143, 3]
    assert_equal(one, of_kind(results, f"{kind}/"))


def assert_errors(results: Results, process: int) -> None:
    """Each process has one, whichever of them found the fault."""
    damaged, some = results["errors of all"]
    assert ("all of them damaged" if process == 0 else "RuntimeError: Expected all processes") in damaged
    assert "Expected `Checkpoints` among the callbacks of all processes that train" in some
    assert f"Received: {1 - process} in process {process}" in some


def assert_goes_past_nan(results: Results, devices: Results) -> None:
    one, several = of_kind(devices, "one/nan/"), of_kind(results, "nan/")
    assert results["steps of nan"].tolist() == [2, 4, 6, 8, 10]
    for name in one:
        if name.isdigit():  # measures have NaN in them
            assert np.isfinite(one[name]).all()
            np.testing.assert_allclose(several[name], one[name], rtol=1e-5, atol=1e-5)


def assert_batches_are_saved(folder: Path) -> None:
    """Each process has the rows that it read of the batch whose loss is no number."""
    for step in (2, 4, 6, 8, 10):
        for name in (f"nan_step_{step:08d}.npz", f"nan_step_{step:08d}_process1.npz"):
            noise = read(folder / name)["noise"]
            assert len(noise) == (BATCH if BACKEND == "tensorflow" else BATCH // 2)
            assert np.isnan(noise).all()


if BACKEND != "torch":
    KINDS = ["supplied"] if BACKEND == "tensorflow" else ["first stage", "real diffusion", "diffusion"]

    @pytest.mark.backend
    @pytest.mark.parametrize("kind", KINDS)
    def test_several_devices(devices: Results, kind: str) -> None:
        assert_equal(of_kind(devices, f"one/{kind}/"), of_kind(devices, f"several/{kind}/"))
        batches = [v for v in of_kind(devices, f"several/{kind}/").values() if v.dtype == "int32"]
        assert any(np.all(v == EPOCHS * EXAMPLES // BATCH) for v in batches)

    @pytest.mark.backend
    def test_rows_that_do_not_divide(devices: Results) -> None:
        """13 examples in batches of 8: the last one has five rows for several devices."""
        assert np.isfinite(devices["uneven loss"]).all()
        assert set(devices["uneven rows"]) == {13}
        if BACKEND == "tensorflow":  # with noise supplied
            np.testing.assert_allclose(devices["uneven targets"], devices["targets"], atol=1e-6)


if BACKEND == "tensorflow":

    def test_accumulation_on_replicas_is_refused(devices: Results) -> None:
        assert "Received: 2 on 2 replicas" in str(devices["accumulating"])

    def test_replicas_draw_their_own(devices: Results) -> None:
        first, second = devices["keys"]
        assert (first != second).any()

    def test_two_workers(devices: Results, tmp_path: Path) -> None:
        """Of `MultiWorkerMirroredStrategy`, which Keras's own `fit` cannot take."""
        one = of_kind(devices, "one/supplied/")
        for index, results in enumerate(two_processes(tmp_path)):
            assert_goes_on(results, "supplied", one)
            assert_goes_past_nan(results, devices)
            for method, error in zip(("fit", "save"), results["within the scope"], strict=True):
                assert f"Expected `{method}` outside the strategy's scope" in error
            assert "Expected `steps_per_execution=1`" in str(results["several steps"])
            assert_errors(results, index)
            assert results["process"].tolist() == [index, 2]
            np.testing.assert_allclose(results["evaluated"][0], one["val_loss"][-1], rtol=1e-5)
            np.testing.assert_allclose(results["targets"], devices["targets"], atol=1e-6)
            assert results["batches"] == (EPOCHS + 1) * EXAMPLES // BATCH
        assert_batches_are_saved(tmp_path / "nan batches")
        names = [path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")]
        assert names == [f"checkpoint-{(EPOCHS + 1) * EXAMPLES // BATCH:08d}.safetensors"]


if BACKEND == "jax":

    @pytest.mark.backend
    def test_weights_and_averages_are_divided(devices: Results) -> None:
        assert devices["several bytes"] < 0.35 * devices["one bytes"]  # over four devices
        difference = devices["one drawn"].astype(int) - devices["several drawn"].astype(int)
        assert np.abs(difference).max() <= 1 and devices["one drawn"].std() > 1

    @pytest.mark.backend
    def test_two_processes(devices: Results, tmp_path: Path) -> None:
        """Each takes its part of what both read; and weights that are divided over both."""
        both = two_processes(tmp_path)
        for process, results in enumerate(both):
            assert_errors(results, process)
            for kind in ("diffusion", "real diffusion"):
                assert_goes_on(results, kind, of_kind(devices, f"one/{kind}/"))
            assert_goes_past_nan(results, devices)
        assert_batches_are_saved(tmp_path / "nan batches")
        task = keras_ldm.tasks.load(tmp_path / "divided.keras")
        for i, variable in enumerate(task.variables):
            np.testing.assert_array_equal(
                variable, both[0][f"real diffusion/{i}"], err_msg=variable.path
            )

    @pytest.mark.backend
    def test_two_processes_with_data_of_their_own(devices: Results, tmp_path: Path) -> None:
        for results in two_processes(tmp_path, "own"):
            assert_equal(of_kind(devices, "one/first stage/"), of_kind(results, "first stage/"))


if BACKEND == "torch":

    @pytest.mark.backend
    def test_two_processes(tmp_path: Path) -> None:
        from tests.distributed_training import supplied, train

        one: Results = {}
        train("supplied", supplied, one)
        for process, results in enumerate(two_processes(tmp_path)):
            assert_errors(results, process)
            assert_goes_on(results, "supplied", of_kind(one, "supplied/"))


# === Without other devices ===


@pytest.mark.parametrize(
    ("share", "rows"),
    [
        (BatchShare(), [0, 1, 2, 3, 4]),
        (BatchShare(devices=4), [0, 1, 2, 3, 4, 0, 1, 2]),
        (BatchShare(devices=1, parts=2, part=0), [0, 1, 2]),
        (BatchShare(devices=1, parts=2, part=1), [3, 4, 0]),
        (BatchShare(devices=8, parts=2, part=1), [3, 4, 0, 1, 2, 3, 4, 0]),
    ],
)
def test_share_of_a_batch(share: BatchShare, rows: list[int]) -> None:
    data = TaskDataset({"image": np.arange(5)}, lambda batch: batch, share=share)
    assert data[0]["image"].tolist() == rows
    assert data.examples(1)[0]["image"].tolist() == [0, 1, 2, 3, 4]  # what is measured is whole
    if share.parts == 1:
        assert data.given({"y": data[0]["image"]})["y"].tolist() == [0, 1, 2, 3, 4]


def test_layout_map_says_which_axes_there_are() -> None:
    mesh = keras.distribution.DeviceMesh((1,), ["batch"], ["cpu:0"])
    with pytest.raises(ValueError, match=r"one of the mesh's axes, \['batch'\].*'model'"):
        layout_map(mesh)


def test_layout_map_divides_most_weights() -> None:
    layout = layout_map(keras.distribution.DeviceMesh((1,), ["model"], ["cpu:0"]))
    unet = UNet((32, 64), context_dim=16)
    sizes = {
        v.path: (int(np.prod(v.shape)), layout[v.path] is not None) for v in unet.trainable_variables
    }
    divided = sum(size for size, found in sizes.values() if found)
    assert divided > 0.98 * sum(size for size, _ in sizes.values())
