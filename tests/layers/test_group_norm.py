"""Group normalization against its formula in float64."""

import keras
import numpy as np
import pytest

from keras_ldm.layers import GroupNorm
from tests.contract import array, numpy, randomize


def reference(x: np.ndarray, groups: int, epsilon: float, gamma: np.ndarray, beta: np.ndarray):
    batch, channels = x.shape[0], x.shape[-1]
    grouped = x.astype("float64").reshape(batch, -1, groups, channels // groups)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    variance = grouped.var(axis=(1, 3), keepdims=True)
    normalized = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
    return normalized * gamma + beta


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((2, 5, 3, 12), marks=pytest.mark.backend),
        (3, 7, 12),
        (2, 12),
        (1, 2, 3, 4, 12),
    ],
)
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_group_norm_is_the_formula(shape: tuple[int, ...], groups: int) -> None:
    x = 2 * array(*shape) + 0.5 * np.arange(12, dtype="float32")
    layer = GroupNorm(groups, 1e-3)
    layer(x)
    randomize(layer)
    expected = reference(x, groups, 1e-3, *layer.get_weights())
    # A group of one number has no variance, and ε = 1e-3 magnifies rounding by 30.
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=3e-6 if x[0].size > 12 else 3e-5)


@pytest.mark.backend
@pytest.mark.parametrize("offset, tolerance", [(0.0, 3e-6), (1e3, 3e-4), (-1e3, 3e-4)])
def test_group_norm_is_stable_far_from_zero(offset: float, tolerance: float) -> None:
    # float32 itself resolves 6e-5 at 1e3; E[x²] - E[x]² would be off by 0.1 and more.
    x = array(2, 16, 16, 8) + np.float32(offset)
    layer = GroupNorm(4, 1e-6)
    expected = reference(x, 4, 1e-6, np.ones(8), np.zeros(8))
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=tolerance)


def test_group_norm_sees_distant_means_within_a_group() -> None:
    # Nearly all of the variance of a group is that of its channels' means.
    x = 0.01 * array(2, 8, 8, 8) + np.array([-5, 5] * 4, "float32")
    expected = reference(x, 4, 1e-5, np.ones(8), np.zeros(8))
    np.testing.assert_allclose(numpy(GroupNorm(4)(x)), expected, atol=1e-5)


def test_group_norm_is_that_of_keras() -> None:
    x = array(2, 6, 6, 8)
    ours, theirs = GroupNorm(2, 1e-5), keras.layers.GroupNormalization(2, epsilon=1e-5)
    theirs.build(x.shape)
    randomize(theirs)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-5)


def test_group_norm_epsilon_counts() -> None:
    # Of a constant image nothing is left but the offset; of one with variance ε, 1/√2 of it.
    x = np.zeros((1, 4, 4, 2), "float32")
    np.testing.assert_array_equal(numpy(GroupNorm(2, 1e-5)(x)), 0.0)
    x[:, ::2] = 2e-3
    np.testing.assert_allclose(np.abs(numpy(GroupNorm(2, 1e-6)(x))), 0.5**0.5, rtol=1e-3)


def test_group_norm_keeps_float32_statistics_under_bfloat16() -> None:
    # In bfloat16 a mean of 4096 numbers would stop growing at 256.
    layer = GroupNorm(1, 1e-5, dtype="mixed_bfloat16")
    out = numpy(layer(array(1, 64, 64, 2) + 1))
    assert abs(out.mean()) < 2e-3 and abs(out.std() - 1) < 2e-3


@pytest.mark.parametrize("channels", [6, None])
def test_group_norm_refuses_channels_that_do_not_divide(channels: int | None) -> None:
    with pytest.raises(ValueError, match="divides by 4 groups. Received: input shape"):
        GroupNorm(4).build((None, 4, 4, channels))
