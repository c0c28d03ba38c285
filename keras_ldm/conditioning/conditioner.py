"""All the conditions of a model, each with its embedder."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_ldm.conditioning.embedder import Embedder
from keras_ldm.types import Array, Batch, Conditions, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class Conditioner(keras.layers.Layer):
    """Named embedders, each taking the batch's entry of its name.

    What they give is joined by its name (see `Embedder`): contexts follow each other, maps and vectors
    are laid side by side, in the embedders' order.

    Args:
        embedders: by the key of the batch that each takes.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: dictionary of preprocessed arrays.

    Output: dictionary of `context`, `concat`, `vector` and `class_label`, as far as the embedders give
        them.
    """

    def __init__(self, embedders: Mapping[str, Embedder], **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.embedders = dict(embedders)
        self.built = True

    @property
    def drops(self) -> bool:
        """Whether every condition is dropped now and then in training."""
        return all(embedder.dropout_rate > 0 for embedder in self.embedders.values())

    @property
    def null_known(self) -> bool:
        """Whether the model has learned what stands for no condition, as guidance needs."""
        return all(embedder.null_known for embedder in self.embedders.values())

    def preprocess(self, batch: Batch, latent_sides: tuple[int, ...] | None = None) -> dict[str, Array]:
        """Raw conditions to arrays, on the host.

        Args:
            batch: with an entry for each embedder; others are left alone.
            latent_sides: height and width of the latents, if maps among the conditions should fit them.

        Raises:
            ValueError: if one is missing, its embedder refuses it, or a map does not fit.
        """
        keys = {
            name: next((key for key in (name, *embedder.other_names) if key in batch), "")
            for name, embedder in self.embedders.items()
        }
        missing = [name for name, key in keys.items() if not key]
        if missing:
            raise ValueError(f"Expected the conditions {missing}. Received: {sorted(batch)}")
        arrays = {name: self.embedders[name].preprocess(batch[key]) for name, key in keys.items()}
        if latent_sides is not None:
            sides = self.latent_sides(arrays)
            if sides not in (None, latent_sides):
                raise ValueError(f"Expected maps over latents of {latent_sides}. Received: {sides}")
        return arrays

    def latent_sides(self, arrays: Mapping[str, Array]) -> tuple[int, int] | None:
        """Height and width of the latents that preprocessed maps lie over; None without maps.

        Raises:
            ValueError: if the maps do not lie over the same latents.
        """
        sides = {name: e.latent_sides(arrays[name]) for name, e in self.embedders.items()}
        sides = {name: side for name, side in sides.items() if side is not None}
        if len(set(sides.values())) > 1:
            raise ValueError(f"Expected maps over latents of one size. Received: {sides}")
        return next(iter(sides.values()), None)

    def null(self, batch_size: int) -> dict[str, Array]:
        """Arrays that stand for no condition."""
        return {name: e.null(batch_size) for name, e in self.embedders.items()}

    def call(self, inputs: Conditions, training: bool = False) -> dict[str, Tensor]:
        """Embeds each condition and joins them."""
        parts: dict[str, list[Tensor]] = {}
        for name, embedder in self.embedders.items():
            for key, value in embedder(inputs[name], training=training).items():
                parts.setdefault(key, []).append(value)
        return {
            key: values[0]
            if len(values) == 1
            else ops.concatenate(values, axis=1 if key == "context" else -1)
            for key, values in parts.items()
        }

    def get_config(self) -> Config:
        """The embedders' configurations."""
        return {
            **super().get_config(),
            "embedders": {
                name: keras.saving.serialize_keras_object(e) for name, e in self.embedders.items()
            },
        }

    @classmethod
    def from_config(cls, config: Config) -> "Conditioner":
        """A conditioner from `get_config()`'s value."""
        embedders = {
            name: keras.saving.deserialize_keras_object(e) for name, e in config["embedders"].items()
        }
        return cls(**{**config, "embedders": embedders})
