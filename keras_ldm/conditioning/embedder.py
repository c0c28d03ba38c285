"""What every embedder of a condition is."""

from abc import abstractmethod
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.types import Array, Tensor


class Embedder(keras.layers.Layer):
    """From one raw condition to what the U-Net takes.

    A subclass gives `preprocess` (raw values to an array, on the host), `null` (arrays that stand for no
    condition) and `embed` (the array to a dictionary of `context`, cross-attention tokens; `concat`,
    maps appended to the latents; `vector`, added to the timestep embedding; or `class_label`).

    Args:
        dropout: how often, in training, the condition is replaced by `null`, so that the model also
            learns to do without (classifier-free guidance).
        null_known: whether the model has learned that `null` stands for no condition; by default if
            `dropout` is above 0.
        seed: of that dropout.
        **kwargs: see `keras.layers.Layer`.

    Attributes:
        other_names: of the batch's entry, beside the name that the `Conditioner` gives the embedder.

    Raises:
        ValueError: for a dropout outside [0, 1).
    """

    other_names: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        null_known: bool | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if not 0 <= dropout < 1:
            raise ValueError(f"Expected a dropout rate in [0, 1). Received: {dropout}")
        self.dropout_rate = dropout
        self.null_known = dropout > 0 if null_known is None else null_known
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @abstractmethod
    def preprocess(self, raw: Any) -> Array:
        """Raw values to an array, on the host."""

    @abstractmethod
    def null(self, batch_size: int) -> Array:
        """Arrays that stand for no condition."""

    def latent_sides(self, inputs: Array) -> tuple[int, int] | None:
        """Height and width of the latents that preprocessed maps lie over; None for other conditions."""
        return None

    @abstractmethod
    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """The preprocessed array to what the U-Net takes."""

    def call(self, inputs: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Drops some conditions in training, and embeds."""
        if training and self.dropout_rate:
            shape = (ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))
            draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
            inputs = ops.where(draws < self.dropout_rate, self.null(1), inputs)
        return self.embed(inputs, training)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dropout": self.dropout_rate,
            "null_known": self.null_known,
            "seed": self.seed,
        }


def check_integers(raw: Any, ndim: int, limit: int, what: str) -> Array:
    """Refuses what are not integers from 0 to `limit` - 1 of so many dimensions.

    Returns:
        int32.

    Raises:
        ValueError: if they are not.
    """
    values = np.asarray(raw)
    if values.ndim != ndim or values.dtype.kind not in "iu":
        raise ValueError(
            f"Expected {what} as integers with {ndim} dimensions. "
            f"Received: shape {values.shape}, dtype {values.dtype}"
        )
    if values.size and not 0 <= values.min() <= values.max() < limit:
        raise ValueError(
            f"Expected {what} from 0 to {limit - 1}. Received: {values.min()} to {values.max()}"
        )
    return values.astype(np.int32)
