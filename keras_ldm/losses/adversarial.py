"""What generator and discriminator make of the discriminator's logits.

    hinge           D: ½ (mean max(0, 1 - real) + mean max(0, 1 + fake))    G: -mean fake
    vanilla         D: ½ (mean softplus(-real) + mean softplus(fake))       G: -mean fake
    non_saturating  D: the same                                             G: mean softplus(-fake)

Reference: `hinge_d_loss` and `vanilla_d_loss` (vqperceptual.py) of taming-transformers, with the
generator's loss that the original code has for both; Goodfellow et al. 2014,
https://arxiv.org/abs/1406.2661, section 3, for the last.
"""

from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from keras_ldm.types import Tensor


class AdversarialLoss(NamedTuple):
    """Both sides of the game, each from logits to one value an image.

    Attributes:
        generator: from the logits of reconstructions.
        real: the discriminator's, from the logits of images.
        fake: the discriminator's, from the logits of reconstructions.
    """

    generator: Callable[[Tensor], Tensor]
    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]


def _mean(logits: Tensor) -> Tensor:
    return ops.mean(logits, axis=(1, 2, 3))


def _wasserstein(fake: Tensor) -> Tensor:
    return -_mean(fake)


def _softplus_real(real: Tensor) -> Tensor:
    return 0.5 * _mean(ops.softplus(-real))


def _softplus_fake(fake: Tensor) -> Tensor:
    return 0.5 * _mean(ops.softplus(fake))


_LOSSES = {
    "hinge": AdversarialLoss(
        generator=_wasserstein,
        real=lambda real: 0.5 * _mean(ops.relu(1.0 - real)),
        fake=lambda fake: 0.5 * _mean(ops.relu(1.0 + fake)),
    ),
    "vanilla": AdversarialLoss(_wasserstein, _softplus_real, _softplus_fake),
    "non_saturating": AdversarialLoss(
        lambda fake: _mean(ops.softplus(-fake)), _softplus_real, _softplus_fake
    ),
}


def get_adversarial_loss(name: str) -> AdversarialLoss:
    """The adversarial loss of a name: "hinge", "vanilla" or "non_saturating".

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in _LOSSES:
        raise ValueError(
            f"Expected an adversarial loss: {' or '.join(map(repr, _LOSSES))}. Received: {name!r}"
        )
    return _LOSSES[name]
