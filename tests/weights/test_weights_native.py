"""Weights to publish: what a task draws with comes back, in half precision to half precision."""

import keras
import numpy as np
import pytest

from keras_ldm.files import read_tensors, write_safetensors
from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from keras_ldm.tasks import TextToImage
from keras_ldm.weights import native

pytestmark = pytest.mark.usefixtures("eagerly")

CAPTIONS = ["red heart", "pizza", "sun", "rose"]


def make(seed: int, **options) -> TextToImage:
    keras.utils.set_random_seed(seed)
    encoder = TransformerTextEncoder(dim=8, num_layers=1, max_length=6, num_heads=2, head_dim=4)
    small = {"num_res_blocks": 1, "groups": 4}
    autoencoder = AutoencoderKL((8,), 3, middle_attention=False, **small)
    unet = UNet((8,), 3, 3, context_dim=8, num_heads=2, attention_levels=(), **small)
    return TextToImage(autoencoder, unet, encoder, **{"image_size": 8, "per_channel": True, **options})


@pytest.fixture(scope="module")
def trained() -> TextToImage:
    task = make(0)
    task.compile(keras.optimizers.Adam(0.03))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    task.fit({"image": images, "caption": CAPTIONS}, batch_size=2, epochs=5, verbose=0)
    return task


def draw(task: TextToImage) -> np.ndarray:
    options = {"guidance_scale": 2.0, "num_steps": 3, "seed": 0, "progress": False}
    return task.generate(CAPTIONS[:2], output="latents", **options)


@pytest.mark.backend
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float16", 2e-2)])
def test_another_task_draws_the_same(trained, tmp_path, dtype: str, tolerance: float) -> None:
    path = tmp_path / "model.safetensors"
    native.save(trained, path, dtype)
    other = make(1)
    native.load(other, path)
    expected = draw(trained)
    np.testing.assert_allclose(draw(other), expected, atol=tolerance * np.abs(expected).max())
    mean, std = other.latent_space.mean, other.latent_space.std
    assert np.ptp(keras.ops.convert_to_numpy(std)) > 0  # each channel has its own
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(mean),
        keras.ops.convert_to_numpy(trained.latent_space.mean),
        atol=1e-3,
    )
    with read_tensors(path) as tensors:
        assert {tensors[name].dtype for name in tensors} == {np.dtype(dtype)}


def test_it_is_the_average_that_is_written(trained, tmp_path) -> None:
    native.save(trained, tmp_path / "model.safetensors", "float32")
    kernel = trained.unet.weights[0]
    average = next(average for source, average in trained.ema.pairs() if source is kernel)
    with read_tensors(tmp_path / "model.safetensors") as tensors:
        (written,) = (tensors[n] for n in tensors if n == "unet/" + kernel.path.partition("/")[2])
    np.testing.assert_array_equal(written, keras.ops.convert_to_numpy(average))
    assert np.abs(written - keras.ops.convert_to_numpy(kernel)).max() > 1e-3


def test_training_goes_on_from_it(trained, tmp_path) -> None:
    """What was loaded is the average, too, and no longer that of the values before."""
    native.save(trained, tmp_path / "model.safetensors", "float32")
    other = make(1)
    native.load(other, tmp_path / "model.safetensors")
    for source, average in other.ema.pairs():
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (source, average)))
    assert other.latent_space.is_measured


def test_a_task_without_averages(tmp_path) -> None:
    task, other = make(0, ema_decay=None, latent_scale=0.5), make(1, ema_decay=None)
    native.save(task, tmp_path / "model.safetensors", "float32")
    native.load(other, tmp_path / "model.safetensors")
    np.testing.assert_allclose(draw(other), draw(task), atol=1e-5)


def test_what_is_refused(trained, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="'float16' or 'float32'. Received: 'int8'"):
        native.save(trained, path, "int8")
    with pytest.raises(ValueError, match="Expected a known scale"):
        native.save(make(0), path)
    large = make(0, latent_scale=1.0)
    large.autoencoder.weights[0].assign(large.autoencoder.weights[0] + 1e5)
    with pytest.raises(ValueError, match="finite in float16. Received: autoencoder/.* up to 1e"):
        native.save(large, path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        native.load(trained, tmp_path / "nowhere.safetensors")
    write_safetensors(path, {"unet/kernel": np.zeros(3, "float16")})
    with pytest.raises(ValueError, match="model.safetensors.*missing from it"):
        native.load(trained, path)
