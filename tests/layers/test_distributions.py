"""The posterior against closed forms, integration and its own samples."""

import numpy as np
import pytest
from scipy import integrate, stats

from keras_ldm.layers import DiagonalGaussian
from tests.contract import array, numpy


def gaussian(mean: float, logvar: float, shape: tuple[int, ...] = (1, 1, 1)) -> DiagonalGaussian:
    ones = np.ones((*shape, 1), "float32")
    return DiagonalGaussian(np.concatenate([mean * ones, logvar * ones], axis=-1))


@pytest.mark.parametrize("mean, logvar", [(0.0, 0.0), (1.5, 0.0), (0.0, -2.0), (-0.7, 1.3)])
def test_kl_is_the_integral(mean: float, logvar: float) -> None:
    q, p = stats.norm(mean, np.exp(logvar / 2)), stats.norm()
    expected = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -30, 30)[0]
    np.testing.assert_allclose(numpy(gaussian(mean, logvar).kl()), [expected], atol=1e-5)


@pytest.mark.backend
def test_kl_sums_over_all_but_the_first_axis() -> None:
    moments = array(3, 4, 5, 6)
    mean, logvar = np.split(moments.astype("float64"), 2, axis=-1)
    expected = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(numpy(DiagonalGaussian(moments).kl()), expected, rtol=1e-5)


def test_logvar_is_clipped() -> None:
    assert numpy(gaussian(0.0, -1000.0).logvar).item() == -30.0
    assert numpy(gaussian(0.0, 1000.0).logvar).item() == 20.0
    assert np.all(np.isfinite(numpy(gaussian(0.0, 1000.0).sample(0))))
    assert numpy(gaussian(2.0, -1000.0).kl()).item() == pytest.approx(0.5 * (4 + 29), rel=1e-6)


@pytest.mark.backend
def test_samples_follow_the_distribution() -> None:
    distribution = gaussian(1.5, np.log(4.0), (100, 20, 10))
    samples = numpy(distribution.sample(seed=3)).ravel()
    assert stats.kstest(samples, stats.norm(1.5, 2.0).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(numpy(distribution.sample(seed=3)).ravel(), samples)
    assert not np.array_equal(numpy(distribution.sample(seed=4)).ravel(), samples)
    np.testing.assert_array_equal(numpy(distribution.mode()), 1.5)
