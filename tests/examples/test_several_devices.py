"""The example of several devices, with few steps: virtual devices, and processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ldm
from tests.scripts import free_ports, worker_configuration

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]
BACKEND = keras.backend.backend()


def run(output: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
    command = [sys.executable, "examples/several_devices.py", "--output", str(output)]
    command += ["--examples", "24", "--batch-size", "8", "--epochs", "1", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": BACKEND, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


WAYS = {
    "tensorflow": ["virtual devices", "processes"],
    "jax": ["virtual devices"],
    "torch": ["processes"],
}


@pytest.mark.parametrize("way", WAYS[BACKEND])
def test_training(way: str, tmp_path: Path) -> None:
    ports = free_ports(2)
    if BACKEND == "torch":  # what torchrun sets
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(ports[0]), "WORLD_SIZE": "2"}
        processes = [run(tmp_path, environment={**common, "RANK": str(rank)}) for rank in range(2)]
    elif BACKEND == "jax":
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
        processes = [run(tmp_path, "--widths", "2", environment=flags)]
    elif way == "virtual devices":
        processes = [run(tmp_path, "--virtual", "2")]
    else:
        configurations = [worker_configuration(rank, ports) for rank in range(2)]
        processes = [run(tmp_path, environment={"TF_CONFIG": this}) for this in configurations]
    for process in processes:
        output = process.communicate(timeout=500)[0]
        assert process.returncode == 0, output[-3000:]
    history = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite(history["loss"]).all() and history["images_per_second"][0] > 0
    assert keras_ldm.tasks.load(tmp_path / "model.keras").unet.channels == (64, 128)
    assert list((tmp_path / "checkpoints").glob("checkpoint-00000003.safetensors"))
