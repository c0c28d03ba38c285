"""What the benchmark compares is the same: both libraries train networks of one architecture."""

import pytest

from tests.benchmarks.emoji import STAGES

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("stage", STAGES)
def test_networks_are_of_one_architecture(stage: str) -> None:
    networks, _ = STAGES[stage]
    theirs = networks.torch_model()
    count = sum(parameter.numel() for parameter in theirs.parameters())
    assert networks.keras_model().count_params() == count


def test_networks_are_those_of_the_issue_and_of_the_preset() -> None:
    from keras_ldm.presets import small_text_to_image

    counts = {name: networks.keras_model().count_params() for name, (networks, _) in STAGES.items()}
    preset = small_text_to_image()
    assert counts["the shipped model's autoencoder, batch 8"] == preset.autoencoder.count_params()
    assert counts["the shipped model's U-Net, batch 64"] == preset.unet.count_params()
    assert counts["U-Net 64/128/256 on 16x16x4, batch 32"] == 17_201_092
