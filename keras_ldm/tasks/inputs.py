"""One adapter for every kind of training data.

`TaskDataset` puts a task's preprocessing (checks, tokenization) behind a source of batches and is itself
a `PyDataset`, which Keras's `fit` takes on every backend.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ldm.backend import BatchShare
from keras_ldm.data.batch_sources import ArraySource, as_batch, make_source
from keras_ldm.data.pass_dataset import PassDataset
from keras_ldm.types import Array, Batch

Preprocess = Callable[[Batch], dict[str, Array]]


class TaskDataset(keras.utils.PyDataset):
    """Preprocessed batches of any source, for Keras's `fit`, `evaluate` and `predict`.

    Args:
        data: see the module.
        preprocess: from a raw batch to the arrays that the model takes.
        batch_size: for arrays; 32 by default.
        steps: batches an epoch; needed for data that do not end.
        restart: whether each epoch starts from the first batch, even with `steps`.
        seed: gives arrays a new order in each pass; None keeps theirs.
        batches_done: returns the number of batches trained so far.
        share: of each batch, that this process takes. Rows that do not divide are filled up with the
            first ones of their batch.

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
        share: BatchShare | None = None,
    ) -> None:
        super().__init__(workers=1)
        if steps is not None and (not isinstance(steps, (int, np.integer)) or steps < 1):
            raise ValueError(f"Expected a number of batches >= 1. Received: {steps!r}")
        self.data = data
        self.source = make_source(data, batch_size, steps, restart, seed)
        self.preprocess = preprocess
        self.share = share or BatchShare()
        if self.share.parts > 1 and isinstance(data, PassDataset) and data.shard[1] > 1:
            raise ValueError(
                "Expected data of which each process reads all, since each takes its part of every "
                f"batch. Received: a {type(data).__name__} with a `shard` of its own. Leave `shard` "
                "out, or on JAX say auto_shard_dataset=False"
            )
        self.batches_done = batches_done
        self._rows: dict[int, tuple[int, int]] = {}  # of each batch: its own, and those it has now
        self.keeps_batches = False
        self.kept_batches: dict[int, dict[str, Array]] = {}
        self.first_batch = 0
        if self.source.num_batches == 0:
            raise ValueError("Expected at least one example. Received: an empty dataset")

    @property
    def has_several_sizes(self) -> bool:
        """Whether images of another batch may have another height and width."""
        return isinstance(self.data, PassDataset) and self.data.has_several_groups

    @property
    def batches_an_epoch(self) -> int:
        """How many batches a whole epoch has."""
        return self.source.num_batches

    @property
    def num_batches(self) -> int:
        """Batches of the epoch that is read now."""
        return self.source.num_batches - self.first_batch

    @property
    def goes_on_by_itself(self) -> bool:
        """Whether the data are an object that goes on where it was left: a generator, a `PyDataset`."""
        return isinstance(self.data, (Iterator, keras.utils.PyDataset))

    @property
    def can_be_read_again(self) -> bool:
        """Whether batches that were read can be read once more."""
        return not isinstance(self.data, Iterator)

    def continue_at(self, first_batch: int, epochs_read: int, batches_read: int) -> None:
        """Goes to where another process has ended; called before the first epoch.

        Args:
            first_batch: of its epoch, that the first one here begins with.
            epochs_read: how often it has gone through these data; 0 if they go on by themselves.
            batches_read: that it has read from them.
        """
        if batches_read:
            self.source.pass_over(epochs_read, first_batch, batches_read)
        self.first_batch = first_batch

    def __getitem__(self, index: int) -> dict[str, Array]:
        """The preprocessed batch at a place in the epoch, as much of it as this process takes."""
        batch = as_batch(self.source.batch(self.first_batch + index))
        arrays = self.preprocess(self._share_of(batch, index))
        if self.keeps_batches:
            self.kept_batches[index] = arrays
        return arrays

    def forget_batches_before(self, index: int) -> None:
        """Drops what was kept of earlier batches of the epoch."""
        for earlier in [place for place in list(self.kept_batches) if place < index]:
            del self.kept_batches[earlier]

    def rows(self, index: int) -> int:
        """How many examples a batch of this epoch has that was read."""
        return self._rows.get(index, (0, 0))[0]

    def _share_of(self, batch: dict[str, Array], index: int) -> dict[str, Array]:
        parts, devices = self.share.parts, self.share.devices
        rows = next((len(value) for value in batch.values() if value.ndim), 0)
        if not rows:
            return batch
        filled = -(-rows // (parts * devices)) * parts * devices
        self._rows[index] = rows, filled
        if filled == rows and parts == 1:
            return batch
        own = np.arange(filled // parts) + self.share.part * (filled // parts)
        return {name: value[own % rows] if value.ndim else value for name, value in batch.items()}

    def given(self, outputs: Any) -> Any:
        """Of what was computed for all batches, one behind the other, that for the rows given."""
        if all(rows == filled for rows, filled in self._rows.values()):
            return outputs
        mask = np.concatenate([np.arange(f) < n for _, (n, f) in sorted(self._rows.items())])
        return keras.tree.map_structure(lambda output: output[mask], outputs)

    def examples(self, count: int) -> list[dict[str, Array]]:
        """Up to `count` preprocessed batches, whole: spread over arrays, else the first ones."""
        if isinstance(self.source, ArraySource):
            total = self.source.batches_a_pass
            places = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
        else:
            places = np.arange(min(count, self.num_batches))
        return [
            self.preprocess(as_batch(self.source.batch(self.first_batch + int(place))))
            for place in places
        ]

    def on_epoch_begin(self) -> None:
        """Starts an epoch."""
        last = max(self.kept_batches, default=None)  # which comes before the first one
        self.kept_batches = {} if last is None else {-1: self.kept_batches[last]}
        self.source.start_epoch(self.batches_done() - self.first_batch)

    def on_epoch_end(self) -> None:
        """Ends an epoch."""
        self.source.end_epoch()
        self.first_batch = 0
