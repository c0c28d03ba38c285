"""LPIPS as a loss."""

from typing import Any

import keras
from keras import ops

from keras_ldm.images import to_floats
from keras_ldm.models import pretrained_lpips
from keras_ldm.models.lpips_network import Backbone
from keras_ldm.models.lpips_weights import LPIPSWeights, weights_config
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm", name="LPIPSLoss")
class LPIPS(keras.losses.Loss):
    """Learned perceptual image patch similarity; a distance, 0 for equal images.

    Args:
        backbone: "vgg16", with which the paper trains, or "alexnet", which is faster.
        weights: see `keras_ldm.models.pretrained_lpips`; by default those of an installed package.
        name: of the loss.
        **kwargs: see `keras.losses.Loss`.

    Images are `(batch, height, width, 3)`, uint8 or floats in [-1, 1].

    Raises:
        ImportError: if the weights' package is needed and not installed; the message names the command.
        FileNotFoundError: if there is no such file of weights.
        ValueError: for files that do not hold them, or images smaller than the network takes.

    Reference: Zhang et al. 2018, https://arxiv.org/abs/1801.03924.

    Example:

    ```python
    model.compile(loss=keras_ldm.losses.LPIPS())
    first_stage = keras_ldm.tasks.AutoencoderTask(model, perceptual_loss=keras_ldm.losses.LPIPS())
    ```
    """

    def __init__(
        self,
        backbone: Backbone = "vgg16",
        weights: LPIPSWeights | None = None,
        *,
        name: str = "lpips",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.backbone = backbone
        self.weights = weights_config(weights)
        self.network = pretrained_lpips(backbone, weights)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """The distances, reduced."""
        y_true, y_pred = (to_floats(ops.convert_to_tensor(images)) for images in (y_true, y_pred))
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The distance of each pair of images, `(batch,)`."""
        return self.network((y_true, y_pred))

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "backbone": self.backbone, "weights": self.weights}
