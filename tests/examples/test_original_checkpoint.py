"""The example runs on small checkpoints of each kind that it names, and leaves what it says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ldm.files import write_ckpt
from keras_ldm.weights import compvis
from tests.golden.original import FOLDER, Original

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]


def run(folder: Path, name: str, *arguments: str) -> str:
    checkpoint = folder / "model.ckpt"
    write_ckpt(checkpoint, Original(name).checkpoint())
    command = [sys.executable, str(ROOT / "examples" / "original_checkpoint.py"), str(checkpoint)]
    command += ["--config", str(FOLDER / name / "config.yaml"), "--output", str(folder / "out")]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_autoencoder_is_trained_and_handed_back(tmp_path: Path) -> None:
    name = "vq-f4"
    printed = run(tmp_path, name, "--epochs", "1", "--image-size", "32")
    assert "Reconstruction PSNR of 8 pictures" in printed
    picture = np.asarray(Image.open(tmp_path / "out" / "pictures.png"))
    assert picture.shape == (64, 8 * 32, 3)
    assert picture[:32].std() > 20
    tuned = compvis.load(tmp_path / "out" / "tuned.ckpt", FOLDER / name / "config.yaml")
    before = Original(name).checkpoint()["decoder.conv_out.bias"]
    after = np.asarray(tuned.decoder.conv_out.bias)
    assert 0 < np.abs(after - before).max() < 1e-3


def test_diffusion_model_draws(tmp_path: Path) -> None:
    arguments = ("--class-label", "1", "2", "--guidance-scale", "2", "--num-steps", "2")
    printed = run(tmp_path, "cin256-v2", *arguments, "--drawn-size", "32")
    assert "Opened a LatentDiffusion" in printed
    assert np.asarray(Image.open(tmp_path / "out" / "pictures.png")).shape == (32, 64, 3)
