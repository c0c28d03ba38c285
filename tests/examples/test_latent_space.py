"""The example that shows what the KL term is for, on a few made-up pictures and small networks."""

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
    import latent_space

    monkeypatch.setattr(latent_space, "WIDTHS", (8,) * 6)
    return latent_space


def test_dots_lie_where_their_numbers_are(example) -> None:
    points, labels = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), np.array([0, 1, 2])
    region = np.array([[-1.0, -1.0], [3.0, 3.0]])
    picture = np.asarray(example.scatter(points, labels, region))
    quarter = example.PANEL // 4
    for (x, y), color in zip(((1, 3), (2, 2), (1, 2)), example.COLORS, strict=False):
        assert tuple(picture[y * quarter, x * quarter]) == color
    cloud = np.random.default_rng(0).standard_normal((1000, 2)) * [3.0, 1.0] + 5
    low, high = example.region_of(cloud)
    assert np.allclose(high - low, (high - low)[0])
    assert ((cloud > low) & (cloud < high)).all(axis=1).mean() > 0.97


def test_both_spaces_are_trained_and_drawn(
    example, fashion_mnist_files, monkeypatch, tmp_path, capsys
) -> None:
    output = tmp_path / "out"
    argv = ["latent_space.py", "--data", fashion_mnist_files, "--output", output, "--epochs", 1]
    monkeypatch.setattr(sys, "argv", [str(a) for a in argv])
    example.main()
    assert {path.name for path in output.iterdir()} == {
        *("latent_space.png", "with_KL.keras", "without_KL.keras")
    }
    with Image.open(output / "latent_space.png") as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10
    said = capsys.readouterr().out
    assert "without KL: standard deviations" in said and "with KL: standard" in said
    monkeypatch.setattr(example, "make_autoencoder", None)  # started again, it trains nothing
    example.main()
