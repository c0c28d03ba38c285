"""Text to image: the face of latent diffusion that takes captions and prompts."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ldm.conditioning import Conditioner, TextEmbedder
from keras_ldm.data.batch_sources import to_numpy
from keras_ldm.models import FirstStage, UNet
from keras_ldm.tasks.blending import BlendedConditions
from keras_ldm.tasks.latent_diffusion import LatentDiffusion
from keras_ldm.tasks.rate_distortion import RateDistortion
from keras_ldm.types import Array, Batch, Config


@keras.saving.register_keras_serializable("keras_ldm")
class TextToImage(LatentDiffusion):
    """Latent diffusion conditioned on captions.

    Data are dictionaries of "image" (uint8, or floats in [-1, 1]; or "moments") and "caption"
    (strings, or token ids).

    Args:
        autoencoder: the trained first stage; it is frozen.
        unet: the network to train; its `context_dim` is the text encoder's width.
        text_encoder: `keras_ldm.models.TransformerTextEncoder`, trained together with the U-Net, or
            a `keras_nlp.models.BertBackbone`, which stays frozen.
        tokenizer: "bert_uncased", a keras_nlp tokenizer, or None if captions are token ids.
        caption_dropout: how often a caption is dropped in training, which guidance needs.
        caption_length: tokens a caption is cut or padded to.
        null_tokens: token ids that stand for no caption; by default those of "".
        **kwargs: see `LatentDiffusion`.

    Example:

    ```python
    ldm = keras_ldm.tasks.TextToImage(
        first_stage.autoencoder,
        keras_ldm.models.UNet((64, 128, 256), context_dim=256),
        keras_ldm.models.TransformerTextEncoder(dim=256, num_layers=2),
    )
    ldm.fit({"image": images, "caption": captions}, epochs=100)
    pictures = ldm.generate(["red heart", "blue heart"], seed=0)    # uint8 (2, 64, 64, 3)
    ```
    """

    def __init__(
        self,
        autoencoder: FirstStage,
        unet: UNet,
        text_encoder: keras.Model,
        *,
        tokenizer: Any = "bert_uncased",
        caption_dropout: float = 0.1,
        caption_length: int | None = None,
        null_tokens: Any = None,
        **kwargs: Any,
    ) -> None:
        embedder = TextEmbedder(
            text_encoder,
            tokenizer,
            length=caption_length,
            dropout=caption_dropout,
            null_tokens=null_tokens,
            seed=kwargs.get("seed", 0) + 1,
            name="caption",
        )
        super().__init__(autoencoder, unet, Conditioner({"caption": embedder}), **kwargs)

    def generate(  # type: ignore[override]
        self,
        prompts: str | Sequence[str] | Array | BlendedConditions,
        *,
        negative_prompts: str | Sequence[str] | Array | None = None,
        **kwargs: Any,
    ) -> Array:
        """Draws an image for each prompt.

        Args:
            prompts: one or several strings (or token ids, `(N, length)`), or `BlendedConditions` with
                the name "caption".
            negative_prompts: what to lead away from: one for all, or one for each prompt.
            **kwargs: see `GenerativeTask.generate`: num_steps, guidance_scale, sampler, sigmas, seed,
                image, strength, mask, callback, ...

        Returns:
            uint8 images `(N, height, width, channels)`; N is 1 for a single string.

        Raises:
            ValueError: for prompts that are not strings, or an argument that makes no sense.
        """
        if isinstance(prompts, BlendedConditions):
            count = len(prompts.weights)
            conditions: Batch | BlendedConditions = prompts
        else:
            prompts = [prompts] if isinstance(prompts, str) else prompts
            captions = to_numpy(prompts)
            count = len(np.atleast_1d(captions))
            conditions = {"caption": captions}
        negative = _negative(negative_prompts, count)
        return super().generate(conditions, negative_conditions=negative, **kwargs)

    def interpolate(  # type: ignore[override]
        self,
        prompt: str,
        end_prompt: str | None = None,
        *,
        num_images: int = 8,
        negative_prompts: str | Sequence[str] | Array | None = None,
        **kwargs: Any,
    ) -> Array:
        """Draws images on the way from one prompt to another, from one seed to another, or both.

        Args:
            prompt: of the first image.
            end_prompt: of the last image; by default the same.
            num_images: how many, with both ends.
            negative_prompts: what to lead away from: one for all, or one for each image.
            **kwargs: see `GenerativeTask.interpolate`: seeds; and `generate`.

        Returns:
            uint8 images `(num_images, height, width, channels)`.

        Raises:
            ValueError: for prompts that are not strings, or an argument that makes no sense.
        """
        start, end = (
            {"caption": to_numpy([p])} for p in (prompt, prompt if end_prompt is None else end_prompt)
        )
        negative = _negative(negative_prompts, num_images)
        return super().interpolate(
            start, end, num_images=num_images, negative_conditions=negative, **kwargs
        )

    def invert(  # type: ignore[override]
        self,
        images: Array,
        prompts: str | Sequence[str] | Array,
        *,
        negative_prompts: str | Sequence[str] | Array | None = None,
        **kwargs: Any,
    ) -> Array:
        """The noise that DDIM draws given images of; see `GenerativeTask.invert`.

        Args:
            images: uint8, or floats in [-1, 1], `(N, height, width, channels)`.
            prompts: what they show: one for all, or one for each.
            negative_prompts: what guidance leads away from, with a scale other than 1.
            **kwargs: num_steps, sigmas, guidance_scale, batch_size, progress.

        Returns:
            float32 noise `(N, h, w, c)`, for `initial_latents`.
        """
        conditions = _of_images(prompts, images)
        negative = _negative(negative_prompts, len(conditions["caption"]))
        return super().invert(images, conditions, negative_conditions=negative, **kwargs)

    def rate_distortion(  # type: ignore[override]
        self, images: Array, prompts: str | Sequence[str] | Array, **kwargs: Any
    ) -> RateDistortion:
        """How well images are known after how many bits; see `GenerativeTask.rate_distortion`.

        Args:
            images: uint8, or floats in [-1, 1], `(N, height, width, channels)`.
            prompts: what they show: one for all, or one for each.
            **kwargs: num_steps, sigmas, seed, batch_size, progress.
        """
        return super().rate_distortion(images, _of_images(prompts, images), **kwargs)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        config = super().get_config()
        embedder = config.pop("conditioner")["config"]["embedders"]["caption"]["config"]
        return {
            **config,
            "text_encoder": embedder["encoder"],
            "tokenizer": embedder["tokenizer"],
            "caption_dropout": embedder["dropout"],
            "caption_length": embedder["length"],
            "null_tokens": embedder["null_tokens"],
        }


def _of_images(prompts: str | Sequence[str] | Array, images: Array) -> dict[str, Array]:
    """Conditions of given images from one prompt for all, or one for each."""
    count = len(images) if np.ndim(images) else 1
    return {"caption": to_numpy([prompts] * count if isinstance(prompts, str) else prompts)}


def _negative(prompts: str | Sequence[str] | Array | None, count: int) -> Batch | None:
    """Negative conditions from one prompt for all, or one for each."""
    if prompts is None:
        return None
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if len(prompts) not in (1, count):
        raise ValueError(
            f"Expected one negative prompt, or one for each of the {count} prompts. "
            f"Received: {len(prompts)}"
        )
    return {"caption": to_numpy(prompts)}
