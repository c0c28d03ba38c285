"""The example of several devices, with few steps: two processes on PyTorch, else two virtual devices."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ldm

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


def test_training(tmp_path) -> None:
    if BACKEND == "torch":  # what torchrun sets
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = str(probe.getsockname()[1])
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        processes = [run(tmp_path, environment={**common, "RANK": str(rank)}) for rank in range(2)]
    elif BACKEND == "jax":
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
        processes = [run(tmp_path, "--widths", "2", environment=flags)]
    else:
        processes = [run(tmp_path, "--virtual", "2")]
    for process in processes:
        output = process.communicate(timeout=500)[0]
        assert process.returncode == 0, output[-3000:]
    history = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite(history["loss"]).all() and history["images_per_second"][0] > 0
    assert keras_ldm.tasks.load(tmp_path / "model.keras").unet.channels == (64, 128)
    assert list((tmp_path / "checkpoints").glob("checkpoint-00000003.safetensors"))
