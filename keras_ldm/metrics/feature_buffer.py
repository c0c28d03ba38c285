"""Features that are kept, in a variable of a metric."""

import keras
from keras import ops

from keras_ldm.metrics.running_sum import RunningCount, to_array
from keras_ldm.types import Array, Tensor


class FeatureBuffer:
    """The first features that came, in a variable of a metric.

    Args:
        metric: whose variable it is.
        capacity: how many images it holds.
        dim: features of an image.
        name: at the beginning of the variables' names.
    """

    def __init__(self, metric: keras.metrics.Metric, capacity: int, dim: int, name: str) -> None:
        self._count = RunningCount(metric, f"{name}_count")
        self._rows = metric.add_variable((capacity, dim), "zeros", dtype="float32", name=f"{name}_rows")
        self._capacity = capacity

    def add(self, features: Tensor) -> None:
        """Takes in the features of a batch, `(batch, dim)`, as far as there is room."""
        count = ops.shape(features)[0]
        # The row of the batch that comes to each row of the buffer, if there is one.
        source = ops.arange(self._capacity, dtype="int32") - self._count.tensor()
        comes = ops.logical_and(source >= 0, source < count)
        arriving = ops.take(
            ops.cast(features, "float32"), ops.clip(source, 0, ops.maximum(count - 1, 0)), axis=0
        )
        self._rows.assign(ops.where(comes[:, None], arriving, self._rows.value))
        self._count.add(count)

    def add_array(self, features: Array) -> None:
        """Takes in an array `(N, dim)` that may be empty; in eager code."""
        if len(features):
            self.add(ops.convert_to_tensor(features))

    def value(self) -> Array:
        """The features, `(images, dim)`; in eager code."""
        return to_array(self._rows)[: self._count.value()]
