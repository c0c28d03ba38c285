"""Exponential moving average of weights.

    ema = decay·ema + (1 - decay)·weight,   decay = min(max_decay, (1 + n) / (10 + n)) at update n

Reference: `LitEma` (ema.py) of the original code.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import keras
from keras import ops

from keras_ldm.backend import compile_part
from keras_ldm.types import Tensor


class ExponentialMovingAverage(keras.layers.Layer):
    """Copies of variables that follow them smoothly, kept as non-trainable state of a model.

    Args:
        sources: the variables to follow.
        max_decay: of the average, reached after a warm-up.
        **kwargs: see `keras.layers.Layer`.
    """

    def __init__(
        self, sources: Sequence[keras.Variable], max_decay: float = 0.9999, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        if not 0 <= max_decay < 1:
            raise ValueError(f"Expected an EMA decay in [0, 1). Received: {max_decay}")
        self.max_decay = max_decay
        self._sources = lambda: sources  # a function, so that Keras does not count them as ours
        self.updates = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="updates"
        )
        self.pending = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="pending"
        )
        with keras.name_scope(self.name):
            self.averages = [
                keras.Variable(
                    "zeros",
                    source.shape,
                    "float32",
                    trainable=False,
                    name=f"average{i}",
                    layout=getattr(source, "_layout", None),  # divided over devices as the source is
                )
                for i, source in enumerate(sources)
            ]
        self.built = True
        self.restart()

    def restart(self) -> None:
        """Forgets the past: the averages become copies of the variables."""
        self.updates.assign(0)
        for source, average in self.pairs():
            average.assign(ops.copy(ops.cast(source, "float32")))

    def update(self, due: Tensor = True) -> None:
        """Takes the variables in.

        Args:
            due: a boolean; nothing happens where it is false.
        """
        self._update(ops.cast(due, "int32"))

    @cached_property
    def _update(self) -> Callable[[Tensor], None]:
        return compile_part(self._move, self.averages)

    def _move(self, due: Tensor) -> None:
        count = self.updates + due
        steps = ops.cast(count, "float32")
        decay = ops.minimum(self.max_decay, (1.0 + steps) / (10.0 + steps))
        rate = ops.cast(due, "float32") * (1.0 - decay)
        for source, average in self.pairs():
            value = ops.stop_gradient(ops.cast(source, "float32"))
            average.assign(average + rate * (value - average))
        self.updates.assign(count)

    def before_batch(self, accumulation_steps: int = 1) -> None:
        """In training, before each batch: takes in what the optimizer did after the last one.

        Args:
            accumulation_steps: batches between two updates of the weights. They are counted in
                `pending` from the last update that was taken in.
        """
        due = ops.equal(self.pending, accumulation_steps)
        self.update(due)
        self.pending.assign(ops.where(due, 1, self.pending + 1))

    def finish(self, accumulation_steps: int = 1) -> None:
        """Outside training: takes in the last update, for which no batch has come yet."""
        if int(ops.convert_to_numpy(self.pending)) == accumulation_steps:
            self.update()
            self.pending.assign(0)

    def pairs(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each variable that is followed, with its average."""
        return list(zip(self._sources(), self.averages, strict=True))

    def by_source(self) -> dict[int, keras.Variable]:
        """The averages, by the `id` of the variables that they follow."""
        return {id(source): average for source, average in self.pairs()}


def averaged(
    variables: Sequence[keras.Variable], ema: ExponentialMovingAverage | None
) -> list[keras.Variable]:
    """For each variable its average, or itself where none follows it."""
    averages = {} if ema is None else ema.by_source()
    return [averages.get(id(variable), variable) for variable in variables]
