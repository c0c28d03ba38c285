"""One prediction of a task's network for arguments of any origin, which are checked first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from keras_ldm.conditioning.embedder import check_integers
from keras_ldm.diffusion import get_parameterization
from keras_ldm.tasks.arguments import check_latents, preprocess_conditions
from keras_ldm.types import Array, Batch

if TYPE_CHECKING:
    from keras_ldm.tasks.latent_diffusion import LatentDiffusion


def predict_epsilon(
    task: LatentDiffusion, latents: Array, timesteps: Array, conditions: Batch | None
) -> Array:
    """The noise in latents: see `LatentDiffusion.predict_epsilon`."""
    x = np.asarray(latents)
    shape = check_latents(x, task.autoencoder.latent_channels)
    if x.dtype.kind != "f":
        raise ValueError(f"Expected latents as floats. Received: dtype {x.dtype}")
    times = check_integers(timesteps, 1, task.schedule.num_timesteps, "timesteps")
    arrays = preprocess_conditions(task.conditioner, conditions, latent_sides=shape[1:3])
    counts = {name: len(value) for name, value in {"timesteps": times, **arrays}.items()}
    if set(counts.values()) != {shape[0]}:
        raise ValueError(
            f"Expected timesteps as integers of shape ({shape[0]},) and conditions for {shape[0]} "
            f"latents. Received: {counts}"
        )
    x = x.astype(np.float32, copy=False)
    output = ops.convert_to_numpy(task.inference(x, times, arrays))
    signal, spread = (
        rates[times].astype(np.float32)[:, None, None, None]
        for rates in (task.schedule.signal_rates, task.schedule.noise_rates)
    )
    to_epsilon = get_parameterization(task.parameterization).to_epsilon
    return np.asarray(to_epsilon(output, x, signal, spread))
