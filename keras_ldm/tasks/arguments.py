"""Arguments that several tasks or their methods take: numbers, latents and raw conditions, checked."""

from typing import Any

import numpy as np

from keras_ldm.conditioning import Conditioner
from keras_ldm.types import Array, Batch


def check_at_least_zero(**values: Any) -> None:
    """Refuses what is not a finite number of at least 0.

    Raises:
        ValueError: if one is not; the message names it.
    """
    for name, value in values.items():
        is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < np.inf:
            raise ValueError(f"Expected a finite `{name}` of at least 0. Received: {value!r}")


def check_latents(latents: Any, channels: int, name: str = "latents") -> tuple[int, ...]:
    """The shape of latents.

    Raises:
        ValueError: if it is not `(N, height, width, channels)`, or N is 0.
    """
    shape = tuple(np.shape(latents))
    if len(shape) != 4 or shape[-1] != channels or not shape[0]:
        raise ValueError(
            f"Expected {name} of shape (N, height, width, {channels}). Received: shape {shape}"
        )
    return shape


def preprocess_conditions(
    conditioner: Conditioner | None,
    conditions: Batch | None,
    name: str = "conditions",
    latent_sides: tuple[int, ...] | None = None,
) -> dict[str, Array]:
    """Raw conditions to arrays, none for an unconditional model.

    Raises:
        ValueError: if there are some without a conditioner or none with one; see
            `Conditioner.preprocess` for the rest.
    """
    if conditioner is None:
        if conditions:
            raise ValueError(
                f"Expected no `{name}` for an unconditional model. Received: {sorted(conditions)}"
            )
        return {}
    if conditions is None:
        raise ValueError(f"Expected `{name}` with {sorted(conditioner.embedders)}. Received: None")
    return conditioner.preprocess(conditions, latent_sides)
