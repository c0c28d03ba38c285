"""The example of several devices, with few steps: two processes, or four virtual devices on JAX."""

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
    with socket.socket() as one, socket.socket() as other:
        one.bind(("localhost", 0))
        other.bind(("localhost", 0))
        ports = [probe.getsockname()[1] for probe in (one, other)]
    if BACKEND == "torch":  # what torchrun sets
        common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(ports[0]), "WORLD_SIZE": "2"}
        processes = [run(tmp_path, environment={**common, "RANK": str(rank)}) for rank in range(2)]
    elif BACKEND == "jax":
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
        processes = [run(tmp_path, "--widths", "2", environment=flags)]
    else:
        cluster = {"worker": [f"localhost:{port}" for port in ports]}
        tasks = [{"type": "worker", "index": rank} for rank in range(2)]
        configurations = [json.dumps({"cluster": cluster, "task": task}) for task in tasks]
        processes = [run(tmp_path, environment={"TF_CONFIG": this}) for this in configurations]
    for process in processes:
        output = process.communicate(timeout=500)[0]
        assert process.returncode == 0, output[-3000:]
    history = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite(history["loss"]).all() and history["images_per_second"][0] > 0
    assert keras_ldm.tasks.load(tmp_path / "model.keras").unet.channels == (64, 128)
    assert list((tmp_path / "checkpoints").glob("checkpoint-00000003.safetensors"))
