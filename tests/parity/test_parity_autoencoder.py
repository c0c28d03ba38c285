"""`AutoencoderKL` against diffusers' class of that name, with the same random weights."""

import diffusers
import numpy as np
import pytest

from keras_ldm.models import AutoencoderKL
from tests.golden.original import deviation
from tests.parity.diffusers_names import load_autoencoder
from tests.parity.torch_modules import arrays_of, from_torch, randomise, shrink, to_torch

pytestmark = pytest.mark.parity

CONFIGS = {
    "one level": {"channels": (16,), "latent_channels": 2, "num_res_blocks": 1},
    "two levels": {"channels": (16, 24), "latent_channels": 4, "num_res_blocks": 2},
    "three levels": {"channels": (8, 16, 16), "latent_channels": 3, "num_res_blocks": 1},
    "three blocks": {"channels": (8, 16), "latent_channels": 4, "num_res_blocks": 3},
    "no middle attention": {
        "channels": (8, 16, 24),
        "latent_channels": 4,
        "num_res_blocks": 2,
        "middle_attention": False,
    },
    "attention at a level": {
        "channels": (8, 16),
        "latent_channels": 4,
        "num_res_blocks": 2,
        "attention_levels": (1,),
    },
    "grey images": {"channels": (8, 16), "latent_channels": 1, "image_channels": 1},
}
GROUPS = 4


def reference(model: AutoencoderKL) -> diffusers.AutoencoderKL:
    attends = [i in model.attention_levels for i in range(len(model.channels))]
    return diffusers.AutoencoderKL(
        in_channels=model.image_channels,
        out_channels=model.image_channels,
        down_block_types=tuple(f"{'Attn' * a}DownEncoderBlock2D" for a in attends),
        up_block_types=tuple(f"{'Attn' * a}UpDecoderBlock2D" for a in reversed(attends)),
        block_out_channels=model.channels,
        layers_per_block=model.num_res_blocks,
        latent_channels=model.latent_channels,
        norm_num_groups=GROUPS,
        mid_block_add_attention=model.middle_attention,
    )


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def pair(request):
    ours = AutoencoderKL(groups=GROUPS, **request.param)
    theirs = randomise(reference(ours))
    load_autoencoder(ours, arrays_of(theirs))
    return ours, theirs


def test_encode(pair) -> None:
    ours, theirs = pair
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, ours.image_channels))
    images = images.astype("float32")
    expected = theirs.encode(to_torch(images)).latent_dist
    posterior = ours.encode(images)
    assert deviation(posterior.mean, from_torch(expected.mean)) < 1e-4
    assert deviation(posterior.logvar, from_torch(expected.logvar)) < 1e-4
    assert deviation(posterior.kl(), expected.kl().numpy()) < 1e-4


def test_decode(pair) -> None:
    ours, theirs = pair
    latents = np.random.default_rng(1).standard_normal((2, 4, 8, ours.latent_channels), "float32")
    expected = from_torch(theirs.decode(to_torch(latents)).sample)
    assert deviation(ours.decode(latents), expected) < 1e-4


def test_epsilons_of_the_normalizations() -> None:
    ours = AutoencoderKL(groups=GROUPS, **CONFIGS["attention at a level"])
    theirs = shrink(randomise(reference(ours)))
    load_autoencoder(ours, arrays_of(theirs))
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (2, 16, 16, 3)).astype("float32")
    latents = rng.standard_normal((2, 8, 8, 4), "float32")
    mean = theirs.encode(to_torch(images)).latent_dist.mean
    assert deviation(ours.encode(images).mean, from_torch(mean)) < 1e-4
    assert deviation(ours.decode(latents), from_torch(theirs.decode(to_torch(latents)).sample)) < 1e-4
