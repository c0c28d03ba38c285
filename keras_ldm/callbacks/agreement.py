"""Processes that train together do the same at the same batch, whatever their clocks and signals say."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras

from keras_ldm.backend import largest_over_processes, num_processes

_SECONDS = 5.0  # between two questions; a cloud gives notice of 30 seconds or more
_MOST_BATCHES = 100  # between them, since batches may become slower


class Agreement:
    """Lets all processes of a training see the same numbers at the same batches.

    About every five seconds they ask each other; how many batches that is, they agree on too. A process
    that trains alone is asked at every batch.

    Args:
        model: that is trained.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._alone = num_processes(model) == 1
        self._batches, self._left, self._time = 0, 1, time.monotonic()

    def after(self, batches: int, numbers: Sequence[int]) -> list[int]:
        """The largest of each number in any process, or zeros between two questions.

        Args:
            batches: that were trained since the last call, as many in each process.
            numbers: of this process, from 0.
        """
        if self._alone:
            return list(numbers)
        self._batches += batches
        self._left -= batches
        return self.now(numbers) if self._left <= 0 else [0] * len(numbers)

    def now(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each number in any process; all have to ask."""
        if self._alone:
            return list(numbers)
        elapsed = max(time.monotonic() - self._time, 1e-3)
        wait = max(1, min(int(self._batches * _SECONDS / elapsed), _MOST_BATCHES))
        *largest, self._left = largest_over_processes(self._model, [*numbers, wait])
        self._batches, self._time = 0, time.monotonic()
        return largest

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """A scope whose errors in one process end all of them; all have to enter.

        Within it no process may wait for another.

        Raises:
            RuntimeError: if there was an error in another process.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        (failed,) = self.now([int(error is not None)])
        if error is not None:
            raise error
        if failed:
            raise RuntimeError(
                "Expected all processes to be able to go on. "
                "Received: an error in another one, which says what it is"
            )
