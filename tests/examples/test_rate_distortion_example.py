"""The example that draws a rate-distortion curve, on a few made-up pictures and small networks."""

import json
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
    import rate_distortion

    monkeypatch.setattr(fashion_mnist, "CHANNELS", (32, 32))
    monkeypatch.setattr(fashion_mnist, "NUM_RES_BLOCKS", 1)
    return rate_distortion


def test_the_curve_is_measured_and_drawn(
    example, fashion_mnist_files, monkeypatch, tmp_path, capsys
) -> None:
    output = tmp_path / "out"
    argv = ["rate_distortion.py", "--data", fashion_mnist_files, "--output", output]
    argv += ["--epochs", 1, 1, "--num-test", 8, "--steps", 5]
    monkeypatch.setattr(sys, "argv", [str(a) for a in argv])
    example.main()
    curve = json.loads((output / "curve.json").read_text())
    assert len(curve["sigmas"]) == len(curve["rates"]) == len(curve["distortions"]) == 5
    assert (np.diff(curve["rates"]) > 0).all() and (np.diff(curve["sigmas"]) < 0).all()
    assert all(0 < value < 255 for value in (*curve["distortions"], curve["floor"]))
    for name in ("curve.png", "estimates.png"):
        with Image.open(output / name) as picture:
            assert len(np.unique(np.asarray(picture))) > 10
    assert "without noise" in capsys.readouterr().out
