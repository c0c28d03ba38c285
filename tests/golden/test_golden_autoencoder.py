"""The KL autoencoders compute what the original's compute from the same weights."""

import numpy as np
import pytest

from tests.golden import networks
from tests.golden.original import Original, deviation

pytestmark = pytest.mark.backend

NAMES = ["kl-f4", "kl-f8"]


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    original = Original(request.param)
    return original, networks.autoencoder(original)


@pytest.fixture(scope="module")
def posterior(pair):
    original, model = pair
    return model.encode(original["x"])


@pytest.mark.parametrize("name", ["mean", "logvar"])
def test_moments(pair, posterior, name) -> None:
    assert deviation(getattr(posterior, name), pair[0][name]) < 1e-4


def test_kl_is_summed_over_each_image(pair, posterior) -> None:
    assert deviation(posterior.kl(), pair[0]["kl"]) < 1e-4


def test_reconstruction_from_the_mode(pair) -> None:
    original, model = pair
    assert deviation(model(original["x"]), original["reconstruction"]) < 1e-4


def test_decode(pair) -> None:
    original, model = pair
    latents = np.ascontiguousarray(original["mean"])
    assert deviation(model.decode(latents), original["reconstruction"]) < 1e-4
