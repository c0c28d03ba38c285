"""What `keras-ldm evaluate` measures: what a model draws or reconstructs, or pictures of a folder."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_ldm.cli.evaluation.pairs import PairMeasures
from keras_ldm.cli.evaluation.pictures import Pictures, read_batches
from keras_ldm.images import to_uint8
from keras_ldm.tasks import AutoencoderTask, GenerativeTask
from keras_ldm.types import Array, Batch

Values = dict[str, Array]
"""By name, what is known of each image of a batch beside its features, `(n, 1)`."""


class Source(ABC):
    """Images by their number.

    Attributes:
        count: how many there are.
        settings: what they depend on, as JSON can hold it.
        descriptions: of the values that come with each image, by their names.
    """

    count: int
    settings: Mapping[str, Any]
    descriptions: Mapping[str, str] = {}

    @abstractmethod
    def batches(self, start: int, stop: int) -> Iterator[tuple[Array, Values]]:
        """The images of these numbers, in batches."""


class PictureSource(Source):
    """Pictures as they are read.

    Args:
        pictures: the pictures.
        count: how many to take, the first ones.
        batch_size: how many at a time.
    """

    def __init__(self, pictures: Pictures, count: int, batch_size: int) -> None:
        self.pictures, self.count, self.batch_size = pictures, count, batch_size
        self.settings = {"pictures": pictures.identity, "image_size": pictures.side, "count": count}

    def batches(self, start: int, stop: int) -> Iterator[tuple[Array, Values]]:
        """The pictures."""
        for images in read_batches(self.pictures, start, stop, self.batch_size):
            yield images, {}


class DrawingSource(Source):
    """Images that a task draws; number i is that of the seed `seed + i`, however they are divided.

    Args:
        task: what draws them.
        conditions: by name, as `generate` takes them, gone through again and again; none for an
            unconditional model.
        count: how many.
        seed: of the first.
        batch_size: how many are drawn at a time.
        options: for `generate`.
    """

    def __init__(
        self,
        task: GenerativeTask,
        conditions: Mapping[str, Array],
        count: int,
        seed: int,
        batch_size: int,
        options: Mapping[str, Any],
    ) -> None:
        self.task, self.conditions, self.count = task, conditions, count
        self.seed, self.batch_size, self.options = seed, batch_size, options
        texts = {name: np.asarray(value).tolist() for name, value in conditions.items()}
        self.settings = {
            "count": count,
            "seed": seed,
            "conditions": hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16],
            **options,
        }

    def batches(self, start: int, stop: int) -> Iterator[tuple[Array, Values]]:
        """The images."""
        for first in range(start, stop, self.batch_size):
            numbers = np.arange(first, min(first + self.batch_size, stop))
            conditions: Batch | None = {
                name: value[numbers % len(value)] for name, value in self.conditions.items()
            }
            yield (
                GenerativeTask.generate(
                    self.task,
                    conditions or None,
                    num_images=len(numbers),
                    seed=[self.seed + int(number) for number in numbers],
                    batch_size=self.batch_size,
                    progress=False,
                    **self.options,
                ),
                {},
            )


class ReconstructionSource(Source):
    """What an autoencoder makes of pictures, with what each pair of the two measures.

    Args:
        task: with the autoencoder.
        pictures: of one size.
        count: how many to take, the first ones.
        batch_size: how many at a time.
        measures: of pairs.
    """

    def __init__(
        self,
        task: AutoencoderTask,
        pictures: Pictures,
        count: int,
        batch_size: int,
        measures: PairMeasures,
    ) -> None:
        self.task, self.pictures, self.count = task, pictures, count
        self.batch_size, self.measures = batch_size, measures
        self.descriptions = measures.descriptions
        self.settings = {
            "count": count,
            "pictures": pictures.identity,
            "image_size": pictures.side,
            "measures": list(measures.names),
        }

    def batches(self, start: int, stop: int) -> Iterator[tuple[Array, Values]]:
        """The reconstructions, rounded as pictures in files are."""
        for images in read_batches(self.pictures, start, stop, self.batch_size):
            found = to_uint8(self.task.predict(images, batch_size=self.batch_size, verbose=0))
            yield found, self.measures(images, found)
