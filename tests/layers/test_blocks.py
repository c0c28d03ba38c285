"""Residual blocks, resampling, embeddings, rows of layers: against their formulas."""

import keras
import numpy as np
import pytest

from keras_ldm import layers
from tests.contract import array, gradients, numpy, randomize


def convolve(x: np.ndarray, layer: object) -> np.ndarray:
    """A 3x3 convolution with stride 1, without padding, in float64."""
    kernel, bias = (w.astype("float64") for w in layer.get_weights())
    height, width = x.shape[1] - kernel.shape[0] + 1, x.shape[2] - kernel.shape[1] + 1
    out = np.zeros((len(x), height, width, kernel.shape[-1])) + bias
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            out += x[:, i : i + height, j : j + width] @ kernel[i, j]
    return out


def pad(x: np.ndarray, before: int = 1, after: int = 1) -> np.ndarray:
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x.astype("float64")))


@pytest.mark.parametrize("padding, before", [("symmetric", 1), ("asymmetric", 0)])
@pytest.mark.parametrize("size", [pytest.param((4, 6), marks=pytest.mark.backend), (5, 7)])
def test_downsample_pads_as_its_original(padding: str, before: int, size: tuple[int, int]) -> None:
    x = array(2, *size, 3)
    layer = layers.Downsample(4, padding)
    layer(x)
    randomize(layer)
    expected = convolve(pad(x, before, 1), layer.conv)[:, ::2, ::2]
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


def test_downsample_refuses_other_paddings() -> None:
    with pytest.raises(ValueError, match="asymmetric.*Received: 'same'"):
        layers.Downsample(4, "same")


@pytest.mark.backend
def test_upsample_repeats_then_convolves() -> None:
    x = array(2, 3, 4, 3)
    layer = layers.Upsample(5)
    layer(x)
    randomize(layer)
    expected = convolve(pad(x.repeat(2, axis=1).repeat(2, axis=2)), layer.conv)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-5)


@pytest.mark.backend
def test_gradients_of_upsample_are_those_of_repeating_and_convolving() -> None:
    x, weights = array(2, 3, 4, 3), array(2, 6, 8, 5, seed=1)
    layer = layers.Upsample(5)
    layer(x)
    randomize(layer)
    kernel, bias = layer.get_weights()

    def ours(x, kernel, bias):
        pairs = [(layer.conv.kernel, kernel), (layer.conv.bias, bias)]
        with keras.StatelessScope(state_mapping=pairs):
            return keras.ops.sum(keras.ops.multiply(layer(x), weights))

    def plain(x, kernel, bias):
        convolved = keras.ops.conv(
            layers.repeat_pixels(x), kernel, padding="same", data_format="channels_last"
        )
        return keras.ops.sum(keras.ops.multiply(convolved + bias, weights))

    for actual, expected in zip(
        gradients(ours, x, kernel, bias), gradients(plain, x, kernel, bias), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=2e-5)


@pytest.mark.parametrize("channels", [4, pytest.param(6, marks=pytest.mark.backend)])
def test_residual_block_is_its_formula(channels: int) -> None:
    x, embedding = array(2, 4, 5, 4), array(2, 7, seed=1)
    layer = layers.ResidualBlock(channels, embedding_dim=7, groups=2, epsilon=1e-5)
    layer(x, embedding)
    randomize(layer)
    h = convolve(pad(numpy(layer.norm1(x))), layer.conv1)
    kernel, bias = layer.embedding_projection.get_weights()
    h = h + (silu(embedding) @ kernel + bias)[:, None, None]
    h = convolve(pad(numpy(layer.norm2(h.astype("float32")))), layer.conv2)
    skip = x if channels == 4 else convolve(x, layer.skip)
    assert (layer.skip is None) == (channels == 4)
    assert layer.norm1.activation == layer.norm2.activation == "silu"
    np.testing.assert_allclose(numpy(layer(x, embedding)), skip + h, atol=5e-5)


@pytest.mark.parametrize("zero_init", [True, False])
def test_zero_init_makes_a_residual_block_start_as_its_skip(zero_init: bool) -> None:
    x = array(1, 4, 4, 4)
    out = numpy(layers.ResidualBlock(4, groups=2, zero_init=zero_init)(x))
    assert np.array_equal(out, x) == zero_init


@pytest.mark.parametrize("dim", [8, pytest.param(9, marks=pytest.mark.backend), 3, 1])
def test_sinusoidal_embedding_is_the_formula(dim: int) -> None:
    timesteps = np.array([0, 1, 37, 998, 999], "int32")
    half = dim // 2
    expected = np.zeros((5, dim))
    for i in range(half):
        angle = timesteps * 1000.0 ** (-i / half)
        expected[:, i], expected[:, half + i] = np.cos(angle), np.sin(angle)
    layer = layers.SinusoidalEmbedding(dim, max_period=1000.0)
    np.testing.assert_allclose(numpy(layer(timesteps)), expected, atol=2e-4)


def test_sinusoidal_embedding_tells_timesteps_apart_under_bfloat16() -> None:
    layer = layers.SinusoidalEmbedding(32, dtype="mixed_bfloat16")
    a, b = numpy(layer(np.array([999, 1000], "float32")))
    assert np.abs(a - b).max() > 0.5


def test_conditional_sequential_gives_each_layer_what_it_takes() -> None:
    x, embedding, context = array(2, 4, 4, 4), array(2, 6, seed=1), array(2, 3, 5, seed=2)
    row = layers.ConditionalSequential(
        [
            layers.Upsample(4),
            layers.ResidualBlock(8, embedding_dim=6, groups=2),
            layers.SpatialTransformer(2, 4, groups=2),
        ]
    )
    row(x, embedding, context)
    randomize(row)
    up, block, transformer = row.layers
    expected = numpy(transformer(block(up(x), embedding), context))
    np.testing.assert_allclose(numpy(row(x, embedding, context)), expected, atol=1e-5)


def test_conditional_sequential_passes_training_on() -> None:
    x = array(2, 4, 4, 4)
    row = layers.ConditionalSequential([layers.ResidualBlock(4, groups=2, dropout=0.5, seed=0)])
    out = numpy(row(x))
    np.testing.assert_array_equal(numpy(row(x, training=False)), out)
    assert np.abs(numpy(row(x, training=True)) - out).max() > 0.01
