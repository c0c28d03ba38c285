"""How the timestep of each training example is drawn."""

from collections.abc import Callable
from typing import TypeAlias

from keras import ops, random

from keras_ldm.types import Seed, Tensor

TimestepFn: TypeAlias = Callable[[Tensor, int, Seed], Tensor]


def uniform_timesteps(batch_size: Tensor, num_timesteps: int, seed: Seed) -> Tensor:
    """Independent uniform draws, as in DDPM.

    Returns:
        int32 `(batch_size,)`, each in [0, `num_timesteps`).
    """
    return random.randint((batch_size,), 0, num_timesteps, dtype="int32", seed=seed)


def stratified_timesteps(batch_size: Tensor, num_timesteps: int, seed: Seed) -> Tensor:
    """One uniform draw, the examples spread evenly from it around the circle of timesteps.

    Each timestep is as likely as with `uniform_timesteps`, but a batch covers them all, so its loss
    varies less (Kingma et al. 2021, https://arxiv.org/abs/2107.00630, section I.1).

    Returns:
        int32 `(batch_size,)`, each in [0, `num_timesteps`).
    """
    offset = random.uniform((), seed=seed, dtype="float32")
    places = ops.cast(ops.arange(batch_size), "float32") / ops.cast(batch_size, "float32")
    timesteps = ops.cast(ops.floor(((places + offset) % 1.0) * num_timesteps), "int32")
    return ops.minimum(timesteps, num_timesteps - 1)


_TIMESTEP_FUNCTIONS: dict[str, TimestepFn] = {
    "uniform": uniform_timesteps,
    "stratified": stratified_timesteps,
}


def get_timestep_function(name: str) -> TimestepFn:
    """The way of drawing timesteps of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in _TIMESTEP_FUNCTIONS:
        raise ValueError(
            f"Expected a way of drawing timesteps among {sorted(_TIMESTEP_FUNCTIONS)}. "
            f"Received: {name!r}"
        )
    return _TIMESTEP_FUNCTIONS[name]
