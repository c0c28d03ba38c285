"""Flow matching: straight lines from images to noise.

    x_t = (1 - t)·x0 + t·noise,     velocity = noise - x0

The noise levels of samplers are the times t themselves. With x in this form the derivative that
deterministic samplers integrate, (x - x0)/t, is the velocity, so that they serve here as they are; those
that add noise do not.

Reference: Lipman et al. 2022, https://arxiv.org/abs/2210.02747; Liu et al. 2022,
https://arxiv.org/abs/2209.03003; Esser et al. 2024, https://arxiv.org/abs/2403.03206 (shift).
"""

from functools import cached_property

import keras
import numpy as np

from keras_ldm.diffusion.schedules import Schedule
from keras_ldm.types import Array, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class FlowSchedule(Schedule):
    """The schedule of flow matching, for the parameterization "flow".

    Args:
        num_timesteps: how many times t there are in training: shift(1/N), ..., shift(1) = 1.
        shift: s of `shift(t) = s·t / (1 + (s - 1)·t)`; above 1 for more noise, which larger images need.

    Raises:
        ValueError: if there is no timestep or `shift` is not positive.

    Example:

    ```python
    ldm = keras_ldm.tasks.LatentDiffusion(
        autoencoder, unet, schedule=keras_ldm.diffusion.FlowSchedule(), parameterization="flow"
    )
    ldm.generate(num_images=4, sampler="euler")
    ```
    """

    def __init__(self, num_timesteps: int = 1000, shift: float = 1.0) -> None:
        if num_timesteps < 1 or not shift > 0:
            raise ValueError(
                "Expected `num_timesteps` >= 1 and `shift` > 0. "
                f"Received: num_timesteps={num_timesteps}, shift={shift}"
            )
        self._num_timesteps = num_timesteps
        self.shift = shift

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps."""
        return self._num_timesteps

    @cached_property
    def sigmas(self) -> Array:
        """The times t, rising to 1."""
        times = np.arange(1, self.num_timesteps + 1) / self.num_timesteps
        return self.shift * times / (1 + (self.shift - 1) * times)

    @property
    def signal_rates(self) -> Array:
        """1 - t."""
        return 1.0 - self.sigmas

    @property
    def noise_rates(self) -> Array:
        """T."""
        return self.sigmas

    def rates(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """1, 1 - t and t."""
        return 1.0, 1.0 - sigma, sigma

    def add_noise(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """(1 - t)·x0 + t·noise."""
        return (1.0 - sigma) * latents + sigma * noise

    def position(self, sigma: Tensor) -> Tensor:
        """T before the shift."""
        return sigma / (self.shift - (self.shift - 1) * sigma)

    def level(self, position: Array) -> Array:
        """T after the shift."""
        return self.shift * position / (1 + (self.shift - 1) * position)

    def starting_scale(self, sigma: float) -> float:
        """√((1 - t)² + t²), 1 at t = 1."""
        return float(np.hypot(1.0 - sigma, sigma))

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"num_timesteps": self.num_timesteps, "shift": self.shift}

    @classmethod
    def from_config(cls, config: Config) -> "FlowSchedule":
        """A schedule from `get_config()`'s value."""
        return cls(**config)
