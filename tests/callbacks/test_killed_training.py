"""SIGKILL at twenty random moments; the weights come out the same to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

KILLS = 10  # of each kind

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the same bits are promised on TensorFlow's CPU alone",
)


@pytest.mark.timeout(900)
def test_killed_trainings_end_with_the_weights_of_undisturbed_ones(tmp_path) -> None:
    command = [sys.executable, "-m", "tests.callbacks.killed_training", str(tmp_path), str(KILLS)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"first stage", "diffusion"}
    for kind, result in found.items():
        places = result["kills at"]
        assert len(places) == KILLS, kind
        assert places == sorted(places)
        assert len(set(places)) >= KILLS // 2, "most of them were to train a bit first"
        assert result["different"] == [], kind
        assert result["files"] == [
            "checkpoints/.lock",
            "checkpoints/checkpoint-00000119.safetensors",
            "checkpoints/checkpoint-00000120.safetensors",
            "checkpoints/task.keras",
            "killed.npz",
            "undisturbed.npz",
        ]
