"""LPIPS as a metric."""

from typing import Any

import keras
from keras import ops

from keras_ldm.models import pretrained_lpips
from keras_ldm.models.lpips_network import Backbone
from keras_ldm.models.lpips_weights import LPIPSWeights, weights_config
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm", name="LPIPSMetric")
class LPIPS(keras.metrics.Mean):
    """Mean learned perceptual image patch similarity; a distance, 0 for equal images.

    Args:
        backbone: "alexnet", which its authors measure with, or "vgg16".
        weights: see `keras_ldm.models.pretrained_lpips`; by default those of an installed package.
        name: of the metric.
        **kwargs: see `keras.metrics.Mean`.

    Raises:
        ImportError: if the weights' package is needed and not installed; the message names the command.
        FileNotFoundError: if there is no such file of weights.
        ValueError: for files that do not hold them, or images smaller than the network takes.

    Reference: Zhang et al. 2018, https://arxiv.org/abs/1801.03924.

    Example:

    ```python
    metric = keras_ldm.metrics.LPIPS()
    metric.update_state(images, reconstructions)    # (batch, height, width, 3)
    metric.result()
    ```
    """

    def __init__(
        self,
        backbone: Backbone = "alexnet",
        weights: LPIPSWeights | None = None,
        *,
        name: str = "lpips",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.backbone = backbone
        self.weights = weights_config(weights)
        self.network = pretrained_lpips(backbone, weights)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Takes in a batch.

        Args:
            y_true: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].
            y_pred: of the same shape.
            sample_weight: `(batch,)`, or None.
        """
        images = [ops.convert_to_tensor(x) for x in (y_true, y_pred)]
        super().update_state(self.network(images), sample_weight)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "backbone": self.backbone, "weights": self.weights}
