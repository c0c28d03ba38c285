"""The space that diffusion works in: an autoencoder's latents, brought to unit scale.

    latents = (z - mean) / std,   z ~ encode(image)

The paper divides by one standard deviation, measured in the first batch (section 4.3.2 and appendix
D.1); one for each channel, and an offset, are the usual refinement.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.backend import compile_function, freeze, in_batch_parts, values_of
from keras_ldm.images import check_training_images, to_floats
from keras_ldm.models import FirstStage, Tiling
from keras_ldm.tasks.arguments import check_latents
from keras_ldm.tasks.inputs import TaskDataset
from keras_ldm.types import Array, Batch, Config, Seed, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class LatentSpace(keras.layers.Layer):
    """A frozen autoencoder and the scale of its latents, part of a task's saved state.

    Args:
        autoencoder: the first stage; it is frozen.
        scale: what latents are multiplied by; None until `measure` is called.
        per_channel: whether `measure` gives each channel a scale and an offset of its own.
        **kwargs: see `keras.layers.Layer`.
    """

    def __init__(
        self,
        autoencoder: FirstStage,
        scale: float | None = None,
        per_channel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, "dtype": "float32", **kwargs})
        if scale is not None and not scale > 0:
            raise ValueError(f"Expected a latent scale > 0, or None. Received: {scale}")
        freeze(autoencoder)
        self.autoencoder = autoencoder
        self.scale = scale
        self.per_channel = per_channel
        channels = (autoencoder.latent_channels,)
        self.mean = self.add_weight(shape=channels, initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(
            shape=channels,
            initializer=keras.initializers.Constant(1.0 / (scale or 1.0)),
            trainable=False,
            name="std",
        )
        self.measured = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros" if scale is None else "ones",
            trainable=False,
            name="measured",
        )
        self.built = True

    @property
    def is_measured(self) -> bool:
        """Whether the scale is known."""
        return bool(ops.convert_to_numpy(self.measured))

    def require_measured(self) -> None:
        """Checks that the scale is known.

        Raises:
            ValueError: if it is not.
        """
        if not self.is_measured:
            raise ValueError(
                "Expected a known scale of the latents, which the first `fit` measures or "
                "`latent_scale` gives. Received: a model without either"
            )

    def call(self, moments: Tensor, seed: Seed = None) -> Tensor:
        """Draws latents.

        Args:
            moments: `(batch, h, w, moment_channels)`, as the autoencoder gives them.
            seed: of the draw.

        Returns:
            `(batch, h, w, channels)`, float32, of about unit variance.
        """
        posterior = self.autoencoder.distribution(ops.stop_gradient(moments))
        return (posterior.sample(seed) - self.mean) / self.std

    # === Training on it ===

    def preprocess(self, batch: Batch, factor: int) -> dict[str, Array]:
        """Checks the images, or the moments in their place, of a raw batch.

        Args:
            batch: with the key "image" or "moments".
            factor: what the sides of images must divide by.

        Raises:
            ValueError: if there is neither, or they are not of the form that the autoencoder takes.
        """
        if "moments" in batch:
            moments = np.asarray(batch["moments"], dtype=np.float32)
            expected = self.autoencoder.moment_channels
            if moments.ndim != 4 or moments.shape[-1] != expected:
                raise ValueError(
                    f"Expected moments of shape (batch, height, width, {expected}). "
                    f"Received: shape {moments.shape}"
                )
            return {"moments": moments}
        if "image" in batch:
            return {
                "image": check_training_images(batch["image"], self.autoencoder.image_channels, factor)
            }
        raise ValueError(f"Expected the key 'image' or 'moments'. Received: {sorted(batch)}")

    def draw(self, inputs: Batch, seed: Seed) -> Tensor:
        """Latents of what `preprocess` gave, `(batch, h, w, channels)`, of about unit variance."""
        moments = inputs.get("moments")
        if moments is None:
            moments = in_batch_parts(self.autoencoder.moments)(to_floats(inputs["image"]))
        return self(moments, seed=seed)

    # === Whole datasets, compiled ===

    @cached_property
    def _compiled_decode(self) -> Any:
        def decode(latents: Tensor) -> Tensor:
            return self.autoencoder.decode(latents * self.std + self.mean)

        return compile_function(in_batch_parts(decode), self.variables)

    def encode(self, images: Array, tiling: Tiling | None = None) -> Array:
        """Latents of images at unit scale, without noise (the mode); `tiling` as `moments` takes it."""
        self.require_measured()
        moments = ops.convert_to_tensor(self.autoencoder.moments_of(images, tiling=tiling))
        mean = ops.convert_to_numpy(self.autoencoder.distribution(moments).mode())
        return np.asarray((mean - ops.convert_to_numpy(self.mean)) / ops.convert_to_numpy(self.std))

    def decode(self, latents: Tensor, batch_size: int = 16, tiling: Tiling | None = None) -> Array:
        """Images, floats about in [-1, 1], from latents at unit scale, so many at a time.

        `tiling` cuts large ones; by default each is decoded whole.

        Raises:
            ValueError: if they are not the autoencoder's latents, at least one.
        """
        self.require_measured()
        count = check_latents(latents, self.autoencoder.latent_channels)[0]
        if tiling is not None:
            std, mean = (ops.convert_to_numpy(x) for x in (self.std, self.mean))
            return self.autoencoder.decode_in_tiles(ops.convert_to_numpy(latents) * std + mean, tiling)
        values = values_of(self.variables)
        batches = (latents[start : start + batch_size] for start in range(0, count, batch_size))
        return np.concatenate(
            [
                ops.convert_to_numpy(self._compiled_decode(values, ops.convert_to_tensor(batch)))
                for batch in batches
            ]
        )

    def measure(self, batches: Iterable[Array]) -> None:
        """Sets the scale from batches of moments, each looked at once.

        Args:
            batches: each `(batch, h, w, moment_channels)`.

        Raises:
            ValueError: if the latents do not vary, as those of an untrained model may not, or there
                are none.
        """
        count, total, squares, spread = 0, 0.0, 0.0, 0.0  # sums over each channel, in float64
        for moments in batches:
            posterior = self.autoencoder.distribution(ops.convert_to_tensor(moments))
            mean, variance = (
                ops.convert_to_numpy(x).astype(np.float64).reshape(-1, self.autoencoder.latent_channels)
                for x in (posterior.mean, posterior.variance)
            )
            count += len(mean)
            total = total + mean.sum(axis=0)
            squares = squares + np.square(mean).sum(axis=0)
            spread = spread + variance.sum(axis=0)
        if not count:
            raise ValueError("Expected moments of latents. Received: none")
        averages = np.array([total, squares, spread]) / count
        if not self.per_channel:
            averages = averages.mean(axis=1, keepdims=True)
        offset = averages[0] if self.per_channel else 0.0
        variance = averages[1] - np.square(averages[0]) + averages[2]
        if not np.all(np.isfinite(variance)):
            raise ValueError("Expected finite moments of latents. Received: NaN or infinity")
        if not np.all(variance > 1e-12):
            raise ValueError(
                "Expected latents that vary. Received: an autoencoder whose latents have the "
                f"variance {variance}; train it first, or give `latent_scale`"
            )
        channels = self.mean.shape
        self.mean.assign(np.broadcast_to(offset, channels).astype("float32"))
        self.std.assign(np.broadcast_to(np.sqrt(variance), channels).astype("float32"))
        self.measured.assign(1)

    def measure_data(self, data: Any, batch_size: int | None, steps: int | None, progress: bool) -> None:
        """Sets the scale by a pass over images or moments: see `GenerativeTask.measure_latents`."""
        factor = self.autoencoder.downsampling_factor
        dataset = TaskDataset(
            data, lambda batch: self.preprocess(batch, factor), batch_size=batch_size, steps=steps
        )
        dataset.on_epoch_begin()
        bar = tqdm(range(dataset.num_batches), "measuring", disable=not progress)
        batches = (dataset[index] for index in bar)
        self.measure(
            b["moments"] if "moments" in b else self.autoencoder.moments_of(b["image"]) for b in batches
        )
        dataset.on_epoch_end()

    # === Config ===

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "autoencoder": keras.saving.serialize_keras_object(self.autoencoder),
            "scale": self.scale,
            "per_channel": self.per_channel,
        }

    @classmethod
    def from_config(cls, config: Config) -> "LatentSpace":
        """A latent space from `get_config()`'s value."""
        autoencoder = keras.saving.deserialize_keras_object(config["autoencoder"])
        return cls(**{**config, "autoencoder": autoencoder})
