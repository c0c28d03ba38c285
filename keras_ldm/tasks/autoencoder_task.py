"""Training the first stage: perceptual compression. Its loss is in `keras_ldm.tasks.reconstruction`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import in_batch_parts, share_of_loss, values_of
from keras_ldm.images import check_training_images, to_floats
from keras_ldm.losses import LPIPS
from keras_ldm.metrics import CodePerplexity, CodeUsage
from keras_ldm.models import Autoencoder, AutoencoderKL, LPIPSNetwork, PatchDiscriminator, VQModel
from keras_ldm.tasks.adversary import Adversary
from keras_ldm.tasks.arguments import check_at_least_zero
from keras_ldm.tasks.ema import ExponentialMovingAverage, averaged
from keras_ldm.tasks.inputs import TaskDataset
from keras_ldm.tasks.optimizers import two_optimizers
from keras_ldm.tasks.reconstruction import ReconstructionLoss, ReconstructionObjective
from keras_ldm.tasks.task import Task
from keras_ldm.types import Array, Batch, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class AutoencoderTask(Task):
    """Trains an autoencoder to reconstruct images.

    Data are images, or dictionaries with the key "image": uint8, or floats in [-1, 1],
    `(batch, height, width, channels)`.

    The reported `loss` is the sum of all terms, the discriminator's too. `evaluate` leaves the
    adversarial terms out of it, as the original does, and uses the averaged weights, if there are any.
    Of a `VQModel` it also says how much of the codebook is in use: `code_usage`, `code_perplexity`.

    Args:
        autoencoder: the model to train.
        reconstruction_loss: "l1" (absolute differences, the paper's) or "l2" (squared).
        log_variance: of the reconstruction's distribution; what it starts from if learned.
        learn_log_variance: whether it is trained.
        perceptual_loss: `keras_ldm.losses.LPIPS()`, or None. Its network is saved with the task.
        perceptual_weight: of LPIPS.
        discriminator: a `PatchDiscriminator`, or None for no adversarial terms.
        adversarial_loss: "hinge", "vanilla" or "non_saturating": see `keras_ldm.losses`.
        discriminator_weight: of the generator's loss; the paper's models have 0.5 (KL), 0.75 (VQ).
        adaptive_weight: whether that is relative to the gradients' norms, as the paper has it.
        discriminator_start: updates of the weights after which the discriminator begins to learn and to
            count; the paper's KL models have 50,001.
        discriminator_factor: of both adversarial terms.
        discriminator_condition: key of maps `(batch, height, width, c)` in the data, floats, that the
            discriminator sees beside the images; None for none.
        kl_weight: of the KL term of an `AutoencoderKL`; the paper uses 1e-6.
        codebook_weight: of the codebook loss of a `VQModel`; the paper uses 1.
        ema_decay: of an average of the autoencoder's weights; None for none.
        seed: of the draws of latents.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: for an unknown loss, numbers out of range, or networks that do not fit.

    Example:

    ```python
    first_stage = keras_ldm.tasks.AutoencoderTask(
        keras_ldm.models.AutoencoderKL((32, 64, 128)),
        perceptual_loss=keras_ldm.losses.LPIPS(),
        discriminator=keras_ldm.models.PatchDiscriminator(),
        discriminator_start=5_000,
    )
    first_stage.fit(images, epochs=10)
    reconstructions = first_stage.predict(images)     # floats in [-1, 1]
    ```
    """

    measures_images = True

    def __init__(
        self,
        autoencoder: AutoencoderKL | VQModel,
        *,
        reconstruction_loss: ReconstructionLoss = "l1",
        log_variance: float = 0.0,
        learn_log_variance: bool = False,
        perceptual_loss: LPIPS | LPIPSNetwork | None = None,
        perceptual_weight: float = 1.0,
        discriminator: PatchDiscriminator | None = None,
        adversarial_loss: str = "hinge",
        discriminator_weight: float = 0.5,
        adaptive_weight: bool = True,
        discriminator_start: int = 0,
        discriminator_factor: float = 1.0,
        discriminator_condition: str | None = None,
        kl_weight: float = 1e-6,
        codebook_weight: float = 1.0,
        ema_decay: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        for name, network, kind in (
            ("autoencoder", autoencoder, Autoencoder),
            ("discriminator", discriminator, PatchDiscriminator | None),
        ):
            if not isinstance(network, kind):
                raise ValueError(f"Expected `{name}` as a model of that kind. Received: {network!r}")
        check_at_least_zero(
            perceptual_weight=perceptual_weight, kl_weight=kl_weight, codebook_weight=codebook_weight
        )
        self.autoencoder = autoencoder
        self.reconstruction_loss = reconstruction_loss
        self.perceptual_network = (
            perceptual_loss.network if isinstance(perceptual_loss, LPIPS) else perceptual_loss
        )
        self.perceptual_weight = perceptual_weight
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.discriminator_condition = discriminator_condition
        self.adversary = None
        if discriminator is not None:
            self.adversary = Adversary(
                discriminator,
                adversarial_loss,
                weight=discriminator_weight,
                adaptive=adaptive_weight,
                factor=discriminator_factor,
                start=discriminator_start,
            )
        self._adversary_config = {
            "discriminator_weight": discriminator_weight,
            "adaptive_weight": adaptive_weight,
            "discriminator_start": discriminator_start,
            "discriminator_factor": discriminator_factor,
        }
        self._check_channels()
        self.objective = ReconstructionObjective(
            reconstruction_loss,
            self.perceptual_network,
            perceptual_weight,
            self.adversary,
            sums=not isinstance(autoencoder, VQModel),
        )
        self.kl_weight = kl_weight
        self.codebook_weight = codebook_weight
        self.initial_log_variance = log_variance
        self.learn_log_variance = learn_log_variance
        self.log_variance = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(log_variance),
            trainable=learn_log_variance,
            name="log_variance",
        )
        self.ema_decay = ema_decay
        if ema_decay is not None:
            self.ema = ExponentialMovingAverage(autoencoder.trainable_variables, ema_decay, name="ema")
        self._make_trackers()
        self.built = True

    def _check_channels(self) -> None:
        channels = self.autoencoder.image_channels
        if not isinstance(self.perceptual_network, LPIPSNetwork | None):
            raise ValueError(
                "Expected `perceptual_loss` as keras_ldm.losses.LPIPS(), or None. "
                f"Received: {self.perceptual_network!r}"
            )
        if self.perceptual_network is not None and channels != 3:
            raise ValueError(
                "Expected an autoencoder of images with 3 channels, which LPIPS takes. "
                f"Received: image_channels={channels}"
            )
        if self.discriminator is None:
            return
        seen = self.discriminator.in_channels
        fits = seen == channels if self.discriminator_condition is None else seen > channels
        if not fits:
            more = "" if self.discriminator_condition is None else ", and those of the condition"
            raise ValueError(
                f"Expected a discriminator with the {channels} channels of the images{more}. "
                f"Received: in_channels={seen}"
            )

    def _make_trackers(self) -> None:
        names = ["reconstruction_loss"]
        names.append("codebook_loss" if isinstance(self.autoencoder, VQModel) else "kl_loss")
        if self.perceptual_network is not None:
            names.append("perceptual_loss")
        if self.adversary is not None:
            names += ["generator_loss", "discriminator_loss", "real_logits", "fake_logits"]
            names.append("generator_weight")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.code_trackers = []
        if isinstance(self.autoencoder, VQModel):
            num_codes = self.autoencoder.quantizer.num_codes
            self.code_trackers = [CodeUsage(num_codes), CodePerplexity(num_codes)]

    # === Inputs ===

    def preprocess(self, batch: Batch) -> dict[str, Array]:
        """Checks the images, and the maps where there are any."""
        if "image" not in batch:
            raise ValueError(f"Expected the key 'image'. Received: {sorted(batch)}")
        model = self.autoencoder
        images = check_training_images(batch["image"], model.image_channels, model.downsampling_factor)
        if self.discriminator_condition is None or self.discriminator is None:
            return {"image": images}
        name = self.discriminator_condition
        if name not in batch:
            raise ValueError(f"Expected the key {name!r}. Received: {sorted(batch)}")
        maps = np.asarray(batch[name], dtype=np.float32)
        expected = (*images.shape[:3], self.discriminator.in_channels - model.image_channels)
        if maps.shape != expected:
            raise ValueError(f"Expected {name!r} of shape {expected}. Received: shape {maps.shape}")
        return {"image": images, "condition": maps}

    def _prepare(self, dataset: TaskDataset) -> None:
        sides = dataset.examples(1)[0]["image"].shape[1:3]
        networks = {"perceptual_loss": self.perceptual_network, "discriminator": self.discriminator}
        for name, network in networks.items():
            if network is not None and min(sides) < network.min_size:
                raise ValueError(
                    f"Expected images of at least {network.min_size} pixels a side, as `{name}` needs. "
                    f"Received: {sides[0]}x{sides[1]}"
                )

    # === Training ===

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Adam at 5e-4 with the paper's betas."""
        return keras.optimizers.Adam(learning_rate=5e-4, beta_1=0.5, beta_2=0.9, epsilon=1e-8)

    def compile(
        self,
        optimizer: Any = None,
        *,
        discriminator_optimizer: keras.optimizers.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Prepares training; without arguments, with defaults that work.

        Args:
            optimizer: by default Adam at a learning rate of 5e-4 with the paper's betas.
            discriminator_optimizer: of the discriminator, where it should have its own; by default
                `optimizer` trains it too.
            **kwargs: see `Task.compile`; `metrics` compare images with reconstructions, in [-1, 1].

        Raises:
            ValueError: if there is no discriminator to optimize.
        """
        if discriminator_optimizer is not None:
            if self.discriminator is None:
                raise ValueError("Expected no `discriminator_optimizer`: the task has no discriminator")
            optimizer = two_optimizers(
                self.default_optimizer() if optimizer is None else optimizer,
                discriminator_optimizer,
                self.discriminator.trainable_variables,
            )
        super().compile(optimizer, **kwargs)

    def call(self, inputs: Batch, training: bool = False) -> dict[str, Tensor]:
        """Encodes; draws latents in training (takes the mode otherwise) or quantizes; and decodes."""
        if training:
            self._begin_batch()
        with nullcontext() if training or self.ema is None else self._averaged():
            return self._reconstruct(to_floats(inputs["image"]), training)

    def _reconstruct(self, images: Tensor, training: bool) -> dict[str, Tensor]:
        model = self.autoencoder
        moments = in_batch_parts(partial(model.moments, training=training))(images)
        if isinstance(model, VQModel):
            latents, indices, loss = model.quantize(moments, training=training)
            outputs: dict[str, Tensor] = {"indices": indices}
            regularization = ops.broadcast_to(loss, ops.shape(images)[:1])
            decode: Callable[..., Any] = partial(model.decode, training=training, quantize=False)
        else:
            posterior = model.distribution(moments)
            outputs = {}
            latents = posterior.sample(self.seed_generator) if training else posterior.mode()
            regularization = posterior.kl()
            decode = partial(model.decode, training=training)
        outputs["regularization"] = regularization
        if self.adversary is None or not training:
            return {**outputs, "reconstruction": in_batch_parts(decode)(latents)}
        decode = partial(model.decode_with_features, training=training)
        reconstruction, features = in_batch_parts(decode)(latents)
        return {**outputs, "reconstruction": reconstruction, "features": features}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The sum of all terms: see `keras_ldm.tasks.reconstruction`."""
        is_kl = not isinstance(self.autoencoder, VQModel)
        loss, terms = self.objective(
            to_floats(x["image"]),
            y_pred["reconstruction"],
            ops.convert_to_tensor(self.log_variance),
            condition=x.get("condition"),
            features=y_pred.get("features"),
            last_layer=None if self.adversary is None else self.autoencoder.decoder.conv_out,
            updates=(self.batches - 1) // self._accumulation_steps,
            training=training,
        )
        terms["kl_loss" if is_kl else "codebook_loss"] = term = ops.mean(y_pred["regularization"])
        for name, value in terms.items():
            self.trackers[name].update_state(value)
        for tracker in self.code_trackers:
            tracker.update_state(y_pred["indices"])
        weight = self.kl_weight if is_kl else self.codebook_weight
        return share_of_loss(loss + weight * term)

    def compute_metrics(
        self, x: Any, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Takes images and clipped reconstructions into the compiled metrics; gives all measures."""
        reconstruction = ops.clip(ops.stop_gradient(y_pred["reconstruction"]), -1.0, 1.0)
        return super().compute_metrics(x, to_floats(x["image"]), reconstruction)

    # === Use ===

    def predict(self, x: Any, **kwargs: Any) -> Array:
        """Reconstructs images, with the averaged weights, where there are any.

        Returns:
            float32 `(N, height, width, channels)`, clipped to [-1, 1].
        """
        self.finish_average()
        return super().predict(x, **kwargs)["reconstruction"].clip(-1.0, 1.0)

    def code_indices(self, x: Any, **kwargs: Any) -> Array:
        """The codes that a `VQModel` chooses for images, with the averaged weights, where there are any.

        Args:
            x: images, as `predict` takes them.
            **kwargs: see `predict`.

        Returns:
            Integers from 0 to the number of codes, `(N, height/f, width/f)`.

        Raises:
            ValueError: if the autoencoder has no codebook.
        """
        if not isinstance(self.autoencoder, VQModel):
            raise ValueError(
                f"Expected a VQModel, which has codes. Received: a {type(self.autoencoder).__name__}"
            )
        self.finish_average()
        return np.asarray(super().predict(x, **kwargs)["indices"])

    def averaged_autoencoder(self) -> AutoencoderKL | VQModel:
        """A copy of the autoencoder, with the averaged weights where there are any."""
        self.finish_average()
        copy = self.autoencoder.__class__.from_config(self.autoencoder.get_config())
        sources = averaged(self.autoencoder.variables, self.ema)
        for own, source in zip(copy.variables, sources, strict=True):
            own.assign(ops.copy(source))  # JAX gives buffers away
        return copy

    def _averaged(self) -> AbstractContextManager[Any]:
        """A scope in which the autoencoder has the averaged weights."""
        variables = self.autoencoder.variables
        values = values_of(averaged(variables, self.ema))
        return keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)))

    # === Config ===

    def get_config(self) -> Config:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "autoencoder": serialize(self.autoencoder),
            "reconstruction_loss": self.reconstruction_loss,
            "log_variance": self.initial_log_variance,
            "learn_log_variance": self.learn_log_variance,
            "perceptual_loss": serialize(self.perceptual_network),
            "perceptual_weight": self.perceptual_weight,
            "discriminator": serialize(self.discriminator),
            "adversarial_loss": self.adversarial_loss,
            **self._adversary_config,
            "discriminator_condition": self.discriminator_condition,
            "kl_weight": self.kl_weight,
            "codebook_weight": self.codebook_weight,
            "ema_decay": self.ema_decay,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Config) -> "AutoencoderTask":
        """A task from `get_config()`'s value."""
        nested: Config = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("autoencoder", "perceptual_loss", "discriminator")
            if name in config
        }
        return cls(**{**config, **nested})
