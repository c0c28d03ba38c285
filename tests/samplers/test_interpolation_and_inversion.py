"""Slerp against its geometry; DDIM inversion against DDIM and the exact flow."""

import numpy as np
import pytest
from keras import ops

from keras_ldm.samplers import ddim, ddim_inversion, slerp
from tests.contract import array, numpy
from tests.samplers.test_exact_solutions import FIRST, LAST, denoise, flow, geometric

pytestmark = pytest.mark.backend


def tensor(values) -> object:
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def test_slerp_goes_along_the_arc() -> None:
    start, end = np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]])
    weights = np.linspace(0, 1, 5)
    points = numpy(slerp(tensor(start), tensor(end), weights))
    angles = weights * np.pi / 2
    np.testing.assert_allclose(points, 2 * np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-6)


def test_slerp_keeps_the_variance_of_noise() -> None:
    start, end = array(1, 32, 32, 4), array(1, 32, 32, 4, seed=1)
    points = numpy(slerp(tensor(start), tensor(end), np.linspace(0, 1, 9), num_axes=3))
    assert points.shape == (9, 32, 32, 4)
    np.testing.assert_allclose(points.std(axis=(1, 2, 3)), 1, atol=0.03)
    np.testing.assert_allclose(points[0], start[0], atol=1e-6)
    np.testing.assert_allclose(points[-1], end[0], atol=1e-6)


def test_slerp_of_parallel_vectors_is_linear() -> None:
    start = tensor([[1.0, 2.0], [0.0, 0.0], [1.0, -1.0]])
    end = tensor([[3.0, 6.0], [0.0, 0.0], [-1.0, 1.0]])
    points = numpy(slerp(start, end, 0.25))
    np.testing.assert_allclose(points, [[1.5, 3.0], [0.0, 0.0], [0.5, -0.5]], atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_slerp_in_half_precision(dtype: str) -> None:
    same = ops.cast(tensor(array(2, 8)), dtype)
    point = slerp(same, same, 0.5)
    assert dtype in str(point.dtype)
    np.testing.assert_array_equal(numpy(ops.cast(point, "float32")), numpy(ops.cast(same, "float32")))
    zeros = ops.zeros((1, 4), dtype)
    assert not numpy(ops.cast(slerp(zeros, zeros, 0.5), "float32")).any()


def test_slerp_weighs_each_vector() -> None:
    tokens, others = array(2, 3, 4), array(2, 3, 4, seed=1)
    weights = np.array([[0.0], [1.0]], "float32")
    points = numpy(slerp(tensor(tokens), tensor(others), weights))
    np.testing.assert_allclose(points, np.stack([tokens[0], others[1]]), atol=1e-6)
    with pytest.raises(ValueError, match="two tensors of one shape. Received: "):
        slerp(tensor(tokens), tensor(others[:, :2]), 0.5)


def test_inversion_undoes_ddim_to_first_order() -> None:
    """The exact flow leads from the first level to the last; inversion goes back along it."""
    x, exact = flow()
    errors = []
    for steps in (40, 80, 160):
        sigmas = geometric(steps)
        assert (sigmas[0], sigmas[-1]) == pytest.approx((FIRST, LAST))
        found = numpy(ddim_inversion(lambda x, s: tensor(denoise(x, s)), tensor(exact), sigmas))
        errors.append(np.abs(found - x).max())
        again = numpy(ddim(lambda x, s: tensor(denoise(x, s)), tensor(found), sigmas))
        assert np.abs(again - exact).max() < 10 / steps
    assert np.all(np.abs(-np.diff(np.log2(errors)) - 1) < 0.15), errors


def test_inversion_starts_at_zero_with_the_level_above() -> None:
    steps, seen = [], []

    def spy(x, sigma):
        seen.append(sigma)
        return 0.5 * x

    x = array(2, 3)
    out = numpy(ddim_inversion(spy, x, [4.0, 1.0, 0.0], callback=steps.append))
    assert seen == [1.0, 1.0] and [step.index for step in steps] == [0, 1]
    # Half of x is noise: x + 1·(x / 2), then (σ' - σ)·(x / 2).
    np.testing.assert_allclose(out, x * 1.5 * (1 + 3 * 0.5), rtol=1e-5)
