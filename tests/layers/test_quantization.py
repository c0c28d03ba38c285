"""Vector quantization against its equations, written out."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.backend import compile_function, values_of
from keras_ldm.layers import VectorQuantizer, quantization
from tests.contract import array, numpy

pytestmark = pytest.mark.backend

Z = array(2, 3, 4, 5)
CODES = array(7, 5, seed=1)


def quantizer(**kwargs) -> VectorQuantizer:
    layer = VectorQuantizer(7, **kwargs)
    layer.build((None, None, None, 5))
    layer.codebook.assign(CODES)
    return layer


def test_nearest_codes() -> None:
    latents, indices, _ = quantizer()(Z)
    nearest = np.argmin(((Z[..., None, :] - CODES) ** 2).sum(-1), axis=-1)
    np.testing.assert_array_equal(numpy(indices), nearest)
    np.testing.assert_allclose(numpy(latents), CODES[nearest], atol=1e-6)
    assert len(np.unique(nearest)) > 3


@pytest.mark.parametrize("legacy", [True, False])
def test_loss(legacy) -> None:
    layer = quantizer(beta=0.3, legacy=legacy)
    nearest = CODES[numpy(layer(Z).indices).astype(int)]
    assert float(layer(Z).codebook_loss) == pytest.approx(1.3 * ((Z - nearest) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("legacy", [True, False])
def test_each_side_is_pulled_by_its_term(legacy) -> None:
    """By finite differences: moved codes or moved latents, the other side held."""
    layer = quantizer(beta=0.3, legacy=legacy)
    z = keras.Variable(Z)
    before = float(layer(z).codebook_loss)
    gradients = _gradients(layer, z)
    nearest = CODES[numpy(layer(Z).indices).astype(int)]
    to_latents, to_codes = (1.0, 0.3) if legacy else (0.3, 1.0)
    np.testing.assert_allclose(
        gradients["z"], to_latents * 2 * (Z - nearest) / Z.size, rtol=1e-4, atol=1e-7
    )
    expected = np.zeros_like(CODES)
    np.add.at(expected, numpy(layer(Z).indices).astype(int), to_codes * 2 * (nearest - Z) / Z.size)
    np.testing.assert_allclose(gradients["codes"], expected, rtol=1e-4, atol=1e-7)
    assert before > 0


def test_gradient_passes_straight_through() -> None:
    weights = array(*Z.shape, seed=3)

    class Straight(keras.Model):
        def __init__(self):
            super().__init__()
            self.z = self.add_weight(shape=Z.shape, name="z")
            self.quantizer = quantizer()
            self.built = True

        def call(self, inputs, training=False):
            return self.quantizer(self.z).latents

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.sum(ops.multiply(y_pred, weights))

    model = Straight()
    model.z.assign(Z)
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(np.zeros((1, 1)), verbose=0)
    np.testing.assert_allclose(Z - numpy(model.z), weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(numpy(model.quantizer.codebook), CODES)


def _gradients(layer, z) -> dict[str, np.ndarray]:
    """What one step of gradient descent takes away."""

    class Loss(keras.Model):
        def __init__(self):
            super().__init__()
            self.z = self.add_weight(shape=Z.shape, name="z")
            self.quantizer = layer
            self.built = True

        def call(self, inputs, training=False):
            return self.quantizer(self.z).codebook_loss

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return y_pred

    model = Loss()
    model.z.assign(z)
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(np.zeros((1, 1)), verbose=0)
    result = {"z": Z - numpy(model.z), "codes": CODES - numpy(layer.codebook)}
    layer.codebook.assign(CODES)
    return result


def test_compiled() -> None:
    layer = quantizer()
    compiled = compile_function(lambda z: tuple(layer(z)), layer.variables)
    for a, b in zip(
        compiled(values_of(layer.variables), ops.convert_to_tensor(Z)), layer(Z), strict=True
    ):
        np.testing.assert_allclose(numpy(a), numpy(b), atol=1e-5)


def test_bad_number_of_codes() -> None:
    with pytest.raises(ValueError, match="`num_codes` >= 1. Received: 0"):
        VectorQuantizer(0)


def test_distances_in_parts_are_the_same(monkeypatch) -> None:
    layer = quantizer()
    whole = layer(Z)
    for size in (7, 5 * 7, 23 * 7, 24 * 7):  # rows: 1, 5 (24 do not divide by it), 23, 24
        monkeypatch.setattr(quantization, "_MAX_SCORES", size)
        compiled = compile_function(lambda z: tuple(layer(z)), layer.variables)
        for part in (layer(Z), compiled(values_of(layer.variables), ops.convert_to_tensor(Z))):
            for a, b in zip(part, whole, strict=True):
                np.testing.assert_allclose(numpy(a), numpy(b), atol=1e-6)


def test_cosine_distance() -> None:
    latents, indices, loss = quantizer(distance="cosine", beta=0.3)(Z)
    unit, codes = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (Z, CODES))
    nearest = np.argmax(unit @ codes.T, axis=-1)
    np.testing.assert_array_equal(numpy(indices), nearest)
    np.testing.assert_allclose(numpy(latents), codes[nearest], atol=1e-6)
    assert float(loss) == pytest.approx(1.3 * ((unit - codes[nearest]) ** 2).mean(), rel=1e-4)
    plain = quantizer()(Z).indices
    assert (numpy(plain) != nearest).any()


def averaging(**kwargs) -> VectorQuantizer:
    return quantizer(ema_decay=0.9, **kwargs)


def test_codes_follow_averages() -> None:
    layer = averaging(beta=0.3)
    assert not layer.trainable_variables
    counts, sums, codes, flat = np.ones(7), CODES.copy(), CODES, Z.reshape(-1, 5)
    for _ in range(3):
        nearest = np.argmin(((flat[:, None] - codes) ** 2).sum(-1), axis=-1)
        loss = layer(Z, training=True).codebook_loss
        assert float(loss) == pytest.approx(0.3 * ((flat - codes[nearest]) ** 2).mean(), rel=1e-4)
        one_hot = np.eye(7)[nearest]
        counts = 0.9 * counts + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ flat
        smoothed = (counts + 1e-5) / (counts.sum() + 7e-5) * counts.sum()
        codes = sums / smoothed[:, None]
        np.testing.assert_allclose(numpy(layer.codebook), codes, rtol=1e-4, atol=1e-5)
    layer(Z)
    np.testing.assert_allclose(numpy(layer.codebook), codes, rtol=1e-4, atol=1e-5)


def test_a_dead_code_restarts_at_a_latent() -> None:
    layer = averaging(restart_below=0.5)
    far = CODES.copy()
    far[2] = 1e3
    layer.codebook.assign(far)
    layer.counts.assign([1, 1, 0.2, 1, 1, 1, 1])
    layer(Z, training=True)
    flat, code = Z.reshape(-1, 5), numpy(layer.codebook)[2]
    assert np.abs(flat - code).max(axis=1).min() < 1e-3
    assert float(layer.counts[2]) == 0.5
    alive = numpy(layer.counts) != 0.5
    assert alive.sum() == 6
    again = averaging(restart_below=0.5)
    again(Z, training=True)
    assert (numpy(again.counts) > 0.5).all()


def test_codes_that_may_restart_begin_at_latents() -> None:
    latents = 50 + np.random.default_rng(0).standard_normal((64, 3)).astype("float32")
    layer = VectorQuantizer(20, ema_decay=0.98, restart_below=0.25)
    layer(latents)  # outside training nothing moves
    assert np.abs(numpy(layer.codebook)).max() <= 1 / 20
    layer(latents, training=True)
    apart = np.abs(latents[None] - numpy(layer.codebook)[:, None]).max(axis=-1).min(axis=1)
    on_latents = apart < 1e-2
    assert on_latents.sum() >= 19  # one code, the nearest of all, may be at their mean
    mean = latents.mean(axis=0)
    np.testing.assert_allclose(numpy(layer.codebook)[~on_latents], mean[None], atol=1e-2)
    assert np.unique(numpy(layer(latents).indices)).size > 10


@pytest.mark.parametrize("restart_below", [None, 0.25])
def test_assigned_codes_stay_where_they_are(restart_below) -> None:
    latents = np.random.default_rng(0).standard_normal((64, 3)).astype("float32")
    given = 10 * np.random.default_rng(1).standard_normal((20, 3)).astype("float32")
    layer = VectorQuantizer(20, ema_decay=0.98, restart_below=restart_below)
    layer.build(latents.shape)
    layer.codebook.assign(given)
    chosen = np.unique(numpy(layer(latents).indices).astype(int))
    layer(latents, training=True)
    alone = np.setdiff1d(np.arange(20), chosen)
    np.testing.assert_allclose(numpy(layer.codebook)[alone], given[alone], rtol=1e-4)
    assert np.abs(numpy(layer.codebook)[chosen] - given[chosen]).max() > 0.1


def test_more_codes_than_latents() -> None:
    layer = VectorQuantizer(50, ema_decay=0.5, restart_below=0.3)
    for _ in range(20):
        latents, _, loss = layer(Z[:1, :1], training=True)
    np.testing.assert_allclose(numpy(latents), Z[:1, :1], atol=0.05)
    assert np.isfinite(numpy(layer.codebook)).all() and float(loss) < 1e-3


def test_bad_arguments() -> None:
    for arguments, message in (
        ({"distance": "l2"}, "'euclidean' or 'cosine'. Received: 'l2'"),
        ({"ema_decay": 1.0}, r"\[0, 1\), or None. Received: 1.0"),
        ({"restart_below": 1.0}, "together with `ema_decay`"),
        ({"restart_below": 0.0, "ema_decay": 0.9}, "`restart_below` > 0"),
        ({"restart_below": np.inf, "ema_decay": 0.9}, "`restart_below` > 0"),
        ({"beta": np.nan}, "finite `beta`"),
    ):
        with pytest.raises(ValueError, match=message):
            VectorQuantizer(7, **arguments)
