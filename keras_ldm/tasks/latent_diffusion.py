"""Diffusion in the latent space of a frozen autoencoder: semantic compression.

    z = (encode(image) - mean) / std,   x = √ᾱ_t·z + √(1-ᾱ_t)·noise
    loss = weight(t) · |target - unet(x, t, conditions)|²

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.2 and equation 3;
`LatentDiffusion` (ddpm.py) of the original code.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.backend import in_batch_parts, share_of_loss
from keras_ldm.conditioning import Conditioner
from keras_ldm.data import LatentCache
from keras_ldm.diffusion import (
    Schedule,
    get_parameterization,
    get_timestep_function,
    get_weighting,
    scaled_linear_schedule,
)
from keras_ldm.diffusion.weighting import Weighting
from keras_ldm.images import image_sides
from keras_ldm.models import FirstStage, UNet
from keras_ldm.tasks.denoising import DenoisingPrograms
from keras_ldm.tasks.ema import ExponentialMovingAverage
from keras_ldm.tasks.generative_task import GenerativeTask
from keras_ldm.tasks.inference import InferenceNetworks
from keras_ldm.tasks.inputs import TaskDataset
from keras_ldm.tasks.latent_space import LatentSpace
from keras_ldm.tasks.loss_by_timestep import LossByTimestep
from keras_ldm.types import Array, Batch, Conditions, Config, Tensor

_LATENT_BATCHES = 16


@keras.saving.register_keras_serializable("keras_ldm")
class LatentDiffusion(GenerativeTask):
    """Trains a U-Net to denoise latents under any conditions, and draws images with it.

    Data are dictionaries with the key "image" (uint8, or floats in [-1, 1]) and one key for each
    condition; in place of "image" there may be "moments", what `encode_moments` gave for the images,
    which saves encoding them again in each epoch.

    Args:
        autoencoder: the first stage; it is frozen (`trainable = False`).
        unet: the network to train.
        conditioner: makes the U-Net's conditions; None for an unconditional model.
        schedule: noise schedule; by default Stable Diffusion's. `FlowSchedule` is for flow matching.
        parameterization: what the U-Net predicts: "epsilon", "x0", "v" or "flow".
        weighting: how much each noise level counts: "simple", "min_snr", or a weighting object.
        timesteps: how they are drawn in training: "uniform" or "stratified".
        loss: "l2" or "l1".
        latent_scale: what latents are multiplied by, such as 0.18215; None measures it in the first
            `fit`: one over their standard deviation.
        per_channel: when measuring, whether each channel gets a scale and an offset of its own.
        ema_decay: of the average of the weights that `generate` and `evaluate` use; None for none.
        ema_conditioner: whether that is of the conditioner's weights too, not of the U-Net's alone.
        image_size: height and width (or one side) of images to draw; by default those trained on.
        seed: of everything random in training.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: for an unknown name (the message lists the valid ones), or parts that do not fit.
    """

    def __init__(
        self,
        autoencoder: FirstStage,
        unet: UNet,
        conditioner: Conditioner | None = None,
        *,
        schedule: Schedule | None = None,
        parameterization: str = "epsilon",
        weighting: str | Weighting = "simple",
        timesteps: str = "uniform",
        loss: Literal["l1", "l2"] = "l2",
        latent_scale: float | None = None,
        per_channel: bool = False,
        ema_decay: float | None = 0.9999,
        ema_conditioner: bool = True,
        image_size: int | Sequence[int] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        if unet.out_channels != autoencoder.latent_channels:
            raise ValueError(
                f"Expected a U-Net with {autoencoder.latent_channels} output channels, those of the "
                f"autoencoder's latents. Received: out_channels={unet.out_channels}"
            )
        if loss not in ("l1", "l2"):
            raise ValueError(f"Expected `loss` to be 'l1' or 'l2'. Received: {loss!r}")
        self.latent_space = LatentSpace(autoencoder, latent_scale, per_channel, name="latent_space")
        self.autoencoder = autoencoder
        self.unet = unet
        self.conditioner = conditioner
        self.schedule = schedule or scaled_linear_schedule()
        self.parameterization = get_parameterization(parameterization).name
        self.weighting = get_weighting(weighting)
        self.timesteps = timesteps
        self.timestep_function = get_timestep_function(timesteps)
        self.loss_name = loss
        self.ema_decay = ema_decay
        self.image_size = image_sides(image_size)

        self.loss_by_timestep: LossByTimestep | None = None
        self.ema_conditioner = ema_conditioner
        averaged = (self if ema_conditioner else unet).trainable_variables
        if ema_decay is not None:
            self.ema = ExponentialMovingAverage(averaged, ema_decay, name="ema")
        self.inference = InferenceNetworks(unet, conditioner, self.ema)
        self.denoising = DenoisingPrograms(self.inference, self.schedule, self.parameterization)
        self.built = True

    # === Inputs ===

    def preprocess(self, batch: Batch) -> dict[str, Array]:
        """Checks images (or moments) and turns conditions into arrays."""
        arrays = self.latent_space.preprocess(batch, self.image_factor)
        if self.conditioner is not None:
            factor = 1 if "moments" in arrays else self.autoencoder.downsampling_factor
            height, width = next(iter(arrays.values())).shape[1:3]
            arrays.update(self.conditioner.preprocess(batch, (height // factor, width // factor)))
        return arrays

    def _prepare(self, dataset: TaskDataset) -> None:
        if isinstance(dataset.data, LatentCache):
            dataset.data.check_first_stage(self.autoencoder)
        first = dataset.examples(1)[0]
        if self.image_size is None:
            height, width = next(iter(first.values())).shape[1:3]
            factor = self.autoencoder.downsampling_factor if "moments" in first else 1
            self.image_size = (height * factor, width * factor)
        if not self.latent_space.is_measured:
            if dataset.share.others:
                raise ValueError(
                    "Expected `latent_scale`, or a scale from `measure_latents` in one process: others "
                    "read other data. Received: a model without either"
                )
            self.latent_space.measure(
                b["moments"] if "moments" in b else self.encode_moments(b["image"])
                for b in dataset.examples(_LATENT_BATCHES)
            )

    # === Training ===

    def compile(self, optimizer: Any = None, *, diagnostics: bool = False, **kwargs: Any) -> None:
        """Prepares training; without arguments, with defaults that work.

        Args:
            optimizer: see `Task.compile`.
            diagnostics: whether the logs say more: the norm of the gradients, and the loss in each
                quarter of the timesteps, from `loss_quarter1`, the least noise, to `loss_quarter4`.
            **kwargs: see `Task.compile`.
        """
        self.loss_by_timestep = LossByTimestep(self.schedule.num_timesteps) if diagnostics else None
        super().compile(optimizer, diagnostics=diagnostics, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All that is measured."""
        parts = self.loss_by_timestep.means if self.loss_by_timestep is not None else []
        return [*super().metrics, *parts]

    def call(self, inputs: Batch, training: bool = False) -> dict[str, Tensor]:
        """Draws timesteps and noise, and predicts; with the averaged weights outside training."""
        if training:
            self._begin_batch()
        seed = self.seed_generator if training else self.evaluation_seed_generator
        latents = self.latent_space.draw(inputs, seed)
        batch_size = ops.shape(latents)[0]
        draw_timesteps = self.timestep_function if training else get_timestep_function("stratified")
        timesteps = draw_timesteps(batch_size, self.schedule.num_timesteps, seed)
        noise = keras.random.normal(ops.shape(latents), dtype="float32", seed=seed)
        return self.predict_noised(latents, timesteps, noise, inputs, training=training)

    def predict_noised(
        self,
        latents: Tensor,
        timesteps: Tensor,
        noise: Tensor,
        conditions: Conditions,
        training: bool = False,
    ) -> dict[str, Tensor]:
        """What the U-Net predicts at given timesteps and noise, and what it should.

        Args:
            latents: normalized, `(batch, h, w, c)`.
            timesteps: integers, `(batch,)`.
            noise: standard normal, shaped like the latents.
            conditions: the conditioner's inputs, as `preprocess` gives them.
            training: whether to use the weights in training, with dropout, and not the average.

        Returns:
            `output` and `target`, both shaped like the latents; `weight` and `timesteps`, `(batch,)`.
        """
        signal, spread = self.schedule.rates_at(timesteps, rank=4)
        noisy = signal * latents + spread * noise
        with nullcontext() if training or self.ema is None else self.inference.scope():
            output = in_batch_parts(partial(self._predict, training))(noisy, timesteps, conditions)
        target = get_parameterization(self.parameterization).target(latents, noise, signal, spread)
        weights = self.weighting(self.schedule, self.parameterization).astype("float32")
        weight = ops.take(ops.convert_to_tensor(weights), timesteps)
        return {"output": output, "target": target, "weight": weight, "timesteps": timesteps}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Mean over components, weighted by noise level, mean over the batch."""
        difference = y_pred["target"] - y_pred["output"]
        error = ops.abs(difference) if self.loss_name == "l1" else ops.square(difference)
        losses = y_pred["weight"] * ops.mean(error, axis=(1, 2, 3))
        if self.loss_by_timestep is not None:
            self.loss_by_timestep.update(losses, y_pred["timesteps"])
        return share_of_loss(ops.mean(losses))

    def _predict(
        self, training: bool, latents: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        embedded = {} if self.conditioner is None else self.conditioner(conditions, training=training)
        inputs = {"latents": latents, "timesteps": timesteps, **embedded}
        return self.unet(inputs, training=training)

    def evaluate(self, x: Any = None, **kwargs: Any) -> Any:
        """Measures the loss of the averaged weights, with the same noise and timesteps each time."""
        self.latent_space.require_measured()
        return super().evaluate(x, **kwargs)

    # === Config ===

    def get_config(self) -> Config:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "autoencoder": serialize(self.autoencoder),
            "unet": serialize(self.unet),
            "conditioner": serialize(self.conditioner),
            "schedule": serialize(self.schedule),
            "parameterization": self.parameterization,
            "weighting": serialize(self.weighting),
            "timesteps": self.timesteps,
            "loss": self.loss_name,
            "latent_scale": self.latent_space.scale,
            "per_channel": self.latent_space.per_channel,
            "ema_decay": self.ema_decay,
            "ema_conditioner": self.ema_conditioner,
            "image_size": self.image_size,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Config) -> "LatentDiffusion":
        """A task from `get_config()`'s value."""
        nested = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
            if isinstance(value, dict) and "class_name" in value
        }
        return cls(**{**config, **nested})
