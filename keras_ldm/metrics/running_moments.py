"""Number, sum and products of features, batch by batch: what mean and covariance are made of.

    mean = o + s / N,   (N - 1) covariance = Q - s sᵀ / N,   s = Σ (x - o),   Q = Σ (x - o)(x - o)ᵀ

The last difference takes digits where the mean is far from o. In float64 there are enough with o = 0,
and sums of several replicas add up; in float32, o is the mean of the first batch.
"""

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import exact_matmul, has_float64
from keras_ldm.metrics.feature_statistics import FeatureStatistics
from keras_ldm.metrics.running_sum import RunningCount, RunningSum, to_array
from keras_ldm.types import Array, Tensor


class RunningMoments:
    """What is known of the features of one kind of images.

    Args:
        metric: whose variables hold it.
        dim: features of an image.
        name: at the beginning of the variables' names.
    """

    def __init__(self, metric: keras.metrics.Metric, dim: int, name: str) -> None:
        self._count = RunningCount(metric, f"{name}_count")
        self._origin: keras.Variable | None = None
        if not has_float64():
            self._origin = metric.add_variable((dim,), "zeros", dtype="float32", name=f"{name}_origin")
        self._sum = RunningSum(metric, (dim,), f"{name}_sum")
        self._products = RunningSum(metric, (dim, dim), f"{name}_products")

    def add(self, features: Tensor) -> None:
        """Takes in the features of a batch, `(batch, dim)`."""
        x = ops.cast(features, self._sum.dtype)
        if self._origin is not None:
            first = ops.mean(x, axis=0)
            empty = ops.equal(self._count.tensor(), 0)
            self._origin.assign(ops.where(empty, first, self._origin.value))
            x = x - self._origin.value
        self._sum.add(ops.sum(x, axis=0))
        self._products.add(exact_matmul(ops.transpose(x), x))
        self._count.add(ops.shape(x)[0])

    @property
    def count(self) -> int:
        """Images so far; in eager code."""
        return self._count.value()

    def is_finite(self) -> bool:
        """Whether all features were finite numbers."""
        return bool(np.isfinite(self._products.value()).all())

    def statistics(self, features: str) -> FeatureStatistics:
        """Mean and covariance so far; in eager code.

        Args:
            features: what they are, in words.

        Raises:
            ValueError: of less than two images, or features that are not finite.
        """
        count, total = self.count, self._sum.value()
        if count < 2:
            raise ValueError(f"Expected features of at least 2 images. Received: {count}")
        scatter = self._products.value() - np.outer(total, total) / count
        mean = self._origin_value() + total / count
        return FeatureStatistics(mean, scatter / (count - 1), count, features)

    def merge(self, other: "RunningMoments") -> None:
        """Takes in what another one has; in eager code."""
        if not other.count:
            return
        if self._origin is not None and not self.count:
            self._origin.assign(ops.convert_to_tensor(other._origin_value().astype(np.float32)))
        # About this one's origin: x - o = (x - p) + d
        d = other._origin_value() - self._origin_value()
        total, products, count = other._sum.value(), other._products.value(), other.count
        crossed = np.outer(total, d)
        self._products.add_array(products + crossed + crossed.T + count * np.outer(d, d))
        self._sum.add_array(total + count * d)
        self._count.add(count)

    def _origin_value(self) -> Array:
        if self._origin is None:
            return np.zeros(self._sum.value().shape)
        return to_array(self._origin).astype(np.float64)
