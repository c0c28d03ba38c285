"""Layers of tokens that are Keras's own, computed another way on TensorFlow: against Keras's."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from keras_ldm import layers
from keras_ldm.layers.dense import Dense
from keras_ldm.layers.layer_norm import LayerNormalization
from tests.contract import array, gradients, numpy, penalty_gradient, randomize

PAIRS = {
    "dense": (
        lambda: Dense(5, activation="tanh"),
        lambda: keras.layers.Dense(5, activation="tanh"),
    ),
    "layer norm": (
        lambda: LayerNormalization(epsilon=1e-3),
        lambda: keras.layers.LayerNormalization(epsilon=1e-3),
    ),
}


def alike(name: str, shape: tuple[int, ...]) -> list[keras.layers.Layer]:
    """Ours and Keras's, with the same weights."""
    pair = [make() for make in PAIRS[name]]
    for layer in pair:
        layer.build(shape)
    randomize(pair[0])
    pair[1].set_weights(pair[0].get_weights())
    return pair


@pytest.fixture(params=[1, 10**9], ids=["in one pass", "in several"])
def passes(request, monkeypatch) -> None:
    """Chains of operations compiled, and not."""
    monkeypatch.setattr("keras_ldm.backend.kernels._MIN_SIZE", request.param)


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(2, 3, 8), (4, 8), (2, 3, 2, 8)])
@pytest.mark.parametrize("name", PAIRS)
def test_values_are_those_of_keras(name: str, shape: tuple[int, ...]) -> None:
    x = 2 * array(*shape) + 0.5
    ours, theirs = alike(name, shape)
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=2e-6)


@pytest.mark.backend
@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_those_of_keras(name: str) -> None:
    x = 2 * array(2, 3, 8) + 0.5
    weights = array(2, 3, 5 if name == "dense" else 8, seed=3)
    pair = alike(name, x.shape)
    values = [keras.ops.convert_to_numpy(variable) for variable in pair[0].trainable_variables]

    def total(layer: keras.layers.Layer) -> Callable:
        def of(x, *values):
            with keras.StatelessScope(list(zip(layer.trainable_variables, values, strict=True))):
                return keras.ops.sum(keras.ops.multiply(layer(x), weights))

        return of

    ours, theirs = (gradients(total(layer), x, *values) for layer in pair)
    for ours_of, theirs_of in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ours_of, theirs_of, atol=1e-5)
    twice = [penalty_gradient(layer, x, weights) for layer in pair]
    np.testing.assert_allclose(*twice, atol=1e-4)


def test_layer_norm_keeps_float32_statistics_under_bfloat16() -> None:
    x = (array(2, 4096) + 8).astype("float32")
    layer = LayerNormalization(epsilon=1e-5, dtype="mixed_bfloat16")
    rounded = numpy(keras.ops.cast(x, "bfloat16"))
    expected = (rounded - rounded.mean(-1, keepdims=True)) / rounded.std(-1, keepdims=True)
    np.testing.assert_allclose(numpy(layer(rounded)), expected, atol=1e-2)


@pytest.mark.parametrize("sides", [(4, 6), (None, None)])
def test_tokens_of_a_batch_of_unknown_size(sides: tuple[int | None, ...]) -> None:
    """With known sides, attention knows how many tokens there are, and nothing asks for a shape."""
    import tensorflow as tf

    layer = layers.SpatialTransformer(2, 4, groups=4)
    image, context = array(3, 4, 6, 8), array(3, 5, 6)
    expected = numpy(layer(image, context))
    traced = tf.function(
        lambda x, c: layer(x, c),
        input_signature=[tf.TensorSpec((None, *sides, 8)), tf.TensorSpec((None, 5, 6))],
    )
    np.testing.assert_allclose(numpy(traced(image, context)), expected, atol=1e-5)
    operations = traced.get_concrete_function().graph.get_operations()
    scores = [x.inputs[0].shape for x in operations if x.type == "Softmax"]
    assert [shape[2] for shape in scores] == ([24, 24] if None not in sides else [None, None])
    if None not in sides:
        assert "Shape" not in {x.type for x in operations}
