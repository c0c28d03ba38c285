"""Vector quantization: each pixel of the latents becomes the nearest entry of a codebook.

Reference: van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, equations 1 to 3;
`VectorQuantizer2` (quantize.py) of taming-transformers, which the original code uses.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ldm.types import Config, Shape, Tensor


class Quantized(NamedTuple):
    """What `VectorQuantizer` gives.

    Attributes:
        latents: the nearest codes, shaped like the input. Their gradient passes to the input as if
            nothing had been quantized.
        indices: of the codes, int32, the input's shape without the last axis.
        codebook_loss: scalar.
    """

    latents: Tensor
    indices: Tensor
    codebook_loss: Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class VectorQuantizer(keras.layers.Layer):
    """A codebook, and the loss that draws codes and latents together.

        loss = mean|sg(code) - z|² + beta · mean|code - sg(z)|²

    Here `beta` weighs the codebook's term, as in the original's released models, whose codebooks are
    so trained; the paper has it on the other one (`legacy=False`). sg stops the gradient.

    Args:
        num_codes: entries of the codebook.
        beta: weight of one of the two terms.
        legacy: whether `beta` weighs the term that moves the codes.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, ..., dim)`. Output: a `Quantized`.
    """

    def __init__(
        self, num_codes: int, *, beta: float = 0.25, legacy: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if num_codes < 1:
            raise ValueError(f"Expected `num_codes` >= 1. Received: {num_codes}")
        self.num_codes = num_codes
        self.beta = beta
        self.legacy = legacy

    def build(self, input_shape: Shape) -> None:
        """Makes the codebook."""
        limit = 1.0 / self.num_codes
        self.codebook = self.add_weight(
            shape=(self.num_codes, input_shape[-1]),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            autocast=False,
            name="codebook",
        )

    def call(self, inputs: Tensor) -> Quantized:
        """Quantizes."""
        z = ops.cast(inputs, "float32")
        codebook = ops.cast(self.codebook, "float32")
        # |z - c|² = |z|² - 2 z·c + |c|², of which the first is the same for all codes.
        distances = ops.sum(ops.square(codebook), axis=-1) - 2.0 * ops.matmul(z, ops.transpose(codebook))
        indices = ops.cast(ops.argmin(distances, axis=-1), "int32")
        codes = ops.take(codebook, indices, axis=0)
        to_latents = ops.mean(ops.square(ops.stop_gradient(codes) - z))
        to_codes = ops.mean(ops.square(codes - ops.stop_gradient(z)))
        loss = to_latents + self.beta * to_codes if self.legacy else self.beta * to_latents + to_codes
        return Quantized(z + ops.stop_gradient(codes - z), indices, loss)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "beta": self.beta,
            "legacy": self.legacy,
        }
