"""The example that compares samplers, on fewer of them."""

import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_samplers_are_drawn_and_compared(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import samplers

    monkeypatch.setattr(samplers, "SAMPLERS", ("ddim", "heun"))
    monkeypatch.setattr(samplers, "STEPS", (1, 2))
    monkeypatch.setattr(samplers, "TABLE_STEPS", (7,))
    monkeypatch.setattr(sys, "argv", ["samplers.py", "--output", str(tmp_path), "--captions", "4"])
    samplers.main()
    assert Image.open(tmp_path / "samplers.png").size == (130 + 2 * 64, 20 + 2 * 64)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (tmp_path / "table.md").read_text("utf-8").splitlines()[2:]
    ]
    # The original's grid has eight timesteps for seven; Heun's last step is Euler's.
    assert [row[:3] for row in rows] == [["`ddim`", "7", "8"], ["`heun`", "7", "13"]]
    assert all(0 <= float(row[3]) <= 1 and 5 < float(row[4]) < 40 for row in rows)


def test_every_sampler_is_compared(monkeypatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import samplers

    from keras_ldm.samplers import sampler_names

    assert sorted(samplers.SAMPLERS) == sorted(sampler_names())
