"""The arguments of `generate` that are about guidance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_ldm.tasks.arguments import preprocess_conditions
from keras_ldm.types import Array, Batch

if TYPE_CHECKING:
    from keras_ldm.tasks.generative_task import GenerativeTask

_DEFAULT_SCALE = 5.0


@dataclass(frozen=True)
class Guidance:
    """Checked arguments.

    Attributes:
        tensors: what a task's denoise function is given.
        negatives: preprocessed conditions to lead away from, shaped like the conditions; None without
            guidance.
    """

    tensors: Mapping[str, Any]
    negatives: Mapping[str, Array] | None


@dataclass(frozen=True)
class GuidanceArguments:
    """Arguments as they were given.

    Attributes:
        scale: of classifier-free guidance, or None.
        rescale: how far the output's deviation is brought back, from 0 to 1.
        interval: noise levels (low, high] at which to guide, or None.
        negatives: raw conditions to lead away from, or None.
    """

    scale: float | None
    rescale: float
    interval: tuple[float, float] | None
    negatives: Batch | None

    def check(self, task: "GenerativeTask", inputs: Mapping[str, Array]) -> Guidance:
        """Checks them against a task and its preprocessed conditions.

        Raises:
            ValueError: for a scale that the model cannot follow, or values out of range.
        """
        scale = self._scale(task)
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"Expected `guidance_rescale` from 0 to 1. Received: {self.rescale}")
        tensors: dict[str, Any] = {}
        if self.interval is not None:
            low, high = self.interval if np.shape(self.interval) == (2,) else (0.0, 0.0)
            if not 0 <= low < high:
                raise ValueError(
                    "Expected `guidance_interval` as two noise levels, 0 <= low < high. "
                    f"Received: {self.interval}"
                )
            tensors["interval"] = (_scalar(low), _scalar(high))
        if scale == 1.0 or task.conditioner is None:
            return Guidance({}, None)
        if self.rescale > 0:
            tensors["rescale"] = _scalar(self.rescale)
        if self.negatives is None:
            negatives = task.conditioner.null(1)
        else:
            negatives = preprocess_conditions(task.conditioner, self.negatives, "negative_conditions")
        return Guidance({"scale": _scalar(scale), **tensors}, _shape_negatives(negatives, inputs))

    def _scale(self, task: "GenerativeTask") -> float:
        conditioner, scale = task.conditioner, self.scale
        if scale is None:
            scale = _DEFAULT_SCALE if conditioner is not None and conditioner.drops else 1.0
        if not np.isfinite(scale):
            raise ValueError(f"Expected a finite guidance scale. Received: {scale}")
        can_guide = conditioner is not None and (conditioner.null_known or self.negatives is not None)
        if scale != 1.0 and not can_guide:
            reason = (
                "an unconditional model"
                if conditioner is None
                else "a model trained without dropping its conditions (dropout=0)"
            )
            raise ValueError(
                "Expected guidance_scale=1: guidance needs a model that was trained with conditions "
                "dropped now and then, or negative conditions. "
                f"Received: guidance_scale={scale} for {reason}"
            )
        if self.negatives is not None and scale == 1.0:
            raise ValueError(
                "Expected a guidance scale other than 1 with negative conditions, which have no "
                "effect without guidance. Received: guidance_scale=1"
            )
        return float(scale)


def _scalar(value: float) -> Any:
    return ops.convert_to_tensor(np.float32(value))


def _shape_negatives(negatives: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """One for each image, where there is one for all; nothing alike for each of many tokens."""
    shaped = {}
    for name, value in inputs.items():
        try:
            shaped[name] = np.broadcast_to(negatives[name], value.shape)
        except ValueError:
            raise ValueError(
                f"Expected `negative_conditions` shaped like the conditions, {value.shape} for "
                f"{name!r}, or one for all images. Received: {negatives[name].shape}"
            ) from None
    return shaped
