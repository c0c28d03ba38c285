"""The other side in the training of an autoencoder: a discriminator, and how much it counts.

    loss = nll + factor · (strength · generator loss + discriminator loss),   factor = 0 before the start
    strength = weight · clip(|∇nll| / (|∇generator loss| + 1e-4), 0, 1e4)

where ∇ is the gradient at the decoder's last kernel.

Reference: Esser et al. 2021, https://arxiv.org/abs/2012.09841, equations 6 and 7, which Rombach et al.
2022 take over; `LPIPSWithDiscriminator` (contperceptual.py) of the original code.
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.backend import in_batch_parts, with_gradient
from keras_ldm.losses import get_adversarial_loss
from keras_ldm.models import PatchDiscriminator
from keras_ldm.tasks.arguments import check_at_least_zero
from keras_ldm.types import Tensor

_MAX_STRENGTH = 1e4


class Adversary:
    """A discriminator with its losses.

    Args:
        network: the discriminator.
        loss: "hinge", "vanilla" or "non_saturating".
        weight: of the generator's loss.
        adaptive: whether the weight is relative to the gradients' norms.
        factor: of both losses.
        start: updates of the weights after which both begin to count.

    Raises:
        ValueError: for an unknown loss, or numbers below 0.
    """

    def __init__(
        self,
        network: PatchDiscriminator,
        loss: str,
        *,
        weight: float,
        adaptive: bool,
        factor: float,
        start: int,
    ) -> None:
        check_at_least_zero(
            discriminator_weight=weight, discriminator_factor=factor, discriminator_start=start
        )
        self.network = network
        self.loss = get_adversarial_loss(loss)
        self.weight = weight
        self.adaptive = adaptive
        self.factor = factor
        self.start = start

    def factor_after(self, updates: Tensor) -> Tensor:
        """What both losses are multiplied by after so many updates."""
        return ops.where(ops.greater_equal(updates, self.start), float(self.factor), 0.0)

    def judge(
        self, images: Tensor, reconstruction: Tensor, condition: Tensor | None, training: bool
    ) -> dict[str, Tensor]:
        """The losses of one batch, with one pass of the discriminator for each side.

        Gradients of `discriminator_loss` go to the discriminator's weights alone; those of
        `generator_loss` are in `gradient`, and are to go nowhere by themselves.

        Args:
            images: `(batch, height, width, channels)`, in [-1, 1].
            reconstruction: of the same shape.
            condition: maps of the same height and width that the discriminator sees too, or None.
            training: whether batch normalization uses the batch.

        Returns:
            `generator_loss`, `discriminator_loss`, `real_logits` and `fake_logits`, one value an image,
            and `gradient` of the generator's loss of each image at its reconstruction.
        """
        network = self.network
        weights = [variable.value for variable in network.trainable_variables]
        state = [variable.value for variable in network.non_trainable_variables]

        def discriminate(images: Tensor, condition: Tensor | None, state: Any) -> tuple[Tensor, Any]:
            seen = images if condition is None else ops.concatenate([images, condition], axis=-1)
            return network.stateless_call(weights, state, seen, training=training)

        def compare(
            images: Tensor, reconstruction: Tensor, condition: Tensor | None = None
        ) -> tuple[dict[str, Tensor], Any]:
            def generate(reconstruction: Tensor) -> tuple[Tensor, Any]:
                logits, after = discriminate(reconstruction, condition, state)
                return self.loss.generator(logits), (logits, after)

            generator, (fake, after), gradient = with_gradient(generate, reconstruction)
            real, after = discriminate(images, condition, after)
            return {
                "generator_loss": generator,
                "discriminator_loss": self.loss.real(real) + self.loss.fake(fake),
                "real_logits": ops.mean(real, axis=(1, 2, 3)),
                "fake_logits": ops.mean(fake, axis=(1, 2, 3)),
                "gradient": gradient,
            }, after

        arguments = [images, reconstruction] + ([] if condition is None else [condition])
        if not state:  # no image matters to another
            return in_batch_parts(lambda *parts: compare(*parts)[0])(*arguments)
        judged, after = compare(*arguments)
        if training:
            for variable, value in zip(network.non_trainable_variables, after, strict=True):
                variable.assign(value)
        return judged

    def strength(
        self,
        nll_gradient: Tensor,
        generator_gradient: Tensor,
        features: Tensor,
        last_layer: keras.layers.Conv2D,
    ) -> Tensor:
        """The weight of the generator's loss, a scalar, through which no gradient goes.

        Args:
            nll_gradient: of the loss without it, at the reconstructions.
            generator_gradient: of the generator's loss, there too.
            features: what the decoder's last convolution made the reconstructions from.
            last_layer: that convolution.
        """
        if not self.adaptive:
            return ops.convert_to_tensor(float(self.weight))
        nll, generator = (
            ops.sqrt(ops.sum(ops.square(gradient)))
            for gradient in _kernel_gradients(features, last_layer, nll_gradient, generator_gradient)
        )
        return ops.stop_gradient(self.weight * ops.clip(nll / (generator + 1e-4), 0.0, _MAX_STRENGTH))


def _kernel_gradients(
    features: Tensor, convolution: keras.layers.Conv2D, *gradients: Tensor
) -> list[Tensor]:
    """Gradients of a convolution's kernel from those of its output, in one pass over its input."""
    features = ops.cast(ops.stop_gradient(features), "float32")
    upstream = ops.stop_gradient(ops.concatenate(gradients, axis=-1))
    shape = tuple(convolution.kernel.shape)
    kernel = ops.zeros((*shape[:-1], shape[-1] * len(gradients)))

    def output(kernel: Tensor) -> tuple[Tensor, None]:
        return ops.conv(features, kernel, padding="same", data_format="channels_last") * upstream, None

    return ops.split(with_gradient(output, kernel)[2], len(gradients), axis=-1)
