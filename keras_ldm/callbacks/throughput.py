"""How fast a training goes, and how much memory it takes."""

import time
from typing import Any

import keras

from keras_ldm.backend import most_memory
from keras_ldm.checks import check_int
from keras_ldm.tasks import Task

_GIB = 1 << 30


class Throughput(keras.callbacks.Callback):
    """Puts `images_per_second` and `memory_gib` of each epoch into its logs.

    So they come into `History`, `CSVLogger`, TensorBoard and whatever else reads logs behind this
    callback. Time is that between the ends of batches: reading the data counts, validation and what
    happens at the end of an epoch do not, nor do the first `skip` batches of a training, in which it is
    compiled. An epoch without others has NaN. Where several processes share batches, all images count.

    Memory is the most so far: of the device on GPUs and TPUs, of the process on a CPU; NaN where neither
    can be told.

    Args:
        skip: batches at the beginning that do not count.

    Raises:
        ValueError: if `skip` is less than 1.

    Example:

    ```python
    task.fit(data, callbacks=[keras_ldm.callbacks.Throughput(), keras.callbacks.TensorBoard("logs")])
    ```
    """

    def __init__(self, skip: int = 2) -> None:
        super().__init__()
        check_int("skip", skip, 1)
        self.skip = skip

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks what is trained."""
        if not isinstance(self.model, Task) or self.model.training_data is None:
            raise ValueError(f"Expected a task of keras_ldm that is in `fit`. Received: {self.model!r}")
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins to count."""
        self._images, self._seconds, self._next = 0, 0.0, 0
        self._time = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts."""
        now = time.perf_counter()
        done = range(self._next, batch + 1)  # several with `steps_per_execution`
        if self._batches >= self.skip:
            self._images += sum(self.model.training_data.rows(index) for index in done)
            self._seconds += now - self._time
        self._batches += len(done)
        self._next, self._time = batch + 1, now

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds both to the logs."""
        if logs is not None:
            rate = self._images / self._seconds if self._seconds else float("nan")
            logs.update(images_per_second=rate, memory_gib=most_memory() / _GIB)
