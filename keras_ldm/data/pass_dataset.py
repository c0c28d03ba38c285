"""Records that are gone through again and again, each pass in an order of its own."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ldm.checks import check_int
from keras_ldm.types import Array


class PassDataset(keras.utils.PyDataset):
    """Batches of records, any of any pass at hand: nothing has to be read to go on with a training.

    The order of a pass is drawn from `seed` and its number, so that the same passes come in any process.
    A subclass takes its part of the records, says which of them may be in one batch, and reads.

    Args:
        batch_size: records in a batch; the last one of a pass, or of a group, may have fewer.
        shuffle: whether each pass has an order of its own; without it, all have that of the records.
        seed: of the orders.
        drop_remainder: leave out batches that are not full.
        shard: `(index, count)`: every `count`-th record alone, from the `index`-th one on.
        **kwargs: see `keras.utils.PyDataset`.

    Attributes:
        num_records: how many there are.

    Raises:
        ValueError: for a batch size or a shard that makes no sense.
    """

    num_records: int

    def __init__(
        self,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        drop_remainder: bool,
        shard: tuple[int, int],
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"workers": 1, **kwargs})
        check_int("batch_size", batch_size, 1)
        if np.shape(shard) != (2,) or any(not isinstance(n, (int, np.integer)) for n in shard):
            raise ValueError(f"Expected `shard` as (index, count). Received: {shard!r}")
        if not 0 <= shard[0] < shard[1]:
            raise ValueError(
                f"Expected `shard` as (index, count) with 0 <= index < count. Received: {shard}"
            )
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.drop_remainder, self.shard = drop_remainder, shard
        self.passes = 0
        self._groups: list[Array] = []
        self._known_pass: tuple[int, list[tuple[int, Array]]] | None = None

    def _part_of(self, total: int) -> Array:
        """The numbers of the records that are this process's, as many as any other's."""
        index, count = self.shard
        self.num_records = total // count  # or the others would wait
        return index + count * np.arange(self.num_records)

    def _make_batches_of(self, groups: Sequence[Array]) -> None:
        """Says which records there are: those of a group may be in one batch.

        Raises:
            ValueError: if they make no batch.
        """
        self._groups = list(groups)
        self._length = len(self._batches_of(0))
        if not self._length:
            raise ValueError(
                f"Expected at least a batch of {self.batch_size}. Received: {self.num_records} records"
            )

    @property
    def has_several_groups(self) -> bool:
        """Whether batches differ in more than their records: in the size of images."""
        return len(self._groups) > 1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Array]:
        """A batch of this pass."""
        return self.batch_of_pass(self.passes, index)

    def on_epoch_end(self) -> None:
        """Goes to the next pass."""
        self.passes += 1

    @abstractmethod
    def batch_of_pass(self, number: int, index: int) -> dict[str, Array]:
        """A batch of any pass; tasks number passes by the batches that they were trained on before."""

    def _batches_of(self, number: int) -> list[tuple[int, Array]]:
        """Of each batch of a pass, the place of its group and its records."""
        known = self._known_pass  # read once: another thread may change it
        if known is None or known[0] != number:
            known = self._known_pass = number, self._draw_batches(number)
        return known[1]

    def _draw_batches(self, number: int) -> list[tuple[int, Array]]:
        rng = np.random.default_rng([self.seed, number])
        batches = []
        for place, rows in enumerate(self._groups):
            order = rng.permutation(rows) if self.shuffle else rows
            starts = range(0, len(order), self.batch_size)
            batches += [(place, order[start : start + self.batch_size]) for start in starts]
        if self.drop_remainder:
            batches = [batch for batch in batches if len(batch[1]) == self.batch_size]
        if self.shuffle and self.has_several_groups:
            batches = [batches[place] for place in rng.permutation(len(batches))]
        return batches
