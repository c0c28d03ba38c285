"""Names for what passes between the parts of the package.

A tensor is whatever the Keras backend in use makes (`tf.Tensor`, `jax.Array`, `torch.Tensor`), a
`KerasTensor` while a model is traced, or a NumPy array; Keras gives these no common type.
Images and latents are channels-last: `(batch, height, width, channels)`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

Tensor: TypeAlias = Any
Array: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = Sequence[int | None]
DType: TypeAlias = Any
Config: TypeAlias = dict[str, Any]
Batch: TypeAlias = Mapping[str, Any]
Conditions: TypeAlias = Mapping[str, Tensor]
Seed: TypeAlias = Any  # int, `keras.random.SeedGenerator` or None


class DenoiseFn(Protocol):
    """`denoise(x, sigma)`: an estimate of the clean latents in `x = x0 + sigma * noise`.

    Sigma is a number or, in a compiled loop, a scalar tensor.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Returns the estimate, shaped like `x`."""


@dataclass(frozen=True)
class SamplerStep:
    """What a sampler tells its callback after each step.

    Attributes:
        index: number of the step, from 0.
        num_steps: how many steps there will be.
        sigma: noise level the step started from.
        latents: the state after the step, variance-exploding form.
        denoised: estimate of the clean latents that the step used.
    """

    index: int
    num_steps: int
    sigma: float
    latents: Tensor
    denoised: Tensor


StepCallback: TypeAlias = Callable[[SamplerStep], None]
NoiseFn: TypeAlias = Callable[[Sequence[int]], Tensor]
SamplerSeed: TypeAlias = int | Sequence[int] | NoiseFn | None


class SamplerFn(Protocol):
    """A sampler: from noisy latents at `sigmas[0]` to latents at `sigmas[-1]`."""

    def __call__(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        sigmas: Sequence[float] | Array,
        *,
        seed: SamplerSeed = None,
        callback: StepCallback | None = None,
    ) -> Tensor:
        """Returns the latents at the last noise level, variance-exploding form."""


class Conditioner(Protocol):
    """Turns a batch's raw conditions into what a denoising network takes."""

    def preprocess(self, batch: Batch) -> dict[str, Array]:
        """Raw values (strings, labels) to arrays, on the host."""

    def __call__(self, inputs: Conditions, training: bool = False) -> dict[str, Tensor]:
        """Arrays to `context`, `concat` and `vector` tensors, dropping some in training."""
