"""The bundled presets: found by name, and ready to train."""

import zlib
from importlib.resources import files

import keras
import numpy as np
import pytest

from keras_ldm.data import load_emoji
from keras_ldm.metrics import PeakSignalToNoiseRatio, retrieval_at_k
from keras_ldm.models import AutoencoderKL
from keras_ldm.presets import small_text_to_image
from keras_ldm.tasks import AutoencoderTask, LatentDiffusion, Task, TextToImage, register_preset
from keras_ldm.tasks.registry import _PRESETS


def test_text_to_image_draws_at_its_size() -> None:
    task = TextToImage.from_preset("small_text_to_image")
    assert isinstance(task, TextToImage)
    assert task.image_size == (64, 64)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    task.fit({"image": pictures, "caption": ["red heart", "pizza", "sun", "rose"]}, verbose=0)
    images = task.generate("red heart", num_steps=1, seed=0, progress=False)
    assert images.shape == (1, 64, 64, 3)


def test_first_stage_fits_the_second() -> None:
    first = AutoencoderTask.from_preset("small_autoencoder")
    predicted = first.predict(np.zeros((1, 64, 64, 3), "uint8"), verbose=0)
    assert predicted.shape == (1, 64, 64, 3)
    task = small_text_to_image(first.autoencoder)
    assert task.autoencoder is first.autoencoder
    assert task.unet.in_channels == first.autoencoder.latent_channels


@pytest.mark.backend
def test_emoji_draws_what_it_is_asked_for() -> None:
    emoji = load_emoji()
    task = TextToImage.from_preset("emoji")
    prompts = ["red heart", "pizza", "soccer ball", "flag france"]
    images = task.generate(prompts, num_steps=10, seed=0, progress=False)
    targets = [emoji.captions.index(prompt) for prompt in prompts]
    assert retrieval_at_k(images, emoji.images, targets, 1) >= 0.75
    assert task.image_size == (64, 64)


def test_emoji_reconstructs() -> None:
    images = load_emoji().images[::40]
    task = TextToImage.from_preset("emoji")
    psnr = PeakSignalToNoiseRatio(peak=2)
    psnr.update_state(images / 127.5 - 1, task.decode_latents(task.encode_images(images)).clip(-1, 1))
    assert float(psnr.result()) > 29


def test_emoji_is_small() -> None:
    file = files("keras_ldm.presets") / "assets" / "emoji.safetensors"
    with file.open("rb") as stream:
        packed = len(zlib.compress(stream.read(), 6))  # as a wheel does
    assert packed < 40e6


@pytest.mark.backend
def test_unknown_names() -> None:
    with pytest.raises(
        ValueError, match=r"\['emoji', 'small_autoencoder', 'small_text_to_image'\].*'large'"
    ):
        Task.from_preset("large")


@pytest.mark.backend
def test_preset_of_another_task() -> None:
    with pytest.raises(
        ValueError, match="Expected a LatentDiffusion.*small_autoencoder.*AutoencoderTask"
    ):
        LatentDiffusion.from_preset("small_autoencoder")


@pytest.mark.backend
def test_preset_of_ones_own() -> None:
    def mine():
        return AutoencoderTask(
            AutoencoderKL((4,), 2, num_res_blocks=1, groups=2, middle_attention=False)
        )

    register_preset("mine", mine)
    try:
        assert isinstance(Task.from_preset("mine"), keras.Model)
    finally:
        del _PRESETS["mine"]
