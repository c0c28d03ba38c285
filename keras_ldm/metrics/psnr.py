"""Peak signal-to-noise ratio.

PSNR = 10 log10(peak² / MSE) of each image, averaged over images
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.metrics.image_pairs import check_image_pair
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class PeakSignalToNoiseRatio(keras.metrics.Mean):
    """Mean PSNR of images in decibels.

    Args:
        peak: difference between the largest and the smallest possible value: 2 for images in
            [-1, 1], 255 for uint8 images.
        name: of the metric.
        **kwargs: see `keras.metrics.Mean`.

    Example:

    ```python
    metric = keras_ldm.metrics.PeakSignalToNoiseRatio(peak=255)
    metric.update_state(images, reconstructions)    # (batch, height, width, channels)
    metric.result()
    ```
    """

    def __init__(self, peak: float = 2.0, name: str = "psnr", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.peak = peak

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Takes in a batch.

        Args:
            y_true: `(batch, height, width, channels)`.
            y_pred: of the same shape; equal images count as 100 dB.
            sample_weight: `(batch,)`, or None.

        Raises:
            ValueError: for images of two shapes.
        """
        check_image_pair(y_true, y_pred)
        difference = ops.cast(y_true, "float32") - ops.cast(y_pred, "float32")
        error = ops.mean(ops.square(difference), axis=(1, 2, 3)) / self.peak**2
        super().update_state(-10.0 * ops.log10(ops.maximum(error, 1e-10)), sample_weight)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "peak": self.peak}
