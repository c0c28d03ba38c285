"""One prediction of a task's network for arguments of any origin, which are checked first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from keras_ldm.diffusion import get_parameterization
from keras_ldm.types import Array, Batch

if TYPE_CHECKING:
    from keras_ldm.tasks.latent_diffusion import LatentDiffusion


def predict_epsilon(
    task: LatentDiffusion, latents: Array, timesteps: Array, conditions: Batch | None
) -> Array:
    """The noise in latents: see `LatentDiffusion.predict_epsilon`."""
    x, times = np.asarray(latents), np.asarray(timesteps)
    channels, steps = task.autoencoder.latent_channels, task.schedule.num_timesteps
    if x.ndim != 4 or x.shape[-1] != channels or x.dtype.kind != "f":
        raise ValueError(
            f"Expected latents as floats of shape (N, height, width, {channels}). "
            f"Received: shape {x.shape}, dtype {x.dtype}"
        )
    if times.shape != x.shape[:1] or times.dtype.kind not in "iu":
        raise ValueError(
            f"Expected timesteps as integers of shape {x.shape[:1]}. "
            f"Received: shape {times.shape}, dtype {times.dtype}"
        )
    if times.size and not 0 <= times.min() <= times.max() < steps:
        raise ValueError(
            f"Expected timesteps from 0 to {steps - 1}. Received: {times.min()} to {times.max()}"
        )
    arrays = _preprocess(task, conditions or {}, x.shape)
    x, times = x.astype(np.float32, copy=False), times.astype(np.int32, copy=False)
    output = ops.convert_to_numpy(task.inference(x, times, arrays))
    signal, spread = (
        rates[times].astype(np.float32)[:, None, None, None]
        for rates in (task.schedule.signal_rates, task.schedule.noise_rates)
    )
    to_epsilon = get_parameterization(task.parameterization).to_epsilon
    return np.asarray(to_epsilon(output, x, signal, spread))


def _preprocess(task: LatentDiffusion, conditions: Batch, shape: tuple[int, ...]) -> dict[str, Array]:
    if task.conditioner is None:
        if conditions:
            raise ValueError(
                f"Expected no conditions for an unconditional model. Received: {sorted(conditions)}"
            )
        return {}
    arrays = task.conditioner.preprocess(conditions, shape[1:3])
    counts = {name: len(value) for name, value in arrays.items()}
    if set(counts.values()) != {shape[0]}:
        raise ValueError(f"Expected conditions for {shape[0]} latents. Received: {counts}")
    return arrays
