"""The Inception Score as a metric.

    log IS = mean Σ p(y|x) log p(y|x) - Σ p(y) log p(y),   p(y) = mean p(y|x)

so that the sums of p(y|x) and of p(y|x) log p(y|x) suffice.
"""

from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_ldm.metrics.feature_metric import FeatureMetric
from keras_ldm.metrics.running_sum import RunningCount, RunningSum
from keras_ldm.types import Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class InceptionScore(FeatureMetric):
    """The Inception Score of generated images, from 1 to the number of classes; real ones do not matter.

    It is `keras_ldm.metrics.inception_score` of all images as one split; published scores are means over
    ten. With the `InceptionV3` of 2015 it is the published measure, with another classifier its own.

    Args:
        network: a classifier, see `FeatureMetric`.
        features: which of its outputs, logits.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: see `FeatureMetric`.

    Reference: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 4.

    Example:

    ```python
    metric = keras_ldm.metrics.InceptionScore(network)
    metric.update_generated(images)    # (batch, height, width, 3)
    metric.result()
    ```
    """

    def __init__(
        self,
        network: keras.Model,
        features: str = "logits",
        *,
        name: str = "inception_score",
        **kwargs: Any,
    ) -> None:
        super().__init__(network, features, name=name, **kwargs)
        self._images = RunningCount(self, "images")
        self._shares = RunningSum(self, (self.dim,), "shares")
        self._sureness = RunningSum(self, (), "sureness")

    def update_real(self, images: Tensor) -> None:
        """Passes over real images."""

    def _add_generated(self, features: Tensor) -> None:
        log_p = ops.log_softmax(ops.cast(features, self._shares.dtype), axis=-1)
        p = ops.exp(log_p)
        self._shares.add(ops.sum(p, axis=0))
        self._sureness.add(ops.sum(p * log_p))
        self._images.add(ops.shape(features)[0])

    def _measure(self) -> float:
        count = self._images.value()
        if count < 2:
            return float("nan")
        shares = self._shares.value() / count
        # What underflows to 0 counts for nothing.
        evenness = -np.sum(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny)))
        return float(np.exp(self._sureness.value() / count + evenness))

    def _merge(self, other: Self) -> None:
        self._images.add(other._images.value())
        self._shares.add_array(other._shares.value())
        self._sureness.add_array(other._sureness.value())
