"""The structural similarity index.

SSIM(x, y) = (2 μx μy + C1) (2 σxy + C2) / ((μx² + μy² + C1) (σx² + σy² + C2))

with means, variances and covariances under a Gaussian window of 11 pixels (σ = 1.5), averaged over its
places within the image and over channels; C1 = (0.01·peak)², C2 = (0.03·peak)².

Reference: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.metrics.image_pairs import check_image_pair
from keras_ldm.types import Array, Config, Tensor

WINDOW = 11
"""Pixels a side of the window."""

_SIGMA = 1.5


@keras.saving.register_keras_serializable("keras_ldm")
class StructuralSimilarity(keras.metrics.Mean):
    """Mean SSIM of images: 1 for equal ones, about 0 for unrelated ones.

    Args:
        peak: the largest possible value of images from 0 on, 255 for uint8 images; 2, the default, is
            for images in [-1, 1], which are taken as from 0 to 2.
        name: of the metric.
        **kwargs: see `keras.metrics.Mean`.

    Reference: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861.

    Example:

    ```python
    metric = keras_ldm.metrics.StructuralSimilarity(peak=255)
    metric.update_state(images, reconstructions)    # (batch, height, width, channels)
    metric.result()
    ```
    """

    def __init__(self, peak: float = 2.0, name: str = "ssim", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        check_peak(peak)
        self.peak = peak

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Takes in a batch.

        Args:
            y_true: `(batch, height, width, channels)`, of at least 11 pixels a side.
            y_pred: of the same shape.
            sample_weight: `(batch,)`, or None.

        Raises:
            ValueError: for smaller images, or those of another shape.
        """
        light, structure = similarity_maps(*image_pair(y_true, y_pred, self.peak, WINDOW))
        super().update_state(ops.mean(light * structure, axis=(1, 2, 3)), sample_weight)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "peak": self.peak}


def check_peak(peak: float) -> None:
    """Raises a ValueError for a peak that is not above 0."""
    if not peak > 0:
        raise ValueError(f"Expected a `peak` > 0. Received: {peak}")


def image_pair(y_true: Tensor, y_pred: Tensor, peak: float, least: int) -> tuple[Tensor, Tensor]:
    """Two batches of images as float32, from 0 to 1.

    Raises:
        ValueError: if they differ in shape, or a side has less than `least` pixels.
    """
    least_value = -1.0 if peak == 2.0 else 0.0  # luminance is compared from black on
    x, y = ((ops.cast(images, "float32") - least_value) / peak for images in (y_true, y_pred))
    check_image_pair(x, y, least)
    return x, y


def similarity_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM at each place of the window.

    Args:
        x: images whose peak is 1, `(batch, height, width, channels)`.
        y: of the same shape.

    Returns:
        Luminance, and contrast times structure, each `(batch, height - 10, width - 10, channels)`.
    """
    channels = x.shape[-1]
    # About the mean of both, so that the differences of squares below keep their digits.
    middle = (ops.mean(x, (1, 2), keepdims=True) + ops.mean(y, (1, 2), keepdims=True)) / 2
    u, v = x - middle, y - middle
    values = ops.concatenate([u, v, u * u, v * v, u * v], axis=-1)
    window = _gaussian()
    for kernel in (window[:, None], window[None, :]):
        kernel = np.tile(kernel[:, :, None, None], (1, 1, 5 * channels, 1)).astype("float32")
        values = ops.depthwise_conv(
            values, ops.convert_to_tensor(kernel), padding="valid", data_format="channels_last"
        )
    mean_u, mean_v, uu, vv, uv = ops.split(values, 5, axis=-1)
    variances = uu + vv - mean_u**2 - mean_v**2
    covariance = uv - mean_u * mean_v
    mean_x, mean_y = mean_u + middle, mean_v + middle
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return light, (2 * covariance + c2) / (variances + c2)


def _gaussian() -> Array:
    places = np.arange(WINDOW) - (WINDOW - 1) / 2
    weights = np.exp(-(places**2) / (2 * _SIGMA**2))
    return np.asarray(weights / weights.sum())
