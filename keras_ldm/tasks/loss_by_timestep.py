"""Where in the process of noise a model errs."""

import keras
from keras import ops

from keras_ldm.types import Tensor

_PARTS = 4


class LossByTimestep:
    """Mean losses of the quarters of the timesteps, `loss_quarter1` having the least noise.

    No layer, so that a task that has none any more does not go on measuring it.

    Args:
        num_timesteps: of the schedule.
    """

    def __init__(self, num_timesteps: int) -> None:
        self.num_timesteps = num_timesteps
        self.means = [MeanOrNaN(name=f"loss_quarter{part + 1}") for part in range(_PARTS)]

    def update(self, losses: Tensor, timesteps: Tensor) -> None:
        """Takes a batch in.

        Args:
            losses: `(batch,)`.
            timesteps: integers from 0, `(batch,)`.
        """
        parts = ops.floor_divide(ops.cast(timesteps, "int32") * _PARTS, self.num_timesteps)
        for part, mean in enumerate(self.means):
            mean.update_state(losses, sample_weight=ops.cast(ops.equal(parts, part), "float32"))


class MeanOrNaN(keras.metrics.Mean):
    """A mean that is NaN, not 0, of nothing."""

    def result(self) -> Tensor:
        """The mean."""
        count = ops.convert_to_tensor(self.count)
        return ops.where(count > 0, self.total / ops.maximum(count, 1e-30), float("nan"))
