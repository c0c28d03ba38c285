r"""Noise schedules: how much of an image is left at each timestep.

    q(x_t | x_0) = N(\sqrt{ᾱ_t} x_0, (1 - ᾱ_t) I),   ᾱ_t = \prod_{s \le t} (1 - β_s)

Timesteps run from 0 (least noise) to `num_timesteps - 1`. In the variance-exploding form that the
samplers use, `x_t / √ᾱ_t = x_0 + σ_t·noise` with `σ_t = √((1 - ᾱ_t) / ᾱ_t)`.
Everything is computed in float64 and cast where it is used.

Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239; Rombach et al. 2022,
https://arxiv.org/abs/2112.10752, whose code calls `scaled_linear_schedule` "linear".
"""

from collections.abc import Sequence
from functools import cached_property

import keras
import numpy as np

from keras_ldm.types import Array, Config


@keras.saving.register_keras_serializable("keras_ldm")
class NoiseSchedule:
    """A discrete noise schedule, defined by its betas.

    Args:
        betas: variance added at each timestep, each in (0, 1).
        recipe: name and arguments of the function that made them, for a short configuration.

    Raises:
        ValueError: if `betas` is empty, not one-dimensional or has a value outside (0, 1).

    Example:

    ```python
    schedule = keras_ldm.diffusion.scaled_linear_schedule(1000)
    schedule.sigmas[-1]                        # 14.6: the noise level at the last timestep
    schedule.timestep(schedule.sigmas[500])    # 500.0
    ```
    """

    def __init__(self, betas: Sequence[float] | Array, recipe: tuple[str, Config] | None = None) -> None:
        values = np.array(betas, dtype=np.float64)
        if values.ndim != 1 or not len(values) or not np.all((values > 0) & (values < 1)):
            raise ValueError(
                "Expected `betas` to be a non-empty list of numbers between 0 and 1 (exclusive). "
                f"Received: shape {values.shape}, values {values.ravel()[:3]}..."
            )
        values.setflags(write=False)
        self.betas: Array = values
        self._recipe = recipe

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps."""
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> Array:
        """ᾱ: share of the clean signal's variance left at each timestep."""
        return np.cumprod(1.0 - self.betas)

    @cached_property
    def signal_rates(self) -> Array:
        """√ᾱ."""
        return np.sqrt(self.alphas_cumprod)

    @cached_property
    def noise_rates(self) -> Array:
        """√(1 - ᾱ)."""
        return np.sqrt(1.0 - self.alphas_cumprod)

    @cached_property
    def sigmas(self) -> Array:
        """σ = √((1 - ᾱ) / ᾱ), rising."""
        return self.noise_rates / self.signal_rates

    def timestep(self, sigma: float) -> float:
        """The (fractional) timestep of a noise level, by interpolation in log σ.

        Levels beyond the ends get the first or last timestep.
        """
        log_sigmas = np.log(self.sigmas)
        return float(np.interp(np.log(max(sigma, 1e-20)), log_sigmas, np.arange(self.num_timesteps)))

    def get_config(self) -> Config:
        """How the betas were made, or the betas themselves."""
        if self._recipe is not None:
            return {"recipe": self._recipe[0], **self._recipe[1]}
        return {"betas": self.betas.tolist()}

    @classmethod
    def from_config(cls, config: Config) -> "NoiseSchedule":
        """A schedule from `get_config()`'s value."""
        if "recipe" not in config:
            return cls(**config)
        arguments = {name: value for name, value in config.items() if name != "recipe"}
        return _RECIPES[config["recipe"]](**arguments)


def _check_range(num_timesteps: int, beta_start: float, beta_end: float) -> None:
    if num_timesteps < 1 or not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            "Expected `num_timesteps` >= 1 and 0 < `beta_start` <= `beta_end` < 1. Received: "
            f"num_timesteps={num_timesteps}, beta_start={beta_start}, beta_end={beta_end}"
        )


def linear_schedule(
    num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2
) -> NoiseSchedule:
    """Betas rise linearly (DDPM; the original latent-diffusion code calls it "sqrt_linear")."""
    _check_range(num_timesteps, beta_start, beta_end)
    recipe = {"num_timesteps": num_timesteps, "beta_start": beta_start, "beta_end": beta_end}
    betas = np.linspace(beta_start, beta_end, num_timesteps, dtype=np.float64)
    return NoiseSchedule(betas, ("linear", recipe))


def scaled_linear_schedule(
    num_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> NoiseSchedule:
    """Square roots of the betas rise linearly (latent diffusion and Stable Diffusion)."""
    _check_range(num_timesteps, beta_start, beta_end)
    roots = np.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=np.float64)
    recipe = {"num_timesteps": num_timesteps, "beta_start": beta_start, "beta_end": beta_end}
    return NoiseSchedule(roots**2, ("scaled_linear", recipe))


def cosine_schedule(
    num_timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999
) -> NoiseSchedule:
    """ᾱ falls as a squared cosine (Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672)."""
    _check_range(num_timesteps, min(max_beta, 0.5), max_beta)
    times = np.arange(num_timesteps + 1, dtype=np.float64) / num_timesteps
    curve = np.cos((times + offset) / (1 + offset) * np.pi / 2) ** 2
    recipe = {"num_timesteps": num_timesteps, "offset": offset, "max_beta": max_beta}
    return NoiseSchedule(np.minimum(1 - curve[1:] / curve[:-1], max_beta), ("cosine", recipe))


_RECIPES = {
    "linear": linear_schedule,
    "scaled_linear": scaled_linear_schedule,
    "cosine": cosine_schedule,
}
