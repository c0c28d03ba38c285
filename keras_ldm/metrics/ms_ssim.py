"""The multi-scale structural similarity index.

    MS-SSIM(x, y) = l_M^w_M · Π_j (c·s)_j^w_j,   j = 1 … M

with luminance l, and contrast times structure c·s, as in SSIM, at M scales, each half the size of the
one before by averages of 2x2 pixels; the last row or column of an odd side is left out. As in the
authors' code, each factor is the mean over the places of the window, at the last scale that of the
product l·c·s. Channels are measured apart and averaged. A mean of c·s below 0, as of images that are
each other's negative, has no such power, and counts as 0.

Reference: Wang, Simoncelli & Bovik 2003, "Multiscale structural similarity for image quality
assessment", equation 7, with its weights from section 3.2.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ldm.metrics.ssim import WINDOW, check_peak, image_pair, similarity_maps
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class MultiScaleStructuralSimilarity(keras.metrics.Mean):
    """Mean MS-SSIM of images, from 0 to 1, which equal ones have.

    Args:
        peak: the largest possible value of images from 0 on, 255 for uint8 images; 2, the default, is
            for images in [-1, 1], which are taken as from 0 to 2.
        weights: of the scales, from the images' own to the smallest. Images need 11 pixels a side at
            the last one: 176 with the published five, 88 with four. Numbers of other weights do not
            compare.
        name: of the metric.
        **kwargs: see `keras.metrics.Mean`.

    Raises:
        ValueError: for a peak that is not above 0, or weights that are not, or none.

    Reference: Wang et al. 2003, https://doi.org/10.1109/ACSSC.2003.1292216.

    Example:

    ```python
    metric = keras_ldm.metrics.MultiScaleStructuralSimilarity(peak=255)
    metric.update_state(images, reconstructions)    # (batch, height, width, channels)
    metric.result()
    ```
    """

    def __init__(
        self,
        peak: float = 2.0,
        weights: Sequence[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
        name: str = "ms_ssim",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        check_peak(peak)
        if not len(weights) or not all(weight > 0 for weight in weights):
            raise ValueError(f"Expected `weights` > 0, one for each scale. Received: {weights}")
        self.peak = peak
        self.weights = tuple(float(weight) for weight in weights)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Takes in a batch.

        Args:
            y_true: `(batch, height, width, channels)`, of at least 176 pixels a side with five weights.
            y_pred: of the same shape.
            sample_weight: `(batch,)`, or None.

        Raises:
            ValueError: for smaller images, or those of another shape.
        """
        least = WINDOW * 2 ** (len(self.weights) - 1)
        x, y = image_pair(y_true, y_pred, self.peak, least)
        super().update_state(_similarity(x, y, self.weights), sample_weight)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "peak": self.peak, "weights": list(self.weights)}


def _similarity(x: Tensor, y: Tensor, weights: Sequence[float]) -> Tensor:
    """MS-SSIM of each pair of images, whose peak is 1."""
    product: Tensor = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            x, y = (ops.average_pool(z, 2, 2, "valid", data_format="channels_last") for z in (x, y))
        light, structure = similarity_maps(x, y)
        last = scale == len(weights) - 1
        mean = ops.mean(light * structure if last else structure, axis=(1, 2))
        product = product * ops.power(ops.maximum(mean, 0.0), weight)
    return ops.mean(product, axis=-1)
