"""What `fit` needs to begin in the middle of an epoch."""

from typing import Any

import keras

from keras_ldm.tasks.gradient_norm import GradientNorm

_THIS_EPOCH = "this epoch"


class ContinuingCallback(keras.callbacks.Callback):
    """A callback that may bring back an earlier training, and then calls `Task.continue_at`.

    `fit` runs it behind all other callbacks, so that it sees what they have done.
    """

    def on_fit_end(self) -> None:
        """Called when `fit` is left, by an error too."""


class ShortenedEpoch(keras.callbacks.Callback):
    """Ends an epoch that began in its middle after the batches that are left of it.

    Keras counts the batches of an epoch once for all. To let the data run out is no way: a step of
    TensorFlow that finds none has by then counted a batch and drawn its noise. So this stops the
    training after the last batch, and before anyone has asked at the end of the epoch, it takes that
    back; what another callback has asked for stays. It has to run before all others.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends the epoch, if it is time to."""
        data = self.model.training_data
        if data.first_batch and batch + 1 >= data.num_batches:
            self.model.stop_training = self.model.stop_training or _THIS_EPOCH

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Lets the training go on."""
        if self.model.stop_training == _THIS_EPOCH:
            self.model.stop_training = False
            self.model.training_data.on_epoch_end()


def continuing(callbacks: Any) -> list[ContinuingCallback]:
    """Those of a list that may continue a training."""
    these = callbacks if isinstance(callbacks, (list, tuple)) else []
    return [x for x in these if isinstance(x, ContinuingCallback)]


def in_order(callbacks: Any, first: GradientNorm | None = None) -> Any:
    """Callbacks as `fit` runs them.

    Args:
        callbacks: as a user gives them.
        first: runs before them all, in any case.

    Raises:
        ValueError: for two that may continue a training, or one in a `CallbackList`, which has an order.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        others = [x for x in callbacks.callbacks if not isinstance(x, GradientNorm)]  # of an earlier fit
        callbacks.callbacks[:] = others if first is None else [first, *others]
        if found := continuing(callbacks.callbacks):
            raise ValueError(
                f"Expected {type(found[0]).__name__} in a list of callbacks. Received: a CallbackList"
            )
        return callbacks
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    found = continuing(callbacks)
    if len(found) > 1:
        raise ValueError(
            f"Expected one {type(found[0]).__name__} in the callbacks. Received: {len(found)}"
        )
    others = [x for x in callbacks or () if x not in found]
    if first is not None:
        others.insert(0, first)
    return [ShortenedEpoch(), *others, *found] if found else others
