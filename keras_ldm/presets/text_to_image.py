"""Text-to-image models for 64x64 pictures: as the quickstart trains it, and one that is trained.

The small ones have fresh weights, ready for `fit`, and sizes chosen so that both stages train in
minutes on two CPU cores. `emoji` has the weights that `examples/train_emoji.py` has trained.
"""

from importlib.resources import as_file, files

import numpy as np

from keras_ldm.diffusion import linear_schedule
from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from keras_ldm.tasks import AutoencoderTask, TextToImage, register_preset
from keras_ldm.weights import native
from keras_ldm.weights.initialization import no_random_values

_LATENT_CHANNELS = 16


def small_autoencoder() -> AutoencoderTask:
    """A first stage with f = 8: 64x64x3 images to 8x8x16 latents.

    Its latents start with a standard deviation of exp(-3.5), not 1: a short training then need not
    spend its first steps on getting rid of noise that drowns the signal. The weight of the KL term is
    far above the paper's 1e-6, which leaves latents that a short training cannot learn to draw cleanly.
    """
    autoencoder = AutoencoderKL(
        channels=(16, 32, 64, 128),
        latent_channels=_LATENT_CHANNELS,
        num_res_blocks=1,
        middle_attention=False,
        groups=8,
    )
    mean, logvar = np.zeros(_LATENT_CHANNELS), np.full(_LATENT_CHANNELS, -7.0)
    autoencoder.to_moments.bias.assign(np.concatenate([mean, logvar]))
    return AutoencoderTask(autoencoder, reconstruction_loss="l2", kl_weight=2e-3)


def small_text_to_image(autoencoder: AutoencoderKL | None = None) -> TextToImage:
    """A text-to-image model over the latents of `small_autoencoder`.

    The linear schedule spends more of its timesteps at high noise than Stable Diffusion's, and it is
    there that the caption decides.

    Args:
        autoencoder: a trained first stage; without one, a fresh one.
    """
    return TextToImage(
        autoencoder or small_autoencoder().autoencoder,
        UNet(
            channels=(96, 192),
            in_channels=_LATENT_CHANNELS,
            out_channels=_LATENT_CHANNELS,
            num_res_blocks=1,
            attention_levels=(1,),
            context_dim=128,
            num_heads=None,
            head_dim=32,
        ),
        TransformerTextEncoder(dim=128, num_layers=1, max_length=24, num_heads=4, head_dim=32),
        schedule=linear_schedule(),
        parameterization="v",
        timesteps="stratified",
        image_size=64,
    )


def emoji() -> TextToImage:
    """A text-to-image model that draws emoji from captions, trained on the 1,892 that ship with it.

    It is `small_text_to_image` after a training of 92 minutes on 2 CPU cores by
    `examples/train_emoji.py`, whose docstring has its scores. Prompts are captions such as "red heart",
    "cat face" or "flag france"; words in other company it seldom understands.

    Raises:
        FileNotFoundError: if its weights are missing from the installed package.

    Example:

    ```python
    task = keras_ldm.tasks.TextToImage.from_preset("emoji")
    pictures = task.generate(["red heart", "pizza"], seed=0)    # uint8 (2, 64, 64, 3)
    ```
    """
    with no_random_values():
        task = small_text_to_image()
    with as_file(files("keras_ldm.presets") / "assets" / "emoji.safetensors") as path:
        native.load(task, path)
    return task


register_preset("emoji", emoji)
register_preset("small_autoencoder", small_autoencoder)
register_preset("small_text_to_image", small_text_to_image)
