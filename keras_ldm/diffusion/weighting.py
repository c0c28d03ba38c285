"""How much each noise level counts in the training loss.

A weighting multiplies the squared (or absolute) error of the network's output; SNR is a² / s² of
`x = a·x0 + s·noise`, ᾱ / (1 - ᾱ) for a variance-preserving schedule.
"""

import keras
import numpy as np

from keras_ldm.diffusion.parameterization import get_parameterization
from keras_ldm.diffusion.schedules import Schedule
from keras_ldm.types import Array, Config


@keras.saving.register_keras_serializable("keras_ldm")
class SimpleWeighting:
    """Every noise level counts the same (L_simple, https://arxiv.org/abs/2006.11239, eq. 14)."""

    def __call__(self, schedule: Schedule, parameterization: str) -> Array:
        """Returns the weight of each timestep, shape `(num_timesteps,)`."""
        get_parameterization(parameterization)
        return np.ones(schedule.num_timesteps)

    def get_config(self) -> Config:
        """Nothing to configure."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> "SimpleWeighting":
        """A weighting from `get_config()`'s value."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_ldm")
class MinSNRWeighting:
    """The clean latents' error weighted by min(SNR, γ), whatever the network predicts.

    In the network's own error that is min(SNR, γ) times 1 (x0), 1/SNR (epsilon), 1/(SNR + 1) (v) or, for
    straight lines, s² (flow).

    Args:
        gamma: the SNR above which levels count no more.

    Reference: Hang et al. 2023, https://arxiv.org/abs/2303.09556.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        if gamma <= 0:
            raise ValueError(f"Expected `gamma` > 0. Received: {gamma}")
        self.gamma = gamma

    def __call__(self, schedule: Schedule, parameterization: str) -> Array:
        """Returns the weight of each timestep, shape `(num_timesteps,)`."""
        name = get_parameterization(parameterization).name
        a, s = schedule.signal_rates, schedule.noise_rates
        if name == "epsilon":
            return np.minimum(1.0, self.gamma * (s / np.maximum(a, 1e-20)) ** 2)
        # How far an error of the output moves the clean latents.
        factor = {"x0": 1.0, "v": s / (a**2 + s**2), "flow": s / (a + s)}[name]
        return np.minimum((a / s) ** 2, self.gamma) * factor**2

    def get_config(self) -> Config:
        """`gamma`."""
        return {"gamma": self.gamma}

    @classmethod
    def from_config(cls, config: Config) -> "MinSNRWeighting":
        """A weighting from `get_config()`'s value."""
        return cls(**config)


_WEIGHTINGS = {"simple": SimpleWeighting, "min_snr": MinSNRWeighting}
Weighting = SimpleWeighting | MinSNRWeighting


def get_weighting(identifier: str | Weighting) -> Weighting:
    """A weighting from its name, or the object itself.

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
    """
    if not isinstance(identifier, str):
        return identifier
    if identifier not in _WEIGHTINGS:
        raise ValueError(
            f"Expected a loss weighting among {sorted(_WEIGHTINGS)}. Received: {identifier!r}"
        )
    return _WEIGHTINGS[identifier]()
