"""Blocks computed twice train as those computed once, in less memory."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.models import AutoencoderKL, UNet, UNetClassifier, VQModel
from tests.contract import array, gradients, numpy, randomize

SMALL = {"num_res_blocks": 1, "groups": 4}
AUTOENCODER = {"channels": (8, 8), "latent_channels": 2, "attention_levels": (1,), **SMALL}


def unet(rematerialize: bool, **kwargs) -> UNet:
    return UNet((8,), 3, 3, num_heads=2, rematerialize=rematerialize, **SMALL, **kwargs)


def test_it_is_in_the_configuration() -> None:
    for make in (unet, lambda r: AutoencoderKL(**AUTOENCODER, rematerialize=r)):
        model = make(True)
        assert type(model).from_config(model.get_config()).rematerialize
        assert not make(False).rematerialize
    assert AutoencoderKL(**AUTOENCODER).encoder.rematerialize is False
    plain = VQModel(num_codes=4, **AUTOENCODER)
    other = VQModel(num_codes=4, rematerialize=True, **AUTOENCODER)
    other.set_weights(plain.get_weights())
    assert other.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize("make", [UNet, AutoencoderKL, UNetClassifier])
def test_dropout_is_refused(make) -> None:
    arguments = (3,) if make is UNetClassifier else ()
    with pytest.raises(ValueError, match=r"no dropout with `rematerialize`.*Received: dropout=0\.1"):
        make(*arguments, channels=(8,), dropout=0.1, rematerialize=True, **SMALL)


@pytest.mark.backend
def test_a_unet_trains_the_same() -> None:
    models = [unet(r, context_dim=5, scale_shift=True) for r in (False, True)]
    randomize(models[0])
    models[1].set_weights(models[0].get_weights())
    latents, tokens = array(2, 4, 4, 3), array(2, 3, 5, seed=1)
    plain, other = (trained(model, latents, tokens) for model in models)
    for one, another in zip(plain, other, strict=True):
        np.testing.assert_allclose(another, one, atol=1e-5)


def trained(model, latents, tokens) -> list[np.ndarray]:
    """The weights after a step of `fit`, of which gradients are the steps."""
    values = {"latents": latents, "timesteps": np.array([3.0, 700.0]), "context": tokens}
    inputs = {name: keras.Input(value.shape[1:], name=name) for name, value in values.items()}
    whole = keras.Model(inputs, model(inputs, training=True))
    whole.compile(keras.optimizers.SGD(1e-3), loss="mse")
    before = model.get_weights()
    whole.fit(values, np.ones_like(latents), batch_size=2, verbose=0)
    assert any((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))
    return model.get_weights()


@pytest.mark.backend
def test_gradients_of_an_autoencoder_are_the_same() -> None:
    models = [AutoencoderKL(**AUTOENCODER, rematerialize=r) for r in (False, True)]
    randomize(models[0])
    models[1].set_weights(models[0].get_weights())
    images = np.tanh(array(2, 8, 8, 3))
    found = []
    for model in models:

        def loss(x, model=model):
            moments = model.moments(x, training=True)
            decoded = model.decode(moments[..., : model.latent_channels], training=True)
            return ops.sum(ops.square(decoded))

        found.append((numpy(loss(ops.convert_to_tensor(images))), *gradients(loss, images)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-4 * np.abs(found[0][1]).max())
