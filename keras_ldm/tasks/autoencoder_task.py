"""Training the first stage: perceptual compression.

    KL: loss = Σ|x - x̂| + kl_weight · KL(q(z|x) || N(0, I)),   both summed over an image, then averaged
    VQ: loss = mean|x - x̂| + codebook_weight · codebook loss

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G;
`LPIPSWithDiscriminator` (contperceptual.py) of the original code, whose sums these are, and
`VQLPIPSWithDiscriminator` (vqperceptual.py) of taming-transformers.
"""

from functools import partial
from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.backend import in_batch_parts
from keras_ldm.images import check_images, to_floats
from keras_ldm.models import AutoencoderKL, VQModel
from keras_ldm.tasks.task import Task
from keras_ldm.types import Array, Batch, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class AutoencoderTask(Task):
    """Trains an autoencoder to reconstruct images.

    Data are images, or dictionaries with the key "image": uint8, or floats in [-1, 1],
    `(batch, height, width, channels)`.

    Args:
        autoencoder: the model to train.
        reconstruction_loss: "l1" (absolute differences, the paper's) or "l2" (squared).
        kl_weight: of the KL term of an `AutoencoderKL`; the paper uses 1e-6.
        codebook_weight: of the codebook loss of a `VQModel`; the paper uses 1.
        seed: of the draws of latents.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: for a reconstruction loss that is neither of the two.

    Example:

    ```python
    first_stage = keras_ldm.tasks.AutoencoderTask(keras_ldm.models.AutoencoderKL((32, 64, 128)))
    first_stage.fit(images, epochs=10)
    reconstructions = first_stage.predict(images)     # floats in [-1, 1]
    ```
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL | VQModel,
        *,
        reconstruction_loss: Literal["l1", "l2"] = "l1",
        kl_weight: float = 1e-6,
        codebook_weight: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        if reconstruction_loss not in ("l1", "l2"):
            raise ValueError(
                f"Expected `reconstruction_loss` 'l1' or 'l2'. Received: {reconstruction_loss!r}"
            )
        self.autoencoder = autoencoder
        self.reconstruction_loss = reconstruction_loss
        self.kl_weight = kl_weight
        self.codebook_weight = codebook_weight
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.regularization_tracker = keras.metrics.Mean(
            name="codebook_loss" if isinstance(autoencoder, VQModel) else "kl_loss"
        )
        self.built = True

    def preprocess(self, batch: Batch) -> dict[str, Array]:
        """Checks the images."""
        if "image" not in batch:
            raise ValueError(f"Expected the key 'image'. Received: {sorted(batch)}")
        model = self.autoencoder
        return {"image": check_images(batch["image"], model.image_channels, model.downsampling_factor)}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Adam at 5e-4 with the paper's betas."""
        return keras.optimizers.Adam(learning_rate=5e-4, beta_1=0.5, beta_2=0.9, epsilon=1e-8)

    def call(self, inputs: Batch, training: bool = False) -> dict[str, Tensor]:
        """Encodes; draws latents in training (takes the mode otherwise) or quantizes; and decodes."""
        if training:
            self.batches.assign_add(1)
        images, model = to_floats(inputs["image"]), self.autoencoder
        moments = in_batch_parts(partial(model.moments, training=training))(images)
        if isinstance(model, VQModel):
            latents, _, loss = model.quantize(moments)
            regularization = ops.broadcast_to(loss, ops.shape(images)[:1])
            decode = partial(model.decode, training=training, quantize=False)
        else:
            posterior = model.distribution(moments)
            latents = posterior.sample(self.seed_generator) if training else posterior.mode()
            regularization = posterior.kl()
            decode = partial(model.decode, training=training)
        return {"reconstruction": in_batch_parts(decode)(latents), "regularization": regularization}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The sum of both terms: KL with the error summed over an image, codebook with its mean.

        The reported `reconstruction_loss` is the mean in either case.
        """
        difference = to_floats(x["image"]) - y_pred["reconstruction"]
        error = ops.abs(difference) if self.reconstruction_loss == "l1" else ops.square(difference)
        regularization = ops.mean(y_pred["regularization"])
        self.reconstruction_tracker.update_state(ops.mean(error))
        self.regularization_tracker.update_state(regularization)
        if isinstance(self.autoencoder, VQModel):
            return ops.mean(error) + self.codebook_weight * regularization
        return ops.mean(ops.sum(error, axis=(1, 2, 3))) + self.kl_weight * regularization

    def predict(self, x: Any, **kwargs: Any) -> Array:
        """Reconstructs images.

        Returns:
            float32 `(N, height, width, channels)`, clipped to [-1, 1].
        """
        return super().predict(x, **kwargs)["reconstruction"].clip(-1.0, 1.0)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "autoencoder": keras.saving.serialize_keras_object(self.autoencoder),
            "reconstruction_loss": self.reconstruction_loss,
            "kl_weight": self.kl_weight,
            "codebook_weight": self.codebook_weight,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Config) -> "AutoencoderTask":
        """A task from `get_config()`'s value."""
        autoencoder = keras.saving.deserialize_keras_object(config["autoencoder"])
        return cls(**{**config, "autoencoder": autoencoder})
