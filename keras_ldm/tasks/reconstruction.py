"""The loss of the first stage, from images and their reconstructions.

    distance = mean|x - x̂| + perceptual_weight · LPIPS(x, x̂)
    KL: loss = size · (distance / exp(s) + s) + kl_weight · KL(q(z|x) || N(0, I)) + adversarial terms
    VQ: loss = distance / exp(s) + s + codebook_weight · codebook loss + adversarial terms

where size is the number of values of an image, since the original sums over them (and counts LPIPS once
for each), s is the log-variance, 0 if it is not learned, and the adversarial terms are those of
`keras_ldm.tasks.adversary`.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G;
`LPIPSWithDiscriminator` (contperceptual.py) of the original code, and `VQLPIPSWithDiscriminator`
(vqperceptual.py) of taming-transformers.
"""

from functools import partial
from typing import Literal

import keras
from keras import ops

from keras_ldm.backend import follow_gradient, in_batch_parts, with_gradient
from keras_ldm.models import LPIPSNetwork
from keras_ldm.tasks.adversary import Adversary
from keras_ldm.types import Tensor

ReconstructionLoss = Literal["l1", "l2"]


class ReconstructionObjective:
    """What a reconstruction costs: distance and adversarial terms, LPIPS and discriminator run once.

    Args:
        error: "l1" (absolute differences) or "l2" (squared).
        perceptual_network: or None.
        perceptual_weight: of LPIPS.
        adversary: or None.
        sums: whether the distance is summed over an image's values, as with KL.

    Raises:
        ValueError: for another error.
    """

    def __init__(
        self,
        error: ReconstructionLoss,
        perceptual_network: LPIPSNetwork | None,
        perceptual_weight: float,
        adversary: Adversary | None,
        *,
        sums: bool,
    ) -> None:
        if error not in ("l1", "l2"):
            raise ValueError(f"Expected `reconstruction_loss` 'l1' or 'l2'. Received: {error!r}")
        self.error = ops.abs if error == "l1" else ops.square
        self.perceptual_network = perceptual_network
        self.perceptual_weight = perceptual_weight
        self.adversary = adversary
        self.sums = sums

    def __call__(
        self,
        images: Tensor,
        reconstruction: Tensor,
        log_variance: Tensor,
        *,
        condition: Tensor | None = None,
        features: Tensor | None = None,
        last_layer: keras.layers.Conv2D | None = None,
        updates: Tensor = 0,
        training: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, but for the latents' regularization, and its terms.

        Outside training the adversarial terms are computed, and left out of the loss.

        Args:
            images: `(batch, height, width, channels)`, in [-1, 1].
            reconstruction: of the same shape.
            log_variance: scalar.
            condition: maps that the discriminator sees too, or None.
            features: what `last_layer` made the reconstruction from; for the adaptive weight.
            last_layer: the decoder's last convolution.
            updates: of the weights, so far.
            training: whether a gradient is wanted.

        Returns:
            A scalar, and scalars by name.
        """
        distances, gradient = in_batch_parts(partial(self._distances, training))(images, reconstruction)
        terms = {name: ops.mean(value) for name, value in distances.items()}
        distance = terms.pop("distance")
        count = ops.cast(ops.shape(images)[0], "float32")
        if training:
            gradient = gradient / count
            distance = follow_gradient(distance, reconstruction, gradient)
        precision = ops.exp(-log_variance)
        size = _values_of_an_image(images) if self.sums else 1.0
        loss = size * (distance * precision + log_variance)
        if self.adversary is None:
            return loss, terms

        judged = self.adversary.judge(images, reconstruction, condition, training)
        generator_gradient = judged.pop("gradient") / count
        judged = {name: ops.mean(value) for name, value in judged.items()}
        terms = {**terms, **judged}
        if training:
            generator = follow_gradient(judged["generator_loss"], reconstruction, generator_gradient)
            strength = self.adversary.strength(
                size * precision * gradient, generator_gradient, features, last_layer
            )
            factor = self.adversary.factor_after(updates)
            terms["generator_weight"] = factor * strength
            loss += factor * (strength * generator + judged["discriminator_loss"])
        return loss, terms

    def _distances(
        self, training: bool, images: Tensor, reconstruction: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Each image's distance from its reconstruction, with its parts, and its gradient there."""
        network = self.perceptual_network

        def measure(reconstruction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            pixels = ops.mean(self.error(images - reconstruction), axis=(1, 2, 3))
            if network is None:
                return pixels, {"reconstruction_loss": pixels}
            perceptual = network((images, reconstruction))
            distance = pixels + self.perceptual_weight * perceptual
            return distance, {"reconstruction_loss": pixels, "perceptual_loss": perceptual}

        if not training:
            distance, parts = measure(reconstruction)
            return {"distance": distance, **parts}, distance
        distance, parts, gradient = with_gradient(measure, reconstruction)
        return {"distance": distance, **parts}, gradient


def _values_of_an_image(images: Tensor) -> Tensor:
    size = 1.0
    for side in ops.shape(images)[1:]:
        size *= ops.cast(side, "float32")
    return size
