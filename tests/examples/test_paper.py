"""The paper's experiments, on a few made-up pictures, small networks and seconds of compute."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[2] / "examples"
RESULTS = {
    "compression_factors": ("compression_factors.png", "compression_factors_samples.png"),
    "rescaling": ("rescaling.png", "rescaling_samples.png"),
    "guidance": ("guidance.png", "guidance_samples.png"),
    "sampling_steps": ("sampling_steps.png", "sampling_steps_samples.png"),
    "pixels_or_latents": ("pixels_or_latents.png", "pixels_or_latents_samples.png"),
}


@pytest.fixture
def paper(monkeypatch, fashion_mnist_files, tmp_path):
    """Runs an experiment, all of which share an output folder, and returns its table."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(EXAMPLES / "paper")
    import common
    import compression_factors
    import guidance
    import pixels_or_latents
    import rescaling
    import sampling_steps

    small = {factor: common.Size(size.latent_channels, size.channels[:1] * len(size.channels))
             for factor, size in common.SIZES.items()}  # fmt: skip
    monkeypatch.setattr(common, "SIZES", {f: small[f] for f in (1, 4, 32)})
    monkeypatch.setattr(common, "STEPS", 2)
    monkeypatch.setattr(common, "BATCH_SIZE", 16)
    monkeypatch.setattr(compression_factors, "FACTORS", (1, 4, 32))
    monkeypatch.setattr(guidance, "FREE_SCALES", (1.0, 3.0))
    monkeypatch.setattr(guidance, "CLASSIFIER_SCALES", (0.0, 2.0))
    monkeypatch.setattr(sampling_steps, "SAMPLERS", ("ddim", "heun"))
    monkeypatch.setattr(sampling_steps, "EVALUATIONS", (3, 5))
    monkeypatch.setattr(sampling_steps, "SHOWN", (5,))
    modules = (compression_factors, rescaling, guidance, sampling_steps, pixels_or_latents)
    by_name = {module.__name__: module for module in modules}
    output = tmp_path / "paper"

    def run(name: str, *arguments: object) -> list[list[str]]:
        given = ["--data", fashion_mnist_files, "--output", output, "--minutes", 0.01]
        given += ["--first-stage-minutes", 0.01, "--per-class", 4, *arguments]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, given)])
        by_name[name].main()
        lines = (output / f"{name}.md").read_text("utf-8").splitlines()
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]

    run.output, run.common = output, common
    return run


@pytest.mark.timeout(1800)  # a dozen networks, each of which TensorFlow traces
@pytest.mark.filterwarnings("ignore:The Fréchet distance")
def test_every_experiment(paper, monkeypatch) -> None:
    tables = {name: paper(name) for name in RESULTS}
    for name, pictures in RESULTS.items():
        header, _, *rows = tables[name]
        assert all(len(row) == len(header) for row in rows)
        for picture in pictures:
            with Image.open(paper.output / picture) as opened:
                assert len(np.unique(np.asarray(opened))) > 10
    assert [row[0] for row in tables["compression_factors"][2:]] == ["f1", "f4", "f32"]
    assert [row[1] for row in tables["compression_factors"][2:]] == ["32x32x1", "8x8x3", "1x1x64"]
    assert len(tables["rescaling"]) == 2 + 4 and len(tables["guidance"]) == 2 + 4
    curve = json.loads((paper.output / "diffusion_kl_f4.json").read_text())
    assert len(curve) == len(paper.common.SHARES)
    for before, after in pairwise(curve):
        assert before["steps"] <= after["steps"] and before["minutes"] <= after["minutes"]
    assert curve[-1]["minutes"] >= 0.01 and all(p["scores"]["fid"] > 0 for p in curve)

    # Started again, it trains and draws nothing, and says the same.
    monkeypatch.setattr(paper.common.Study, "train", None)
    for name in set(RESULTS) - {"pixels_or_latents"}:
        monkeypatch.setattr(paper.common.Study, "draw", None)
        assert paper(name) == tables[name]
    with pytest.raises(ValueError, match="settings of what is in"):
        paper("compression_factors", "--minutes", 1)


def test_missing_data_are_named(paper) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        paper("compression_factors", "--data", paper.output)
    assert not paper.output.exists()
