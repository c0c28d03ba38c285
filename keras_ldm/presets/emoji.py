"""A small text-to-image model for 64x64 pictures, as the quickstart trains it.

The builders return models with fresh weights, ready for `fit`.
"""

from keras_ldm.diffusion import scaled_linear_schedule
from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from keras_ldm.tasks import AutoencoderTask, TextToImage, register_preset


def small_autoencoder() -> AutoencoderTask:
    """A first stage with f = 8: 64x64x3 images to 8x8x8 latents."""
    return AutoencoderTask(
        AutoencoderKL(
            channels=(32, 64, 96, 128),
            latent_channels=8,
            num_res_blocks=1,
            middle_attention=False,
            groups=16,
        )
    )


def small_text_to_image(autoencoder: AutoencoderKL | None = None) -> TextToImage:
    """A text-to-image model over the latents of `small_autoencoder`.

    Args:
        autoencoder: a trained first stage; without one, a fresh one.
    """
    return TextToImage(
        autoencoder or small_autoencoder().autoencoder,
        UNet(
            channels=(128, 256),
            in_channels=8,
            out_channels=8,
            context_dim=128,
            num_heads=None,
            head_dim=32,
        ),
        TransformerTextEncoder(
            dim=128, num_layers=2, max_length=24, num_heads=4, head_dim=32, embedding_dim=None
        ),
        schedule=scaled_linear_schedule(),
        parameterization="v",
        timesteps="stratified",
        image_size=64,
    )


register_preset("small_autoencoder", small_autoencoder)
register_preset("small_text_to_image", small_text_to_image)
