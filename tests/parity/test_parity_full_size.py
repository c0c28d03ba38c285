"""Every published model at full size: the checkpoint's names and shapes, and the preset beside it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_ldm.presets import compvis as presets
from keras_ldm.weights.compvis.loading import _BUFFERS, _TRAINING_LOSS
from tests.parity.full_size import INVENTORY

pytestmark = pytest.mark.parity

PRESETS = {  # of the published models whose checkpoint's names are in the inventory
    "bsr_sr": "bsr_sr",
    "cin256": "cin256",
    "ffhq256": "ffhq256",
    "layout2img-openimages256": "layout2img_openimages256",
    "lsun_churches256": "lsun_churches256",
    "train-txt2img-1p4B-eval": "txt2img_1p4b",
    **{f"kl-f{f}": f"kl_f{f}" for f in (4, 8, 16, 32)},
    **{f"vq-{n}": f"vq_{n.replace('-', '_')}" for n in ("f4", "f4-noattn", "f8", "f8-n256", "f16")},
}
PARAMETERS = {  # of the others, counted in the original's own modules
    "celebahq256": 329_378_945,
    "cin256_v2": 456_755_873,
    "inpainting_big": 440_465_313,
    "lsun_beds256": 329_378_945,
    "rdm768": 1_405_091_363,
    "semantic_synthesis256": 270_552_643,
    "semantic_synthesis512": 270_552_643,
    "text2img256": 645_101_403,
}


@pytest.fixture(scope="module")
def found() -> dict:
    run = subprocess.run(
        [sys.executable, "-m", "tests.parity.full_size"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_names_and_shapes(found, name: str) -> None:
    published = json.loads((INVENTORY / name / "state_dict.json").read_text("utf-8"))
    parameters = {
        key: shape
        for key, shape in published.items()
        if key not in _BUFFERS and not key.startswith(_TRAINING_LOSS)
    }
    ours = found["inventory"][name]
    assert ours["shapes"] == parameters
    assert ours["weights"] == sum(math.prod(shape) for shape in parameters.values())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_is_what_the_configuration_gives(found, name: str) -> None:
    preset, given = found["presets"][PRESETS[name]]["config"], found["inventory"][name]["config"]
    if name == "lsun_churches256":  # measured in training; its checkpoint holds what was measured
        assert preset.pop("latent_scale") is None
        assert given.pop("latent_scale") == 1.0
    assert preset == given


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_of_the_other_presets(found, name: str) -> None:
    assert found["presets"][name]["weights"] == PARAMETERS[name]


def test_there_are_no_other_presets_and_each_says_what_it_is(found) -> None:
    assert set(found["presets"]) == {*PRESETS.values(), *PARAMETERS}
    for name in found["presets"]:
        text = getattr(presets, name).__doc__
        assert all(f"    {part}: " in text for part in ("Source", "Latents", "Scores"))


def test_inventory_is_whole() -> None:
    assert {folder.name for folder in INVENTORY.iterdir()} == set(PRESETS)
