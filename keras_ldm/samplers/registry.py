"""Samplers by name, each with the noise levels it visits unless told otherwise."""

from collections.abc import Callable
from dataclasses import dataclass

from keras_ldm.diffusion.schedules import NoiseSchedule
from keras_ldm.samplers.ddim import ddim
from keras_ldm.samplers.ddpm import ddpm
from keras_ldm.samplers.grids import leading_sigmas, uniform_sigmas
from keras_ldm.samplers.plms import plms
from keras_ldm.types import Array, SamplerFn


@dataclass(frozen=True)
class NamedSampler:
    """A sampler and its grid of noise levels.

    Attributes:
        function: the sampler.
        grid: `(schedule, num_steps)` -> falling sigmas.
    """

    function: SamplerFn
    grid: Callable[[NoiseSchedule, int], Array]


_SAMPLERS = {
    "ddim": NamedSampler(ddim, uniform_sigmas),
    "ddpm": NamedSampler(ddpm, leading_sigmas),
    "plms": NamedSampler(plms, uniform_sigmas),
}


def get_sampler(identifier: str | SamplerFn) -> NamedSampler:
    """A sampler by name, or a sampler function of one's own (with the original's uniform grid).

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
    """
    if callable(identifier):
        return NamedSampler(identifier, uniform_sigmas)
    if identifier not in _SAMPLERS:
        raise ValueError(f"Expected a sampler among {sorted(_SAMPLERS)}. Received: {identifier!r}")
    return _SAMPLERS[identifier]
