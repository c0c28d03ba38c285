"""The quickstart runs from end to end, on few pictures, and leaves what it says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_ldm as kl
from keras_ldm.cli import main

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, str(ROOT / "examples" / "quickstart.py"), "--output", str(folder)]
    command += ["--num-images", "24", "--autoencoder-epochs", "2", "--diffusion-epochs", "2"]
    result = subprocess.run(
        [*command, "--score-images", "8"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_leaves_pictures_that_are_not_blank(output: tuple[Path, str]) -> None:
    folder, _ = output
    for name, width in (
        ("reconstructions.png", 12 * 128),
        ("samples.png", 8 * 128),
        ("losses.png", 840),
    ):
        picture = np.asarray(Image.open(folder / name))
        assert picture.shape[1] == width
        assert picture.std() > 5


def test_prints_scores_and_where_the_files_are(output: tuple[Path, str]) -> None:
    folder, printed = output
    assert "Reconstruction PSNR" in printed and "over 8 prompts" in printed
    for name in ("reconstructions.png", "samples.png", "losses.png", "text_to_image.keras"):
        assert str(folder / name) in printed


def test_command_line_draws_from_the_saved_model(output: tuple[Path, str]) -> None:
    folder, _ = output
    model, picture = folder / "text_to_image.keras", folder / "heart.png"
    arguments = ["generate", "red heart", "--model", str(model), "-o", str(picture)]
    assert main([*arguments, "--num-steps", "4", "--seed", "3"]) == 0
    drawn = np.asarray(Image.open(picture))
    task = kl.tasks.TextToImage.from_preset(model)
    expected = task.generate("red heart", num_steps=4, seed=3, progress=False)[0]
    np.testing.assert_array_equal(drawn, expected)
