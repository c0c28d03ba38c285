"""How large the gradients are."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.types import Tensor

_NAME = "gradient_norms"


class GradientNorm(keras.callbacks.Callback):
    """Puts the mean norm of the gradients of an epoch into its logs, as `gradient_norm`.

    Only the optimizer sees gradients, and on JAX a step changes no other variables behind it: so two
    numbers are part of its state.

    Args:
        optimizer: whose gradients.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        super().__init__()
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # behind loss scaling
        self.sums: keras.Variable | None = None

    def build(self) -> None:
        """Makes the variable, of the sum of all norms and their number, where it is missing."""
        if self.sums is None:
            there = sums_of_norms(self.optimizer)  # of a task that was compiled before
            self.sums = (
                there[0] if there else self.optimizer.add_variable((2,), "zeros", "float32", name=_NAME)
            )

    def __call__(self, gradients: Sequence[Tensor | None]) -> None:
        """Takes the gradients of a step in."""
        if self.sums is None:
            return
        squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients if g is not None]
        norm = ops.sqrt(sum(squares, ops.zeros(())))
        self.sums.assign(self.sums + ops.stack([norm, ops.ones_like(norm)]))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins anew."""
        self.restart()

    def restart(self) -> None:
        """Forgets what was taken in."""
        if self.sums is not None:
            self.sums.assign(np.zeros(2, "float32"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the mean to the logs."""
        if self.sums is not None and logs is not None:
            total, count = ops.convert_to_numpy(self.sums)
            logs["gradient_norm"] = float(total / count) if count else float("nan")


def sums_of_norms(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Those of an optimizer's variables that measure its gradients: one, or none."""
    return [variable for variable in optimizer.variables if variable.name == _NAME]
