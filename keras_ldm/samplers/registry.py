"""Samplers by name, each with the noise levels it visits unless told otherwise, and its start."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from keras_ldm.samplers.ddim import ddim
from keras_ldm.samplers.ddpm import ddpm
from keras_ldm.samplers.dpm2 import dpm2
from keras_ldm.samplers.dpm2_ancestral import dpm2_ancestral
from keras_ldm.samplers.dpmpp_2m import dpmpp_2m
from keras_ldm.samplers.dpmpp_2m_sde import dpmpp_2m_sde
from keras_ldm.samplers.dpmpp_2s import dpmpp_2s
from keras_ldm.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from keras_ldm.samplers.euler import euler
from keras_ldm.samplers.euler_ancestral import euler_ancestral
from keras_ldm.samplers.grids import (
    GridFn,
    exponential_sigmas,
    karras_sigmas,
    lcm_sigmas,
    leading_sigmas,
    linspace_sigmas,
    uniform_sigmas,
)
from keras_ldm.samplers.heun import heun
from keras_ldm.samplers.lcm import lcm
from keras_ldm.samplers.lms import lms
from keras_ldm.samplers.plms import plms
from keras_ldm.samplers.unipc import unipc
from keras_ldm.types import SamplerFn


@dataclass(frozen=True)
class NamedSampler:
    """A sampler and what its reference uses with it.

    Attributes:
        function: the sampler.
        grid: `(schedule, num_steps)` -> falling sigmas.
        starts_from_unit_variance: whether its reference starts from x of deviation √(σ² + 1), which the
            network sees with unit variance, and not from noise alone, σ.
    """

    function: SamplerFn
    grid: GridFn
    starts_from_unit_variance: bool


# The papers' and the original's samplers, then k-diffusion's.
_SAMPLERS = {
    "ddim": NamedSampler(ddim, uniform_sigmas, True),
    "ddpm": NamedSampler(ddpm, leading_sigmas, True),
    "plms": NamedSampler(plms, uniform_sigmas, True),
    "unipc": NamedSampler(unipc, linspace_sigmas, True),
    "lcm": NamedSampler(lcm, lcm_sigmas, True),
    "euler": NamedSampler(euler, linspace_sigmas, False),
    "euler_ancestral": NamedSampler(euler_ancestral, linspace_sigmas, False),
    "heun": NamedSampler(heun, linspace_sigmas, False),
    "dpm2": NamedSampler(dpm2, linspace_sigmas, False),
    "dpm2_ancestral": NamedSampler(dpm2_ancestral, linspace_sigmas, False),
    "lms": NamedSampler(lms, linspace_sigmas, False),
    "dpmpp_2s": NamedSampler(dpmpp_2s, karras_sigmas, False),
    "dpmpp_2m": NamedSampler(dpmpp_2m, karras_sigmas, False),
    "dpmpp_2m_sde": NamedSampler(dpmpp_2m_sde, karras_sigmas, False),
    "dpmpp_3m_sde": NamedSampler(dpmpp_3m_sde, exponential_sigmas, False),
}


def sampler_names() -> tuple[str, ...]:
    """The names that `get_sampler` knows."""
    return tuple(_SAMPLERS)


def get_sampler(identifier: str | SamplerFn) -> NamedSampler:
    """A sampler by name, or by function.

    A function of one's own gets evenly spread timesteps and starts from noise alone; a
    `functools.partial` of one of these keeps its levels and its start.

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
    """
    if callable(identifier):
        function: Any = identifier
        while isinstance(function, partial):
            function = function.func
        for named in _SAMPLERS.values():
            if named.function is function:
                return replace(named, function=identifier)
        return NamedSampler(identifier, linspace_sigmas, False)
    if not isinstance(identifier, str) or identifier not in _SAMPLERS:
        raise ValueError(f"Expected a sampler among {sorted(_SAMPLERS)}. Received: {identifier!r}")
    return _SAMPLERS[identifier]
