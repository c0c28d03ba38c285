"""The example that measures guidance, on a few made-up pictures and small networks."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import fashion_mnist

    monkeypatch.setattr(fashion_mnist, "CHANNELS", (32, 32))
    monkeypatch.setattr(fashion_mnist, "NUM_RES_BLOCKS", 1)
    monkeypatch.setattr(fashion_mnist, "FREE_SCALES", (1.0, 3.0))
    monkeypatch.setattr(fashion_mnist, "CLASSIFIER_SCALES", (0.0, 2.0))
    return fashion_mnist


def run(example, monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["fashion_mnist.py", *map(str, arguments)])
    example.main()


def test_guidance_is_drawn_and_measured(
    example, fashion_mnist_files, monkeypatch, tmp_path, capsys
) -> None:
    data = fashion_mnist_files
    images, labels = example.load(data, "t10k", None)
    assert images.shape == (20, 32, 32, 1) and list(labels[:3]) == [0, 1, 2]
    assert not images[:, :2].any() and images[:, 2:30, 2:30].any()
    arguments = ["--data", data, "--output", tmp_path / "out", "--epochs", 1, 1, 1, 1]
    arguments += ["--per-class", 2, "--steps", 2]
    run(example, monkeypatch, *arguments)
    lines = (tmp_path / "out" / "table.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[:2] for row in rows] == [
        ["classifier-free guidance", "1"],
        ["classifier-free guidance", "3"],
        ["classifier guidance", "0"],
        ["classifier guidance", "2"],
    ]
    assert all(0 <= float(value) <= 1 for row in rows for value in row[2:])
    for name in ("guidance.png", "curve.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert len(np.unique(np.asarray(picture))) > 10
    # Started again, it trains nothing.
    drawn = []
    monkeypatch.setattr(example, "draw", lambda *_: drawn.append(1) or images)
    for name in ("make_autoencoder", "make_diffusion", "make_classifier", "make_judge"):
        monkeypatch.setattr(example, name, None)
    run(example, monkeypatch, *arguments)
    assert len(drawn) == 4


def test_missing_data_are_named(example, monkeypatch, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        run(example, monkeypatch, "--data", tmp_path, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
