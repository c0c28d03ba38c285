"""A sum over batches that does not lose digits, in the variables of a metric.

Where there is no float64, two float32 numbers hold it, the second what rounding took from the first:

    s = a + b,   t = s - a,   (a - (s - t)) + (b - t) = what s lacks of a + b, exactly

Reference: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B ("TwoSum").
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import has_float64
from keras_ldm.types import Array, Tensor


class RunningSum:
    """A sum with the digits of float64, or nearly so on JAX.

    Args:
        metric: whose variables hold it.
        shape: of what is summed.
        name: of the variables.
    """

    def __init__(self, metric: keras.metrics.Metric, shape: Sequence[int], name: str) -> None:
        self.dtype = "float64" if has_float64() else "float32"
        self._sum = metric.add_variable(shape, "zeros", dtype=self.dtype, name=name)
        self._rest: keras.Variable | None = None
        if not has_float64():
            self._rest = metric.add_variable(shape, "zeros", dtype=self.dtype, name=f"{name}_rest")

    def add(self, values: Tensor) -> None:
        """Adds a tensor of the sum's shape."""
        values = ops.cast(values, self.dtype)
        before = self._sum.value
        after = before + values
        self._sum.assign(after)
        if self._rest is not None:
            moved = after - before
            self._rest.assign(self._rest + ((before - (after - moved)) + (values - moved)))

    def add_array(self, values: Array) -> None:
        """Adds an array with all its digits; in eager code."""
        high = values.astype(self.dtype)
        self.add(ops.convert_to_tensor(high))
        if self._rest is not None:
            self.add(ops.convert_to_tensor((values - high).astype(self.dtype)))

    def value(self) -> Array:
        """The sum, float64; in eager code."""
        parts = [self._sum] if self._rest is None else [self._sum, self._rest]
        return np.sum([to_array(part).astype(np.float64) for part in parts], axis=0)


def to_array(variable: keras.Variable) -> Array:
    """A variable's value, in a stateless scope what it is there."""
    return np.asarray(variable.numpy())


class RunningCount:
    """A count in a variable of a metric.

    Args:
        metric: whose variable it is.
        name: of the variable.
    """

    def __init__(self, metric: keras.metrics.Metric, name: str) -> None:
        self._count = metric.add_variable((), "zeros", dtype="int32", name=name)

    def add(self, number: Tensor) -> None:
        """Counts so many more."""
        self._count.assign(self._count + ops.cast(number, "int32"))

    def tensor(self) -> Tensor:
        """The count, an int32 scalar."""
        return self._count.value

    def value(self) -> int:
        """The count; in eager code."""
        return int(to_array(self._count))
