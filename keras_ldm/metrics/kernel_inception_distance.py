"""The kernel distance of features as a metric: the mean over batches of the squared MMD without bias.

The kernel of `keras_ldm.metrics.kernel_distance` is

    k(x, y) = s³,   s = xᵀy / d + 1

What depends on x alone, or on y alone, cancels between the three means of the MMD. About the mean o of
both batches, x = o + u and y = o + v,

    s = c + t,   c = oᵀo / d + 1,   t = a(x) + a(y) + g,   a(x) = oᵀu / d,   g = uᵀv / d
    s³ = c³ + 3c² (a(x) + a(y)) + 3c² g + 3c t² + t³

so that the first two terms, by far the largest of features with a mean far from 0, need not be computed.

Reference: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4, and its block estimate,
Zaremba et al. 2013.
"""

from typing import Any, Self

import keras
from keras import ops

from keras_ldm.backend import exact_matmul, has_float64, without_gradient
from keras_ldm.metrics.feature_metric import FeatureMetric, check_range
from keras_ldm.metrics.running_sum import RunningCount, RunningSum
from keras_ldm.types import Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class KernelInceptionDistance(FeatureMetric):
    """The kernel distance of real and generated images; KID with the `InceptionV3` of 2015.

    Each batch gives an estimate without bias, so that the mean over batches has none either; larger
    batches give one with less spread. Each batch weighs as much as it has images, of the kind that it
    has fewer of; one of fewer than 2 is left out.

    Args:
        network: see `FeatureMetric`.
        features: which of its features.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: see `FeatureMetric`.

    Reference: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401.

    Example:

    ```python
    metric = keras_ldm.metrics.KernelInceptionDistance(network)
    metric.update_state(real, generated)    # (batch, height, width, 3)
    metric.result()
    ```
    """

    def __init__(
        self, network: keras.Model, features: str = "pooled", *, name: str = "kid", **kwargs: Any
    ) -> None:
        super().__init__(network, features, name=name, **kwargs)
        self._images = RunningCount(self, "images")
        self._total = RunningSum(self, (), "total")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: None = None) -> None:
        """Takes in a batch of both kinds: see `FeatureMetric`."""
        self._check_unweighted(sample_weight)
        check_range(y_true)
        with without_gradient():
            dtype = "float64" if has_float64() else "float32"
            x, y = (ops.cast(self.features_of(images), dtype) for images in (y_true, y_pred))
            fewer = ops.minimum(ops.shape(x)[0], ops.shape(y)[0])
            weight = ops.where(ops.less(fewer, 2), 0, fewer)
            self._total.add(ops.cast(weight, dtype) * _squared_mmd(x, y))
            self._images.add(weight)

    def update_real(self, images: Tensor) -> None:
        """Refuses: batches of both kinds are compared with each other.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"Expected both kinds of images, in `update_state`, together: {self.name!r} compares them "
            "batch by batch. Received: those of one kind"
        )

    update_generated = update_real

    def _measure(self) -> float:
        count = self._images.value()
        return float(self._total.value()) / count if count else float("nan")

    def _merge(self, other: Self) -> None:
        self._images.add(other._images.value())
        self._total.add_array(other._total.value())


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Of `(m, d)` and `(n, d)`, a scalar; of one row, some finite number."""
    dim = x.shape[-1]
    origin = (ops.mean(x, axis=0) + ops.mean(y, axis=0)) / 2
    square = ops.sum(origin * origin) / dim + 1.0
    u, v = x - origin, y - origin
    along_u, along_v = (ops.sum(w * origin, axis=1) / dim for w in (u, v))

    def kernel(p: Tensor, q: Tensor, along_p: Tensor, along_q: Tensor) -> Tensor:
        products = exact_matmul(p, ops.transpose(q)) / dim
        t = along_p[:, None] + along_q[None, :] + products
        return 3.0 * square * (square * products + t * t) + t * t * t

    def mean_of_pairs(p: Tensor, along: Tensor) -> Tensor:
        count = ops.shape(p)[0]
        index = ops.arange(count)
        same = ops.equal(index[:, None], index[None, :])
        values = kernel(p, p, along, along)
        pairs = ops.maximum(count * (count - 1), 1)
        return ops.sum(ops.where(same, 0.0, values)) / ops.cast(pairs, x.dtype)

    # Sums, since Keras computes the mean of float64 in float32 on PyTorch.
    pairs = ops.cast(ops.shape(x)[0] * ops.shape(y)[0], x.dtype)
    between = ops.sum(kernel(u, v, along_u, along_v)) / pairs
    return mean_of_pairs(u, along_u) + mean_of_pairs(v, along_v) - 2.0 * between
