r"""Noise schedules: how much of an image is left at each timestep.

    q(x_t | x_0) = N(\sqrt{ᾱ_t} x_0, (1 - ᾱ_t) I),   ᾱ_t = \prod_{s \le t} (1 - β_s)

Timesteps run from 0 (least noise) to `num_timesteps - 1`. In the variance-exploding form that the
samplers use, `x_t / √ᾱ_t = x_0 + σ_t·noise` with `σ_t = √((1 - ᾱ_t) / ᾱ_t)`.
Everything is computed in float64 and cast where it is used.

Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239; Rombach et al. 2022,
https://arxiv.org/abs/2112.10752, whose code calls `scaled_linear_schedule` "linear".
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import keras
import numpy as np
from keras import ops

from keras_ldm.types import Array, Config, Tensor

_LEAST_SIGMA = 1e-20
_ZERO_SNR = 2.0**-24


class Schedule(ABC):
    """How much of an image and how much noise there is at each timestep, and in between.

    A sampler's noise level σ stands for `x = signal·x0 + σ·noise`, where `signal` is 1 for
    `NoiseSchedule` and 1 - σ for `FlowSchedule`.
    """

    @property
    @abstractmethod
    def num_timesteps(self) -> int:
        """Number of timesteps."""

    @property
    @abstractmethod
    def signal_rates(self) -> Array:
        """What the clean latents are multiplied by at each timestep, for the network."""

    @property
    @abstractmethod
    def noise_rates(self) -> Array:
        """What the noise is multiplied by at each timestep, for the network."""

    @property
    @abstractmethod
    def sigmas(self) -> Array:
        """Samplers' noise levels, rising."""

    @abstractmethod
    def rates(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At a level: what leads from x to the network's input, and there the signal and noise rates."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The sampler's x at a level, of clean latents and noise of unit variance."""

    @abstractmethod
    def position(self, sigma: Tensor) -> Tensor:
        """A rising function of the noise level, for interpolation between timesteps."""

    @abstractmethod
    def level(self, position: Array) -> Array:
        """The noise level at a position: the inverse of `position`."""

    @abstractmethod
    def starting_scale(self, sigma: float) -> float:
        """The deviation of x at a level high enough to start from, for latents of unit variance."""

    def rates_at(self, timesteps: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """The signal and noise rates of integer timesteps `(batch,)`, float32 `(batch, 1, ...)`."""
        shape = (-1, *[1] * (rank - 1))

        def at(rates: Array) -> Tensor:
            values = ops.convert_to_tensor(rates.astype("float32"))
            return ops.reshape(ops.take(values, timesteps), shape)

        return at(self.signal_rates), at(self.noise_rates)

    @cached_property
    def positions(self) -> Array:
        """The position of each timestep."""
        return np.asarray(self.position(self.sigmas))

    def timestep(self, sigma: float) -> float:
        """The (fractional) timestep of a noise level, by interpolation.

        Levels beyond the ends get the first or last timestep.
        """
        return float(np.interp(self.position(sigma), self.positions, np.arange(self.num_timesteps)))

    def sigma(self, timestep: float | Array) -> Array:
        """The noise level of a (fractional) timestep, by interpolation."""
        positions = np.interp(timestep, np.arange(self.num_timesteps), self.positions)
        return self.level(np.asarray(positions))


@keras.saving.register_keras_serializable("keras_ldm")
class NoiseSchedule(Schedule):
    """A discrete variance-preserving noise schedule, defined by its betas.

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

    def rates(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """1/√(σ² + 1) twice, and σ/√(σ² + 1)."""
        signal = 1.0 / (sigma**2 + 1.0) ** 0.5
        return signal, signal, sigma * signal

    def add_noise(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """x0 + σ·noise."""
        return latents + sigma * noise

    def position(self, sigma: Tensor) -> Tensor:
        """The logarithm of σ."""
        if isinstance(sigma, (float, np.ndarray)):
            return np.log(np.maximum(sigma, _LEAST_SIGMA))
        return ops.log(ops.maximum(sigma, _LEAST_SIGMA))

    def level(self, position: Array) -> Array:
        """The exponential."""
        return np.exp(position)

    def starting_scale(self, sigma: float) -> float:
        """√(σ² + 1)."""
        return float(np.sqrt(sigma**2 + 1.0))

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


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    r"""The schedule shifted and scaled so that nothing is left of the image at the last timestep.

    √ᾱ is moved to end at 0 and stretched to begin where it did. The last ᾱ is 2⁻²⁴ (or half of the
    one before) in place of 0, where σ would be infinite; train with "v" or "x0", since noise alone says
    nothing of the image.

    Reference: Lin et al. 2023, https://arxiv.org/abs/2305.08891, algorithm 1.

    Raises:
        ValueError: if the schedule has one timestep only.
    """
    if schedule.num_timesteps < 2:
        raise ValueError(f"Expected at least 2 timesteps. Received: {schedule.num_timesteps}")
    rates = schedule.signal_rates
    rates = (rates - rates[-1]) * rates[0] / (rates[0] - rates[-1])
    products = np.append(rates[:-1] ** 2, min(_ZERO_SNR, rates[-2] ** 2 / 2))
    betas = 1 - products / np.append(1.0, products[:-1])
    return NoiseSchedule(betas, ("zero_terminal_snr", {"schedule": schedule.get_config()}))


def _zero_terminal_snr(schedule: Config) -> NoiseSchedule:
    return zero_terminal_snr(NoiseSchedule.from_config(schedule))


_RECIPES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": linear_schedule,
    "scaled_linear": scaled_linear_schedule,
    "cosine": cosine_schedule,
    "zero_terminal_snr": _zero_terminal_snr,
}
