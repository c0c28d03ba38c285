"""Learning rates that change with the updates, besides those of Keras."""

from numbers import Real
from typing import Any

import keras
from keras import ops

from keras_ldm.checks import check_int
from keras_ldm.types import Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class LinearWarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to a learning rate in a straight line, then goes on with it.

        rate(n) = rate_after(n) · min(1, (n + 1) / warm_up_steps)

    Args:
        learning_rate: after the warm-up: a number, or a schedule of Keras, which counts from the first
            update on.
        warm_up_steps: updates until then; the original's latent diffusion models have 10,000. With
            gradient accumulation Keras counts batches.
        name: of the schedule.

    Raises:
        ValueError: for less than one step, or another learning rate.

    Example:

    ```python
    rate = keras_ldm.tasks.LinearWarmUp(1e-4, warm_up_steps=1_000)
    task.compile(keras.optimizers.AdamW(rate))
    ```

    Reference: `LambdaWarmUpScheduler` (lr_scheduler.py) of the original code.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        warm_up_steps: int,
        name: str = "LinearWarmUp",
    ) -> None:
        super().__init__()
        is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
        is_rate = isinstance(learning_rate, Real) and not isinstance(learning_rate, bool)
        if not is_schedule and not (is_rate and learning_rate >= 0):
            raise ValueError(
                f"Expected `learning_rate` >= 0, or a schedule. Received: {learning_rate!r}"
            )
        check_int("warm_up_steps", warm_up_steps, 1)
        self.learning_rate = learning_rate if is_schedule else float(learning_rate)
        self.warm_up_steps = int(warm_up_steps)
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """The learning rate of an update.

        Args:
            step: its number, from 0.
        """
        rate = self.learning_rate(step) if callable(self.learning_rate) else self.learning_rate
        share = (ops.cast(step, "float32") + 1.0) / self.warm_up_steps
        return ops.cast(rate, "float32") * ops.minimum(share, 1.0)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            "learning_rate": keras.saving.serialize_keras_object(self.learning_rate),
            "warm_up_steps": self.warm_up_steps,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config) -> "LinearWarmUp":
        """A schedule from `get_config()`'s value."""
        rate = keras.saving.deserialize_keras_object(config["learning_rate"])
        return cls(**{**config, "learning_rate": rate})
