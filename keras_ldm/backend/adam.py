"""Adam's update as one operation on each weight, on TensorFlow's CPU."""

from collections.abc import Iterator, Sequence
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
        self._shared: dict[str, Tensor] | None = None
        optimizer.update_step = self.update
        optimizer._apply_weight_decay = self.decay

    @staticmethod
    def fits(optimizer: keras.optimizers.Optimizer) -> bool:
        """Whether an optimizer is such a one."""
        kinds = (keras.optimizers.Adam, keras.optimizers.AdamW)
        return type(optimizer) in kinds and not optimizer.amsgrad

    @contextmanager
    def step(self) -> Iterator[None]:
        """A scope of the updates of one step, on one device; outside it updates are Keras's own."""
        optimizer = self.optimizer
        step = ops.cast(optimizer.iterations + 1, "float32")
        numbers = {
            "beta1_power": ops.power(optimizer.beta_1, step),
            "beta2_power": ops.power(optimizer.beta_2, step),
            "beta1": optimizer.beta_1,
            "beta2": optimizer.beta_2,
            "epsilon": optimizer.epsilon,
        }
        self._shared = {k: ops.convert_to_tensor(v, dtype="float32") for k, v in numbers.items()}
        try:
            yield
        finally:
            self._shared = None  # they are of this step, and of its graph

    def update(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Updates one weight, of Keras or TensorFlow, as `keras.optimizers.Adam.update_step` does."""
        import tensorflow as tf

        optimizer, index = self.optimizer, self.optimizer._get_variable_index(variable)
        if self._shared is None or variable.dtype != "float32":
            type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyAdam(
            var=_variable(variable).handle,
            m=_variable(optimizer._momentums[index]).handle,
            v=_variable(optimizer._velocities[index]).handle,
            lr=ops.cast(learning_rate, "float32"),
            grad=ops.cast(gradient, "float32"),
            **self._shared,
        )

    def decay(self, variables: Sequence[Any]) -> None:
        """Takes its share from each weight, as `keras.optimizers.AdamW` does, in a pass less."""
        optimizer = self.optimizer
        if self._shared is None or any(variable.dtype != "float32" for variable in variables):
            type(optimizer)._apply_weight_decay(optimizer, variables)
        elif optimizer.weight_decay is not None:
            share = ops.cast(optimizer.learning_rate, "float32") * optimizer.weight_decay
            for variable in filter(optimizer._use_weight_decay, map(_variable, variables)):
                variable.assign_sub(variable * share)


def _variable(variable: Any) -> Any:
    """TensorFlow's own."""
    return variable.value if isinstance(variable, keras.Variable) else variable
