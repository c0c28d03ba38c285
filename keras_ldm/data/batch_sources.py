"""Where raw batches come from: whatever a user trains on, in one form.

It is an array dictionary, a `PyDataset`, or anything that can be iterated: a `tf.data.Dataset`, a torch
`DataLoader`, a list of batches, a generator.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import keras
import numpy as np
from tqdm import tqdm

from keras_ldm.data.pass_dataset import PassDataset
from keras_ldm.types import Array, Batch

_NEED_STEPS = "Expected `steps_per_epoch` (`steps` outside `fit`)."


class BatchSource(Protocol):
    """Where raw batches come from, `num_batches` in an epoch."""

    num_batches: int

    def pass_over(self, epochs: int, batches: int, in_all: int) -> None:
        """Called before the first epoch, if an earlier process has trained on a part.

        Args:
            epochs: that it has been through.
            batches: of the epoch behind these that it has had. The first epoch is what is left of it,
                and its first place is that number.
            in_all: batches that it has read; others than those of so many epochs now, if their number
                has changed.
        """

    def start_epoch(self, done: int) -> None:
        """Called before each epoch with the number of batches trained before it."""

    def end_epoch(self) -> None:
        """Called after each epoch, and perhaps before the first."""

    def batch(self, index: int) -> Batch:
        """The batch at a place in the epoch; places are asked for in order."""


def to_numpy(value: Any) -> Array:
    """A NumPy array from an array, a tensor of any backend, or a list of strings or numbers."""
    if hasattr(value, "numpy") and hasattr(value, "detach"):
        return np.asarray(value.detach().cpu())
    if isinstance(value, (list, tuple)) and any(isinstance(v, (str, bytes)) for v in value):
        return np.asarray(value, dtype=object)  # NumPy would make strings of None and NaN among them
    return np.asarray(value)


def as_batch(batch: Any) -> dict[str, Array]:
    """A dictionary of NumPy arrays from what a source gives.

    Bare images are taken as `{"image": images}`.

    Raises:
        ValueError: if it is neither a dictionary nor an array.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 1:
        batch = batch[0]
    if isinstance(batch, Mapping):
        return {str(key): to_numpy(value) for key, value in batch.items()}
    if hasattr(batch, "shape"):
        return {"image": to_numpy(batch)}
    raise ValueError(
        'Expected each batch to be a dictionary such as {"image": ..., "caption": ...}, or an array '
        f"of images. Received: {type(batch).__name__}"
        + (f" of {len(batch)} entries" if isinstance(batch, (tuple, list)) else "")
    )


class NumberedSource:
    """Batches that the number of those trained on tells: nothing has to be read to go on.

    Args:
        batches_a_pass: how many there are.
        steps: batches an epoch; the next epoch goes on where it ended. Without it an epoch is all of
            them.
        restart: whether each epoch has the first `steps` batches instead, as many as there are.
    """

    def __init__(self, batches_a_pass: int, steps: int | None, restart: bool = False) -> None:
        self.batches_a_pass = batches_a_pass
        self.continuous = steps is not None and not restart
        self.num_batches = steps if steps and batches_a_pass else batches_a_pass
        if restart:
            self.num_batches = min(self.num_batches, batches_a_pass)
        self.done = 0

    def pass_over(self, epochs: int, batches: int, in_all: int) -> None:
        """Does nothing."""

    def start_epoch(self, done: int) -> None:
        """Takes the number of batches trained before the epoch."""
        self.done = done

    def end_epoch(self) -> None:
        """Does nothing."""

    def batch(self, index: int) -> Batch:
        """The batch at a place in the epoch."""
        if not self.continuous:
            return self._batch_of_pass(self.done, index)
        passes, place = divmod(self.done + index, self.batches_a_pass)
        return self._batch_of_pass(passes * self.batches_a_pass, place)

    @abstractmethod
    def _batch_of_pass(self, first: int, place: int) -> Batch:
        """A batch of the pass whose first batch has a number: the same after a reload."""


