"""The scale of the latents, and training from moments."""

import keras
import numpy as np
import pytest

from keras_ldm.tasks import load
from keras_ldm.tasks.latent_space import LatentSpace
from tests.tasks.tiny import (
    TinyAutoencoder,
    captions,
    images,
    largest_difference,
    latent_diffusion,
    numpy,
    pixel_autoencoder,
    state,
    text_to_image,
)

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]


def contrast(count=40):
    """Images whose channels differ in brightness and contrast."""
    x = images(count, seed=2).astype("float32") * np.array([0.2, 0.5, 1.0], "float32")
    return (x + np.array([100, 20, 0])).clip(0, 255).astype("uint8")


def samples(task, x, draws=20):
    moments = np.repeat(task.encode_moments(x), draws, axis=0).astype("float64")
    mean, logvar = np.split(moments, 2, axis=-1)
    return mean + np.exp(logvar / 2) * np.random.default_rng(0).standard_normal(mean.shape)


def test_measured_scale_is_the_standard_deviation_of_samples() -> None:
    task, x = latent_diffusion(), contrast()
    assert not task.latent_space.is_measured
    task.fit(x, batch_size=8, verbose=0)
    assert task.latent_space.is_measured
    expected = samples(task, x).std()
    assert expected > 0.5
    assert numpy(task.latent_space.std) == pytest.approx(np.full(3, expected), rel=0.02)
    assert numpy(task.latent_space.mean).tolist() == [0.0, 0.0, 0.0]


def test_scale_of_each_channel() -> None:
    task, x = latent_diffusion(per_channel=True), contrast()
    task.fit(x, batch_size=8, verbose=0)
    drawn = samples(task, x).reshape(-1, 3)
    assert numpy(task.latent_space.std) == pytest.approx(drawn.std(axis=0), rel=0.02)
    assert numpy(task.latent_space.mean) == pytest.approx(drawn.mean(axis=0), abs=0.02)
    assert np.ptp(drawn.std(axis=0)) > 0.05
    unit = numpy(task.latent_space(task.encode_moments(x), seed=1))
    # 2,560 values a channel: bounds of four standard errors.
    assert unit.reshape(-1, 3).std(axis=0) == pytest.approx(np.ones(3), abs=0.06)
    assert unit.reshape(-1, 3).mean(axis=0) == pytest.approx(np.zeros(3), abs=0.08)


def test_given_scale_is_kept(tmp_path) -> None:
    task = latent_diffusion(latent_scale=0.18215)
    task.fit(contrast(), batch_size=8, verbose=0)
    assert numpy(task.latent_space.std) == pytest.approx(np.full(3, 1 / 0.18215))


def test_scale_is_measured_once_and_saved(tmp_path) -> None:
    task = latent_diffusion()
    task.fit(contrast(), batch_size=8, verbose=0)
    std = numpy(task.latent_space.std)
    task.fit(images(), batch_size=8, verbose=0)
    assert (numpy(task.latent_space.std) == std).all()
    task.save(tmp_path / "task.keras")
    loaded = load(tmp_path / "task.keras")
    assert loaded.latent_space.is_measured
    loaded.fit(images(), batch_size=8, verbose=0)
    assert (numpy(loaded.latent_space.std) == std).all()


def test_encode_and_decode_are_scaled() -> None:
    task, x = latent_diffusion(latent_scale=0.5), images(3)
    mean = np.split(task.encode_moments(x), 2, axis=-1)[0]
    latents = task.encode_images(x)
    assert np.allclose(latents, 0.5 * mean, atol=1e-6)
    direct = numpy(task.autoencoder.decode(keras.ops.convert_to_tensor(mean)))
    assert np.allclose(task.decode_latents(latents), direct, atol=1e-5)
    assert np.allclose(task.latent_space.decode(latents, batch_size=2), direct, atol=1e-5)
    tensor = keras.ops.convert_to_tensor(latents)
    assert np.allclose(task.latent_space.decode(tensor, batch_size=2), direct, atol=1e-5)
    for wrong in (latents[0], latents[:0], latents[..., :1]):
        with pytest.raises(ValueError, match=r"latents of shape \(N, height, width, 3\)"):
            task.decode_latents(wrong)
    with pytest.raises(ValueError, match="at least one image"):
        task.encode_images(x[:0])


def test_pixels_go_there_and_back() -> None:
    space = LatentSpace(pixel_autoencoder(), per_channel=True)
    x = images(4, size=8).repeat(2, axis=1).repeat(2, axis=2)
    space.measure([space.autoencoder.moments_of(x)])
    latents = space.encode(x)
    assert latents.reshape(-1, 3).std(axis=0) == pytest.approx(np.ones(3), rel=1e-3)
    assert np.allclose(space.decode(latents), x / 127.5 - 1.0, atol=1e-4)


def test_moments_of_many_images_are_those_of_each() -> None:
    task, x = latent_diffusion(), images(7)
    whole, parts = task.encode_moments(x), task.autoencoder.moments_of(x, batch_size=3)
    assert whole.shape == (7, 8, 8, 6)
    assert whole.dtype == np.float32
    assert np.allclose(whole, parts, atol=1e-6)


def test_latents_that_do_not_vary_are_refused() -> None:
    space = LatentSpace(pixel_autoencoder())
    with pytest.raises(ValueError, match="latents that vary.*give `latent_scale`"):
        space.measure([np.concatenate([np.zeros((2, 4, 4, 3)), np.full((2, 4, 4, 3), -40.0)], axis=-1)])


def test_training_on_moments_equals_training_on_images() -> None:
    histories, tasks = [], []
    for key in ("image", "moments"):
        task = text_to_image(dropout=0.1)
        x = images() if key == "image" else task.encode_moments(images())
        task.compile(keras.optimizers.SGD(0.05))
        data = {key: x, "caption": captions()}
        histories.append(task.fit(data, batch_size=4, epochs=2, verbose=0).history["loss"])
        histories.append(task.evaluate(data, batch_size=4, verbose=0))
        assert task.image_size == (16, 16)
        tasks.append(task)
    assert np.allclose(histories[0], histories[2], rtol=1e-5)
    assert histories[1] == pytest.approx(histories[3], rel=1e-5)
    assert largest_difference(*map(state, tasks))[0] < 1e-5


def test_autoencoder_is_frozen_and_shared() -> None:
    model = TinyAutoencoder()
    assert model.trainable_variables
    LatentSpace(model)
    assert not model.trainable_variables
