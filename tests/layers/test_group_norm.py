"""Group normalization against its formula in float64."""

import keras
import numpy as np
import pytest

from keras_ldm.layers import GroupNorm
from tests.contract import array, gradients, numpy, penalty_gradient, randomize


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


def normalized(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, activation: str | None):
    out = reference(x, 3, 1e-3, gamma, beta)
    return out / (1 + np.exp(-out)) if activation else out


@pytest.mark.parametrize("activation", [None, "silu"])
def test_group_norm_activates(activation: str | None) -> None:
    x = 2 * array(2, 5, 3, 12) + 0.5
    layer = GroupNorm(3, 1e-3, activation)
    layer(x)
    randomize(layer)
    expected = normalized(x, *layer.get_weights(), activation)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=3e-6)


@pytest.fixture(params=[1, 10**9], ids=["in one pass", "in several"])
def passes(request, monkeypatch) -> None:
    """Chains of elementwise operations compiled, and not."""
    monkeypatch.setattr("keras_ldm.backend.kernels._MIN_SIZE", request.param)


@pytest.mark.backend
@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("activation", [None, "silu"])
def test_gradients_of_group_norm_are_those_of_the_formula(activation: str | None) -> None:
    """Against central differences in float64."""
    x, gamma, beta = 2 * array(2, 3, 2, 6) + 0.5, array(6, seed=1), array(6, seed=2)
    weights = array(2, 3, 2, 6, seed=3)  # of the outputs in the sum that is differentiated
    layer = GroupNorm(3, 1e-3, activation)
    layer.build(x.shape)

    def total(x, gamma, beta):
        pairs = [(layer.gamma, gamma), (layer.beta, beta)]
        with keras.StatelessScope(state_mapping=pairs):
            return keras.ops.sum(keras.ops.multiply(layer(x), weights))

    def difference(place: int, index: tuple[int, ...]) -> float:
        sums = []
        for step in (1e-5, -1e-5):
            moved = [value.astype("float64") for value in (x, gamma, beta)]
            moved[place][index] += step
            sums.append((normalized(*moved, activation) * weights).sum())
        return (sums[0] - sums[1]) / 2e-5

    for place, gradient in enumerate(gradients(total, x, gamma, beta)):
        expected = [difference(place, index) for index in np.ndindex(gradient.shape)]
        np.testing.assert_allclose(gradient.ravel(), expected, atol=2e-5)


@pytest.mark.backend
@pytest.mark.usefixtures("passes")
def test_group_norm_can_be_differentiated_twice() -> None:
    """As a gradient penalty does: against the layers of Keras in its place."""
    x, weights = 2 * array(2, 3, 2, 6), array(2, 3, 2, 6, seed=3)
    ours = GroupNorm(3, 1e-3, "silu")
    theirs = keras.Sequential(
        [keras.layers.GroupNormalization(3, epsilon=1e-3), keras.layers.Activation("silu")]
    )
    for layer in (ours, theirs):
        layer.build(x.shape)

    ours, theirs = (penalty_gradient(layer, x, weights) for layer in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_group_norm_refuses_other_activations() -> None:
    with pytest.raises(ValueError, match="None or 'silu'. Received: 'relu'"):
        GroupNorm(2, activation="relu")


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


def test_gradient_goes_through_the_data_once_in_a_batch_of_unknown_size() -> None:
    """As in `fit`: the sides of the images stay known, which compiling goes by."""
    import tensorflow as tf

    layer = GroupNorm(4, 1e-5, "silu")
    layer.build((None, 32, 32, 8))

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 8))])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(layer(x) * weights)
        return tape.gradient(value, x)

    weights = array(3, 32, 32, 8, seed=1)
    x = array(3, 32, 32, 8)
    np.testing.assert_allclose(
        numpy(gradient(x)), gradients(lambda x: tf.reduce_sum(layer(x) * weights), x)[0], atol=1e-6
    )
    calls = [x for x in gradient.get_concrete_function().graph.get_operations() if "Call" in x.type]
    assert len(calls) == 2, "one before SiLU, one of the normalization"
