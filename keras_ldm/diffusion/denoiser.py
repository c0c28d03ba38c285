"""Network + schedule + parameterization = a denoise function.

A network sees the variance-preserving latents `x / √(σ² + 1)` and a timestep; a sampler works with
`x = x0 + σ·noise` and wants an estimate of `x0`. `Denoiser` stands between:

    a = 1 / √(σ² + 1),  s = σ·a,  output = network(a·x, t(σ)),  x0 = to_x0(output, a·x, a, s)
"""

from collections.abc import Callable

import numpy as np
from keras import ops

from keras_ldm.diffusion.parameterization import get_parameterization
from keras_ldm.diffusion.schedules import NoiseSchedule
from keras_ldm.types import Tensor


class Denoiser:
    """A denoise function made of a network.

    Args:
        network: `(latents, timesteps)` -> output, both of shape `(batch, ...)`; the timesteps are
            float32 `(batch,)`, all equal.
        schedule: gives the timestep of a noise level.
        parameterization: what the network predicts: "epsilon", "x0" or "v".

    Example:

    ```python
    denoise = Denoiser(network, scaled_linear_schedule(), "epsilon")
    samplers.ddim(denoise, x, sigmas)
    ```
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        schedule: NoiseSchedule,
        parameterization: str = "epsilon",
    ) -> None:
        self.network = network
        self.schedule = schedule
        self.parameterization = get_parameterization(parameterization)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Estimates the clean latents.

        Args:
            x: `x0 + sigma * noise`, shape `(batch, ...)`.
            sigma: the noise level.

        Returns:
            The estimate, shaped like `x`.
        """
        signal = 1.0 / np.sqrt(sigma**2 + 1.0)
        noise = sigma * signal
        timesteps = np.full(x.shape[0], self.schedule.timestep(sigma), "float32")
        scaled = x * float(signal)
        output = self.network(scaled, ops.convert_to_tensor(timesteps))
        return self.parameterization.to_x0(output, scaled, float(signal), float(noise))
