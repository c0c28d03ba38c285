"""Conditions between two others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_ldm.samplers import slerp
from keras_ldm.types import Array, Batch, Tensor


@dataclass(frozen=True)
class BlendedConditions:
    """Conditions on the way from some to others, for `generate` in place of plain ones.

    What the conditioner makes of both is interpolated: vectors and tokens along an arc, maps linearly.

    Attributes:
        start: raw conditions by name, one entry each.
        end: the same names, one entry each.
        weights: for each image to draw, 0 for `start` to 1 for `end`.
    """

    start: Batch
    end: Batch
    weights: Sequence[float] | Array

    def __post_init__(self) -> None:
        """Checks the weights.

        Raises:
            ValueError: if they are not a list of finite numbers.
        """
        if np.ndim(self.weights) != 1 or not np.all(np.isfinite(self.weights)):
            raise ValueError(f"Expected `weights` as finite numbers. Received: {self.weights}")

    def repeated(self, conditions: Mapping[str, Array]) -> dict[str, Array]:
        """Preprocessed conditions of one of the ends, once for each image.

        Raises:
            ValueError: if there is more than one entry.
        """
        counts = {name: len(value) for name, value in conditions.items()}
        if set(counts.values()) - {1}:
            raise ValueError(f"Expected one entry at each end of a blend. Received: {counts}")
        count = len(self.weights)
        return {name: np.repeat(value, count, axis=0) for name, value in conditions.items()}

    def blend(
        self, start: Mapping[str, Tensor], end: Mapping[str, Tensor], rows: slice
    ) -> dict[str, Tensor]:
        """What the U-Net takes for some of the images, from what it takes at both ends."""
        blended = {}
        for name, value in start.items():
            if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype)):
                raise ValueError(
                    "Expected conditions that are embedded as vectors, to go from one to another. "
                    f"Received: {name!r} as numbers of classes"
                )
            weights = np.asarray(self.weights, np.float32)[rows]
            # One weight for each vector: all axes but the last one.
            weights = ops.convert_to_tensor(weights.reshape(-1, *[1] * (len(value.shape) - 2)))
            if name == "concat":  # maps have no direction
                weights = ops.cast(weights[..., None], value.dtype)
                blended[name] = (1 - weights) * value + weights * end[name]
            else:
                blended[name] = slerp(value, end[name], weights)
        return blended