class ArraySource(NumberedSource):
    """Batches cut from arrays.

    Args:
        arrays: of one length.
        batch_size: examples a batch; the last one may have fewer.
        steps: see `NumberedSource`.
        restart: see `NumberedSource`.
        seed: gives each pass over the arrays an order of its own; None keeps theirs.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        batch_size: int,
        steps: int | None = None,
        restart: bool = False,
        seed: int | None = None,
    ) -> None:
        self.arrays = {str(key): to_numpy(value) for key, value in arrays.items()}
        lengths = {key: len(value) if value.ndim else 0 for key, value in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Expected arrays of one length. Received: {lengths or 'no arrays'}")
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"Expected `batch_size` >= 1. Received: {batch_size!r}")
        self.batch_size = batch_size
        self.seed = seed
        self.length = next(iter(lengths.values()))
        self._order: tuple[int, Array] = (-1, np.arange(0))
        super().__init__(-(-self.length // batch_size), steps, restart)

    def _batch_of_pass(self, first: int, place: int) -> Batch:
        rows = self._order_from(first)[place * self.batch_size : (place + 1) * self.batch_size]
        return {key: value[rows] for key, value in self.arrays.items()}

    def _order_from(self, first: int) -> Array:
        if self._order[0] != first:
            order = np.arange(self.length)
            if self.seed is not None:
                order = np.random.default_rng([self.seed, first]).permutation(order)
            self._order = (first, order)
        return self._order[1]


class PassSource(NumberedSource):
    """Batches of a `PassDataset`, which has any of them at hand.

    Args:
        data: the data.
        steps: see `NumberedSource`.
        restart: see `NumberedSource`.
    """

    def __init__(self, data: PassDataset, steps: int | None = None, restart: bool = False) -> None:
        self.data = data
        super().__init__(len(data), steps, restart)

    def _batch_of_pass(self, first: int, place: int) -> Batch:
        return self.data.batch_of_pass(first, place)


class IndexedSource:
    """Batches of a `PyDataset`.

    Args:
        dataset: gives a batch for each place.
        steps: batches an epoch; the next epoch goes on where it ended. Without it an epoch is all of
            them.
        restart: whether each epoch gives the first `steps` batches instead.
    """

    def __init__(
        self, dataset: keras.utils.PyDataset, steps: int | None = None, restart: bool = False
    ) -> None:
        self.dataset = dataset
        self.length: int | None = dataset.num_batches
        if steps is None and self.length is None:
            raise ValueError(f"{_NEED_STEPS} Received: an endless {type(dataset).__name__}")
        self.continuous = steps is not None and not restart
        lengths = [n for n in (steps, None if self.continuous else self.length) if n is not None]
        self.num_batches = 0 if self.length == 0 else min(lengths)
        self.done = 0
        self.started = False

    def pass_over(self, epochs: int, batches: int, in_all: int) -> None:
        for _ in range(epochs):  # which may draw a new order at each
            self.dataset.on_epoch_begin()
            self.dataset.on_epoch_end()

    def start_epoch(self, done: int) -> None:
        self.done = done
        self.dataset.on_epoch_begin()
        self.started = True

    def end_epoch(self) -> None:
        if self.started:
            self.dataset.on_epoch_end()
        self.started = False

    def batch(self, index: int) -> Batch:
        place = index + (self.done if self.continuous else 0)
        return as_batch(self.dataset[place if self.length is None else place % self.length])


class StreamSource:
    """Batches of anything that can be iterated.

    What is read before the first epoch (Keras looks at a few batches) is kept and given again. Only the
    stream knows what comes when: to go on where another process ended is to read all that it has read.

    Args:
        stream: the iterable. A generator can be read only once.
        steps: batches an epoch; the stream then goes on where the last epoch ended, and starts
            again when it ends. Without it an epoch is the whole stream, whose batches are counted
            by reading it once if it does not tell their number.
        restart: whether each epoch gives the stream's first `steps` batches instead.
    """

    def __init__(self, stream: Any, steps: int | None = None, restart: bool = False) -> None:
        if restart and steps is not None and iter(stream) is stream:
            stream = list(islice(stream, steps))
        self.stream = stream
        self.continuous = steps is not None and not restart
        self.num_batches = steps or self._count()
        self.iterator: Iterator[Any] | None = None
        self.read_ahead: deque[Batch] = deque()
        self.started = False

    def _count(self) -> int:
        stream = self.stream
        if hasattr(stream, "cardinality"):
            count = int(stream.cardinality())
            if count == -1:
                raise ValueError(f"{_NEED_STEPS} Received: an endless dataset")
            if count >= 0:
                return count
        elif iter(stream) is stream:
            raise ValueError(
                "Expected `steps_per_epoch` (`steps` outside `fit`), or data that can be read more than "
                "once. "
                f"Received: a {type(stream).__name__}"
            )
        else:
            try:
                return len(stream)
            except TypeError:
                pass
        return sum(1 for _ in stream)

    def pass_over(self, epochs: int, batches: int, in_all: int) -> None:
        with tqdm(total=in_all, desc="passing over what was trained on", leave=False, delay=1) as bar:
            if self.continuous:
                epochs, batches = 0, in_all
            for _ in range(epochs):
                bar.update(len(self.read_ahead))
                self.read_ahead.clear()
                while self._next_of_pass() is not None:
                    bar.update()
                self.iterator = None
            for _ in range(batches):
                self._read_on()
                bar.update()

    def start_epoch(self, done: int) -> None:
        if self.started and not self.continuous:
            self.iterator = None
            self.read_ahead.clear()
        self.started = True

    def end_epoch(self) -> None:
        pass

    def batch(self, index: int) -> Batch:
        if not self.started:
            while len(self.read_ahead) <= index:
                self.read_ahead.append(self._next())
            return self.read_ahead[index]
        return self._read_on()

    def _read_on(self) -> Batch:
        return self.read_ahead.popleft() if self.read_ahead else self._next()

    def _next(self) -> Batch:
        """The next batch; behind the last one, the first of the next pass."""
        for _ in range(2):
            if (batch := self._next_of_pass()) is not None:
                return batch
            self.iterator = None
        raise ValueError(
            "Expected more data. Received: a source without batches, or a generator that ended"
        )

    def _next_of_pass(self) -> Batch | None:
        if self.iterator is None:
            self.iterator = iter(self.stream)
        for batch in self.iterator:
            return as_batch(batch)
        return None


def is_arrays(data: Any) -> bool:
    """Whether these are whole arrays, which a `batch_size` cuts, and no batches yet."""
    return isinstance(data, Mapping) or (
        hasattr(data, "shape") and not callable(getattr(data, "cardinality", None))
    )


def make_source(
    data: Any, batch_size: int | None, steps: int | None, restart: bool, seed: int | None
) -> BatchSource:
    """The source of batches for whatever was passed to `fit`; see `TaskDataset`.

    Raises:
        ValueError: if it is of no known kind, or `batch_size` is given for data already in batches.
    """
    if is_arrays(data):
        arrays = data if isinstance(data, Mapping) else as_batch(data)
        return ArraySource(arrays, 32 if batch_size is None else batch_size, steps, restart, seed)
    if batch_size is not None:
        raise ValueError(
            "Expected no `batch_size` for data that comes in batches. "
            f"Received: batch_size={batch_size} with a {type(data).__name__}"
        )
    if isinstance(data, PassDataset):
        return PassSource(data, steps, restart)
    if isinstance(data, keras.utils.PyDataset):
        return IndexedSource(data, steps, restart)
    if hasattr(data, "__iter__") and not isinstance(data, (str, bytes)):
        return StreamSource(data, steps, restart)
    raise ValueError(
        "Expected a dictionary of arrays, a tf.data.Dataset, a PyDataset, a torch DataLoader or an "
        f"iterable of dictionaries. Received: {type(data).__name__}"
    )
