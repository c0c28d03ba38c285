"""What the network predicts: the noise, the clean latents, or a mixture of the two.

With `x = a·x0 + s·noise`, where a² + s² = 1 (variance-preserving) or a + s = 1 (flow matching):

    epsilon   target = noise             x0 = (x - s·output) / a
    x0        target = x0                x0 = output
    v         target = a·noise - s·x0    x0 = (a·x - s·output) / (a² + s²)
    flow      target = noise - x0        x0 = (x - s·output) / (a + s)

Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239; Salimans & Ho 2022,
https://arxiv.org/abs/2202.00512 (v, appendix D); Lipman et al. 2022,
https://arxiv.org/abs/2210.02747 (flow, the velocity of straight lines).
"""

from collections.abc import Callable
from dataclasses import dataclass

from keras_ldm.types import Tensor


@dataclass(frozen=True)
class Parameterization:
    """What a network is trained to predict, and the way back to the clean latents.

    Attributes:
        name: "epsilon", "x0", "v" or "flow".
        target: `(x0, noise, a, s)` -> what the network should output.
        to_x0: `(output, x, a, s)` -> estimate of the clean latents.
        to_epsilon: `(output, x, a, s)` -> estimate of the noise.
    """

    name: str
    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    to_x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    to_epsilon: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


_PARAMETERIZATIONS = {
    p.name: p
    for p in (
        Parameterization(
            "epsilon",
            target=lambda x0, noise, a, s: noise,
            to_x0=lambda output, x, a, s: (x - s * output) / a,
            to_epsilon=lambda output, x, a, s: output,
        ),
        Parameterization(
            "x0",
            target=lambda x0, noise, a, s: x0,
            to_x0=lambda output, x, a, s: output,
            to_epsilon=lambda output, x, a, s: (x - a * output) / s,
        ),
        Parameterization(
            "v",
            target=lambda x0, noise, a, s: a * noise - s * x0,
            to_x0=lambda output, x, a, s: (a * x - s * output) / (a * a + s * s),
            to_epsilon=lambda output, x, a, s: (a * output + s * x) / (a * a + s * s),
        ),
        Parameterization(
            "flow",
            target=lambda x0, noise, a, s: noise - x0,
            to_x0=lambda output, x, a, s: (x - s * output) / (a + s),
            to_epsilon=lambda output, x, a, s: (x + a * output) / (a + s),
        ),
    )
}


def get_parameterization(name: str) -> Parameterization:
    """The parameterization of that name.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if name not in _PARAMETERIZATIONS:
        raise ValueError(
            f"Expected a parameterization among {sorted(_PARAMETERIZATIONS)}. Received: {name!r}"
        )
    return _PARAMETERIZATIONS[name]
