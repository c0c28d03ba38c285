"""A classifier of noisy latents, whose gradient leads a sampler to a class.

    loss = -log p(class | x, t),   x = √ᾱ_t·z + √(1-ᾱ_t)·noise,   t uniform

Reference: Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4;
`NoisyLatentImageClassifier` (classifier.py) of the original code.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import compile_function, in_batch_parts, share_of_loss, values_of
from keras_ldm.conditioning.embedder import check_integers
from keras_ldm.diffusion import FlowSchedule, Schedule, get_timestep_function, scaled_linear_schedule
from keras_ldm.diffusion.denoiser import network_inputs
from keras_ldm.models import UNetClassifier
from keras_ldm.samplers import ImageNoise, image_seeds
from keras_ldm.tasks.inputs import TaskDataset
from keras_ldm.tasks.latent_space import LatentSpace
from keras_ldm.tasks.task import Task
from keras_ldm.types import Array, Batch, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class NoisyLatentClassifier(Task):
    """Trains a network to tell the class of an image from its noisy latents.

    Data are dictionaries with the keys "image" (or "moments"), as for `LatentDiffusion`, and
    `label_key`: integers `(batch,)`.

    Args:
        latent_space: of the model to guide, `task.latent_space`; its scale must be known.
        network: the classifier to train.
        schedule: noise schedule of the model to guide; by default Stable Diffusion's.
        label_key: of the classes in the data.
        seed: of everything random in training.
        **kwargs: see `keras.Model`.

    Raises:
        ValueError: for a network of other latents, or the schedule of flow matching.

    Example:

    ```python
    network = keras_ldm.models.UNetClassifier(num_classes=10, channels=(64, 128))
    classifier = keras_ldm.tasks.NoisyLatentClassifier(ldm.latent_space, network, ldm.schedule)
    classifier.fit({"image": images, "class_label": labels}, epochs=5)
    ldm.generate(classifier=classifier, classifier_labels=[3, 7], classifier_scale=2.0)
    ```
    """

    def __init__(
        self,
        latent_space: LatentSpace,
        network: UNetClassifier,
        schedule: Schedule | None = None,
        *,
        label_key: str = "class_label",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        channels = latent_space.autoencoder.latent_channels
        if network.in_channels != channels:
            raise ValueError(
                f"Expected a network of {channels} input channels, those of the latents. "
                f"Received: in_channels={network.in_channels}"
            )
        if isinstance(schedule, FlowSchedule):
            raise ValueError(
                "Expected a variance-preserving schedule, such as scaled_linear_schedule(). "
                "Received: a FlowSchedule"
            )
        self.latent_space = latent_space
        self.network = network
        self.schedule = schedule or scaled_linear_schedule()
        self.label_key = label_key
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy")
        self.built = True

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """AdamW at 3e-4 with a weight decay of 0.05, those of the published classifiers."""
        return keras.optimizers.AdamW(learning_rate=3e-4, weight_decay=0.05, epsilon=1e-8)

    # === Training ===

    def preprocess(self, batch: Batch) -> dict[str, Array]:
        """Checks images (or moments) and labels."""
        if self.label_key not in batch:
            raise ValueError(f"Expected the key {self.label_key!r}. Received: {sorted(batch)}")
        factor = self.latent_space.autoencoder.downsampling_factor
        arrays = self.latent_space.preprocess(batch, factor)
        height, width = next(iter(arrays.values())).shape[1:3]
        if "image" in arrays:
            height, width = height // factor, width // factor
        self.check_latent_size((height, width))
        return {**arrays, "label": self.check_labels(batch[self.label_key])}

    def check_latent_size(self, size: tuple[int, ...]) -> None:
        """Refuses latents of a size that the network does not take.

        Args:
            size: height and width of the latents.

        Raises:
            ValueError: if they do not divide by its halvings, or are not those of its attention pooling.
        """
        only, factor = self.network.latent_size, 2 ** (len(self.network.channels) - 1)
        if only is not None and tuple(size) != only:
            raise ValueError(
                f"Expected latents of {only[0]}x{only[1]}, which the classifier's network was made for "
                f"(latent_size). Received: {size[0]}x{size[1]}"
            )
        if any(side % factor for side in size):
            raise ValueError(
                f"Expected latents with sides that divide by {factor}, as the classifier's network "
                f"halves them. Received: {size[0]}x{size[1]}"
            )

    def check_labels(self, labels: Any) -> Array:
        """Labels as int32.

        Raises:
            ValueError: if they are not integers `(batch,)` below the number of classes.
        """
        return check_integers(labels, 1, self.network.num_classes, "labels")

    def _prepare(self, dataset: TaskDataset) -> None:
        self.latent_space.require_measured()

    def call(self, inputs: Batch, training: bool = False) -> dict[str, Tensor]:
        """Draws timesteps and noise, and classifies."""
        if training:
            self._begin_batch()
        seed = self.seed_generator if training else self.evaluation_seed_generator
        latents = self.latent_space.draw(inputs, seed)
        draw_timesteps = get_timestep_function("uniform" if training else "stratified")
        timesteps = draw_timesteps(ops.shape(latents)[0], self.schedule.num_timesteps, seed)
        noise = keras.random.normal(ops.shape(latents), dtype="float32", seed=seed)
        signal, spread = self.schedule.rates_at(timesteps, rank=4)
        noisy = {"latents": signal * latents + spread * noise, "timesteps": timesteps}

        def classify(noisy: Batch) -> Tensor:
            return self.network(noisy, training=training)

        return {"logits": in_batch_parts(classify)(noisy), "label": inputs["label"]}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Cross-entropy, averaged over the batch."""
        logits, labels = y_pred["logits"], y_pred["label"]
        correct = ops.cast(ops.argmax(logits, axis=-1), "int32") == ops.cast(labels, "int32")
        self.accuracy_tracker.update_state(ops.cast(correct, "float32"))
        return share_of_loss(-ops.mean(_chosen(logits, labels)))

    def evaluate(self, x: Any = None, **kwargs: Any) -> Any:
        """Measures loss and accuracy over all timesteps, with the same noise each time."""
        self.latent_space.require_measured()
        return super().evaluate(x, **kwargs)

    # === Use ===

    def predict(  # type: ignore[override]
        self, x: Any, *, timestep: int = 0, seed: int = 0, batch_size: int = 64
    ) -> Array:
        """Probabilities of the classes of images that have the noise of a timestep.

        Args:
            x: images, or a dictionary with the key "image": uint8, or floats in [-1, 1],
                `(N, height, width, channels)`.
            timestep: from 0, the least noise, to the schedule's last.
            seed: of the noise.
            batch_size: images at a time.

        Returns:
            float32 `(N, num_classes)`.

        Raises:
            ValueError: for other images, or a timestep that is none.
        """
        (time,) = check_integers([timestep], 1, self.schedule.num_timesteps, "`timestep`")
        if isinstance(x, Mapping) and "image" not in x:
            raise ValueError(f"Expected the key 'image'. Received: {sorted(x)}")
        latents = self.latent_space.encode(x["image"] if isinstance(x, Mapping) else x)
        self.check_latent_size(latents.shape[1:3])
        noise = ops.convert_to_numpy(ImageNoise(image_seeds(seed, len(latents)))(latents.shape))
        sigma = self.schedule.sigmas[time]
        noisy = (latents + sigma * noise).astype(np.float32)
        values, level = self.network_values(), ops.convert_to_tensor(np.float32(sigma))
        batches = (noisy[i : i + batch_size] for i in range(0, len(noisy), batch_size))
        return np.concatenate(
            [ops.convert_to_numpy(self._probabilities(values, batch, level)) for batch in batches]
        )

    @cached_property
    def _probabilities(self) -> Any:
        def probabilities(x: Tensor, sigma: Tensor) -> Tensor:
            return ops.softmax(self.logits(x, sigma))

        return compile_function(probabilities, self.network.variables)

    def network_values(self) -> list[Tensor]:
        """The present values of the network's variables."""
        return values_of(self.network.variables)

    def logits(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network says of a sampler's state `x = z + sigma * noise`, `(batch, num_classes)`."""
        latents, timesteps = network_inputs(self.schedule, x, sigma)
        logits: Tensor = self.network({"latents": latents, "timesteps": timesteps})
        return logits

    def log_probability(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """The log-probability of one class each, `(batch,)`, for `diffusion.classifier_guidance`."""
        return _chosen(self.logits(x, sigma), labels)

    # === Config ===

    def get_config(self) -> Config:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "latent_space": serialize(self.latent_space),
            "network": serialize(self.network),
            "schedule": serialize(self.schedule),
            "label_key": self.label_key,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Config) -> "NoisyLatentClassifier":
        """A task from `get_config()`'s value."""
        parts = ("latent_space", "network", "schedule")
        nested = {name: keras.saving.deserialize_keras_object(config[name]) for name in parts}
        return cls(**{**config, **nested})


def _chosen(logits: Tensor, labels: Tensor) -> Tensor:
    places = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return ops.sum(places * ops.log_softmax(logits, axis=-1), axis=-1)
