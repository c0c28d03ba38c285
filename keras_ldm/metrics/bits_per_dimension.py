"""How many bits a model needs for each value of an image."""

from typing import Any

import keras
from keras import ops

from keras_ldm.types import Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class BitsPerDimension(keras.metrics.Mean):
    """All bits of all images, divided by the number of their values.

    The bits of an image are those of the prior and of all steps, added up, to the last noise level: see
    `keras_ldm.diffusion.prior_bits` and `step_bits`. `rate_distortion` of a task gives the same number
    as the last of its `rates`, with the images' height, width and channels as dimensions.

    Args:
        name: of the metric.
        **kwargs: see `keras.metrics.Mean`.

    Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239, table 1 and section 4.3.

    Example:

    ```python
    bits = prior_bits(schedule, latents, sigmas[0])
    for sigma, lower in itertools.pairwise(sigmas):
        bits += step_bits(schedule, latents, estimate(sigma), sigma, lower)
    metric = keras_ldm.metrics.BitsPerDimension()
    metric.update_state(bits, math.prod(images.shape[1:]))
    metric.result()
    ```
    """

    def __init__(self, name: str = "bits_per_dimension", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, bits: Tensor, num_dimensions: int, sample_weight: Tensor = None) -> None:
        """Takes in a batch.

        Args:
            bits: of each image, `(batch,)`.
            num_dimensions: values of each image of the batch; batches may differ.
            sample_weight: `(batch,)`, or None.

        Raises:
            ValueError: for bits of another shape, or less than one dimension.
        """
        bits = ops.cast(bits, self.dtype)
        if len(bits.shape) != 1 or num_dimensions < 1:
            raise ValueError(
                "Expected bits (batch,) of images of at least one dimension. "
                f"Received: shape {tuple(bits.shape)}, num_dimensions={num_dimensions}"
            )
        weight = ops.ones_like(bits) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        super().update_state(bits / num_dimensions, weight * num_dimensions)
