"""Adam's update as one operation on each weight, on TensorFlow's CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_ldm.types import Tensor


class FusedAdam:
    """Updates the weights of Keras's Adam or AdamW with the kernel that TensorFlow has for it.

    It computes what Keras computes, in the same order, and goes through a weight and its moments once.

    Args:
        optimizer: one that `fits`; it is changed.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._powers: tuple[Tensor, Tensor] | None = None
        optimizer.update_step = self.update

    @staticmethod
    def fits(optimizer: keras.optimizers.Optimizer) -> bool:
        """Whether an optimizer is such a one."""
        kinds = (keras.optimizers.Adam, keras.optimizers.AdamW)
        return type(optimizer) in kinds and not optimizer.amsgrad

    @contextmanager
    def step(self) -> Iterator[None]:
        """A scope of the updates of one step, on one device; outside it updates are Keras's own."""
        step = ops.cast(self.optimizer.iterations + 1, "float32")
        self._powers = (ops.power(self.optimizer.beta_1, step), ops.power(self.optimizer.beta_2, step))
        try:
            yield
        finally:
            self._powers = None  # they are of this step, and of its graph

    def update(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Updates one weight, of Keras or TensorFlow, as `keras.optimizers.Adam.update_step` does."""
        import tensorflow as tf

        optimizer, index = self.optimizer, self.optimizer._get_variable_index(variable)
        powers = self._powers
        if powers is None or variable.dtype != "float32":
            type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(optimizer._momentums[index]),
            v=_handle(optimizer._velocities[index]),
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=ops.cast(learning_rate, "float32"),
            beta1=tf.constant(optimizer.beta_1, "float32"),
            beta2=tf.constant(optimizer.beta_2, "float32"),
            epsilon=tf.constant(optimizer.epsilon, "float32"),
            grad=ops.cast(gradient, "float32"),
        )


def _handle(variable: Any) -> Any:
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
