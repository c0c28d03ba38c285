"""Diffusion in pixels: the first stage that changes nothing."""

import numpy as np
import pytest
from keras import ops

from keras_ldm.models import IdentityFirstStage, Tiling, UNet
from keras_ldm.tasks import LatentDiffusion, load

pytestmark = pytest.mark.backend


def images(count: int = 4, side: int = 8, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), "uint8")


def test_images_come_back() -> None:
    stage, x = IdentityFirstStage(3), images(2, 6, 3)
    floats = x / np.float32(127.5) - 1
    moments = stage.moments(x)
    np.testing.assert_allclose(ops.convert_to_numpy(moments), floats, atol=1e-6)
    assert (stage.downsampling_factor, stage.latent_channels, stage.moment_channels) == (1, 3, 3)
    posterior = stage.distribution(moments)
    np.testing.assert_allclose(ops.convert_to_numpy(stage.decode(posterior.sample())), floats, atol=1e-6)
    np.testing.assert_allclose(stage.predict(x, verbose=0), floats, atol=1e-6)
    small = Tiling(tile_size=4, overlap=2)
    np.testing.assert_allclose(stage.decode_in_tiles(floats, small), floats, atol=1e-5)
    np.testing.assert_allclose(stage.moments_in_tiles(x, small), floats, atol=1e-5)


def test_a_task_in_pixels(tmp_path) -> None:
    """It trains from images, draws, and comes back from a file."""
    unet = UNet((32, 32), 1, 1, num_res_blocks=1)
    task = LatentDiffusion(IdentityFirstStage(1), unet, latent_scale=1.0, ema_decay=None)
    x = images()
    history = task.fit(x, batch_size=2, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    floats = task.decode_latents(task.encode_images(x))
    np.testing.assert_allclose(floats, x / np.float32(127.5) - 1, atol=1e-6)
    settings = {"num_images": 2, "num_steps": 2, "seed": 1, "progress": False}
    drawn = task.generate(**settings)
    assert drawn.shape == (2, 8, 8, 1) and drawn.dtype == np.uint8
    task.save(tmp_path / "pixels.keras")
    again = load(tmp_path / "pixels.keras").generate(**settings)
    assert np.abs(again.astype(int) - drawn).max() <= 1


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="image_channels` >= 1. Received: 0"):
        IdentityFirstStage(0)
