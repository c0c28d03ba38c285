"""One adapter for every kind of training data.

A source of batches is an array dictionary, a `PyDataset`, or anything that can be iterated: a
`tf.data.Dataset`, a torch `DataLoader`, a list of batches, a generator. `TaskDataset` puts a task's
preprocessing (checks, tokenization) behind it and is itself a `PyDataset`, which Keras's `fit` takes
on every backend.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import keras
import numpy as np

from keras_ldm.types import Array, Batch

Preprocess = Callable[[Batch], dict[str, Array]]


class BatchSource(Protocol):
    """Where raw batches come from; `num_batches` is None where batches never end."""

    num_batches: int | None

    def start_epoch(self, done: int) -> None:
        """Called before each epoch with the number of batches trained so far."""

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


class ArraySource:
    """Batches cut from arrays.

    Args:
        arrays: of one length.
        batch_size: examples a batch; the last one may have fewer.
        steps: batches an epoch; the next epoch goes on where it ended. Without it an epoch is all of
            them.
        seed: gives each pass over the arrays an order of its own; None keeps theirs.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        batch_size: int,
        steps: int | None = None,
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
        self.batches_a_pass = -(-self.length // batch_size)
        self.continuous = steps is not None
        self.num_batches: int | None = steps if steps and self.length else self.batches_a_pass
        self.done = 0
        self._order: tuple[int, Array] = (-1, np.arange(0))

    def start_epoch(self, done: int) -> None:
        self.done = done

    def end_epoch(self) -> None:
        pass

    def batch(self, index: int) -> Batch:
        place = index + (self.done if self.continuous else 0)
        passes, place = divmod(place, self.batches_a_pass)
        order = self._order_from(passes * self.batches_a_pass + (0 if self.continuous else self.done))
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return {key: value[rows] for key, value in self.arrays.items()}

    def _order_from(self, first: int) -> Array:
        """The order of the pass whose first batch has that number: the same after a reload."""
        if self._order[0] != first:
            order = np.arange(self.length)
            if self.seed is not None:
                order = np.random.default_rng([self.seed, first]).permutation(order)
            self._order = (first, order)
        return self._order[1]


class IndexedSource:
    """Batches of a `PyDataset`, the first `limit` of them where there is one."""

    def __init__(self, dataset: keras.utils.PyDataset, limit: int | None = None) -> None:
        self.dataset = dataset
        self.num_batches: int | None = dataset.num_batches
        if limit is not None:
            self.num_batches = min(limit, limit if self.num_batches is None else self.num_batches)
        self.started = False

    def start_epoch(self, done: int) -> None:
        self.dataset.on_epoch_begin()
        self.started = True

    def end_epoch(self) -> None:
        if self.started:
            self.dataset.on_epoch_end()
        self.started = False

    def batch(self, index: int) -> Batch:
        return as_batch(self.dataset[index])


class StreamSource:
    """Batches of anything that can be iterated.

    What is read before the first epoch (Keras looks at a few batches) is kept and given again.

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
        self.num_batches = steps if restart and steps else None if steps else self._count()
        self.iterator: Iterator[Any] | None = None
        self.read_ahead: deque[Batch] = deque()
        self.started = False

    def _count(self) -> int:
        stream = self.stream
        if hasattr(stream, "cardinality"):
            count = int(stream.cardinality())
            if count == -1:
                raise ValueError(
                    "Expected `steps_per_epoch` (`steps` outside `fit`). Received: an endless dataset"
                )
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
        return self.read_ahead.popleft() if self.read_ahead else self._next()

    def _next(self) -> Batch:
        if self.iterator is None:
            self.iterator = iter(self.stream)
        try:
            return as_batch(next(self.iterator))
        except StopIteration:
            pass
        self.iterator = iter(self.stream)
        try:
            return as_batch(next(self.iterator))
        except StopIteration:
            raise ValueError(
                "Expected more data. Received: a source without batches, or a generator that ended"
            ) from None


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
        return ArraySource(arrays, 32 if batch_size is None else batch_size, steps, seed)
    if batch_size is not None:
        raise ValueError(
            "Expected no `batch_size` for data that comes in batches. "
            f"Received: batch_size={batch_size} with a {type(data).__name__}"
        )
    if isinstance(data, keras.utils.PyDataset):
        return IndexedSource(data, steps if restart else None)
    if hasattr(data, "__iter__") and not isinstance(data, (str, bytes)):
        return StreamSource(data, steps, restart)
    raise ValueError(
        "Expected a dictionary of arrays, a tf.data.Dataset, a PyDataset, a torch DataLoader or an "
        f"iterable of dictionaries. Received: {type(data).__name__}"
    )


class TaskDataset(keras.utils.PyDataset):
    """Preprocessed batches of any source, for Keras's `fit`, `evaluate` and `predict`.

    Args:
        data: see the module.
        preprocess: from a raw batch to the arrays that the model takes.
        batch_size: for arrays; 32 by default.
        steps: batches an epoch, for data that do not end.
        restart: whether each epoch starts from the first batch, even with `steps`.
        seed: gives arrays a new order in each pass; None keeps theirs.
        batches_done: returns the number of batches trained so far.

    Raises:
        ValueError: if there are no batches.
    """

    def __init__(
        self,
        data: Any,
        preprocess: Preprocess,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        restart: bool = True,
        seed: int | None = None,
        batches_done: Callable[[], int] = int,
    ) -> None:
        super().__init__(workers=1)
        if steps is not None and (not isinstance(steps, (int, np.integer)) or steps < 1):
            raise ValueError(f"Expected a number of batches >= 1. Received: {steps!r}")
        self.source = make_source(data, batch_size, steps, restart, seed)
        self.preprocess = preprocess
        self.batches_done = batches_done
        if self.source.num_batches == 0:
            raise ValueError("Expected at least one example. Received: an empty dataset")

    @property
    def num_batches(self) -> int | None:
        """Batches an epoch, or None where `steps_per_epoch` says so."""
        return self.source.num_batches

    def __getitem__(self, index: int) -> dict[str, Array]:
        """The preprocessed batch at a place in the epoch."""
        return self.preprocess(as_batch(self.source.batch(index)))

    def examples(self, count: int) -> list[dict[str, Array]]:
        """Up to `count` preprocessed batches: spread over arrays, else the first ones."""
        if isinstance(self.source, ArraySource):
            total = self.source.batches_a_pass
            places = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
        else:
            places = np.arange(min(count, self.num_batches or count))
        return [self[int(place)] for place in places]

    def on_epoch_begin(self) -> None:
        """Starts an epoch."""
        self.source.start_epoch(self.batches_done())

    def on_epoch_end(self) -> None:
        """Ends an epoch."""
        self.source.end_epoch()
