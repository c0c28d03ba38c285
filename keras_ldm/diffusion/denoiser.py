"""Network + schedule + parameterization = a denoise function.

A sampler works with `x = x0 + σ·noise` and wants an estimate of `x0`; a network sees latents of another
scale, `y = a·x0 + s·noise`, and a timestep. `Denoiser` stands between:

    y = scale·x,  output = network(y, t(σ)),  x0 = to_x0(output, y, a, s)

A variance-preserving schedule has scale = a = 1 / √(σ² + 1) and s = σ·a. One of flow matching has
a = 1 - σ and s = σ, and there the sampler too works with `x = (1 - σ)·x0 + σ·noise`: scale = 1.
"""

from collections.abc import Callable

import numpy as np
from keras import ops

from keras_ldm.diffusion.parameterization import get_parameterization
from keras_ldm.diffusion.schedules import Schedule
from keras_ldm.types import Tensor


def check_prediction(schedule: Schedule, parameterization: str) -> None:
    """Refuses what a network cannot be asked for at each level of a schedule.

    Raises:
        ValueError: for "epsilon" with a schedule that ends in noise alone, which says nothing of images.
    """
    if parameterization == "epsilon" and schedule.signal_rates[-1] <= 0:
        raise ValueError(
            'Expected the parameterization "flow", "v" or "x0" for a schedule that ends in noise alone, '
            f'such as flow matching. Received: "epsilon" with {type(schedule).__name__}'
        )


def network_inputs(schedule: Schedule, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What a network sees of a sampler's state.

    Args:
        schedule: that the network was trained with.
        x: the state at level `sigma`, shape `(batch, ...)`.
        sigma: the noise level, a scalar tensor.

    Returns:
        Latents at the network's scale and their timestep, float32 `(batch,)`, all equal.
    """
    x = ops.convert_to_tensor(x)
    scale, _, _ = schedule.rates(sigma)
    return x * scale, ops.broadcast_to(_timestep(schedule, sigma), ops.shape(x)[:1])


def _timestep(schedule: Schedule, sigma: Tensor) -> Tensor:
    """`schedule.timestep` for a tensor."""
    lengths = np.maximum(np.diff(schedule.positions, append=np.inf), 1e-20)
    starts, lengths = (
        ops.convert_to_tensor(values.astype("float32")) for values in (schedule.positions, lengths)
    )
    position = schedule.position(sigma)
    index = ops.sum(ops.cast(starts[1:] <= position, "int32"))
    fraction = (position - ops.take(starts, index)) / ops.take(lengths, index)
    return ops.cast(index, "float32") + ops.clip(fraction, 0.0, 1.0)


class Denoiser:
    """A denoise function made of a network.

    Args:
        network: `(latents, timesteps)` -> output, both of shape `(batch, ...)`; the timesteps are
            float32 `(batch,)`, all equal.
        schedule: gives the timestep of a noise level.
        parameterization: what the network predicts: "epsilon", "x0", "v" or "flow".

    Raises:
        ValueError: for a parameterization that is unknown, or not for that schedule.

    Example:

    ```python
    denoise = Denoiser(network, scaled_linear_schedule(), "epsilon")
    samplers.ddim(denoise, x, sigmas)
    ```
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        schedule: Schedule,
        parameterization: str = "epsilon",
    ) -> None:
        check_prediction(schedule, parameterization)
        self.network = network
        self.schedule = schedule
        self.parameterization = get_parameterization(parameterization)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Estimates the clean latents.

        Args:
            x: the sampler's state at level `sigma`, shape `(batch, ...)`.
            sigma: the noise level, a number or a scalar tensor.

        Returns:
            The estimate, shaped like `x`.
        """
        sigma = ops.convert_to_tensor(sigma, "float32")
        _, signal, noise = self.schedule.rates(sigma)
        scaled, timesteps = network_inputs(self.schedule, x, sigma)
        output = self.network(scaled, timesteps)
        return self.parameterization.to_x0(output, scaled, signal, noise)

    def origin(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate that an output of zero stands for: x itself for "epsilon" and "flow"."""
        sigma = ops.convert_to_tensor(sigma, "float32")
        scale, signal, noise = self.schedule.rates(sigma)
        return self.parameterization.to_x0(ops.zeros_like(x), x * scale, signal, noise)
