"""From a way to load some captioned pictures to a `tf.data` pipeline of shuffled batches.

NumPy decides what each batch of an epoch holds: the order is a permutation drawn from (seed,
epoch), and each batch carries a seed of its own for its augmentations. Loading then runs on
`tf.data`'s threads, several batches at once, and comes out the same however they are scheduled.
TensorFlow is imported when a pipeline is built, not before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorflow.data import Dataset

Load = Callable[[NDArray[np.int64], np.random.Generator], tuple[NDArray[np.uint8], Sequence[str]]]


def captioned_dataset(
    load: Load,
    count: int,
    image_size: tuple[int, int, int],
    *,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    drop_remainder: bool = False,
) -> Dataset:
    """Builds the pipeline over anything that loads pictures by their numbers.

    Args:
        load: From the numbers of some pictures, and a generator for augmentations, to their images
            `(batch, height, width, 3)` and captions. It is called from several threads at once.
        count: How many pictures there are.
        image_size: Height, width and channels of an image.
        batch_size: Pictures in a batch.
        shuffle: Draw a new order at each pass; the first pass of every dataset with the same seed
            has the same order, and so has the second.
        seed: Of the order and of the augmentations.
        drop_remainder: Leave out a last batch that is not full, so that shapes are all static.

    Returns:
        A dataset of `{"image": uint8 (batch, height, width, 3), "caption": string (batch,)}` whose
        cardinality is known. Each iteration over it is one pass, and the next epoch.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: There would be no batch, or `seed` is negative.
    """
    batches = count_batches(count, batch_size, seed=seed, drop_remainder=drop_remainder)
    tf = require_tensorflow()
    epochs = itertools.count()
    batch = batch_size if drop_remainder else None

    def plans() -> Iterator[tuple[NDArray[np.int64], int]]:
        order = shuffle, seed, next(epochs)
        return itertools.islice(epoch_batches(count, batch_size, *order), batches)

    def load_batch(numbers: NDArray[np.int64], batch_seed: int) -> list[NDArray[np.generic]]:
        images, captions = load(numbers, np.random.default_rng(int(batch_seed)))
        encoded = [caption.encode("utf-8", "replace") for caption in captions]
        return [images, np.array(encoded, dtype=np.object_)]

    def fetch(numbers: object, batch_seed: object) -> dict[str, object]:
        image, caption = tf.numpy_function(load_batch, (numbers, batch_seed), (tf.uint8, tf.string))
        return {
            "image": tf.ensure_shape(image, (batch, *image_size)),
            "caption": tf.ensure_shape(caption, (batch,)),
        }

    signature = (tf.TensorSpec((batch,), tf.int64), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(plans, output_signature=signature)
    dataset = dataset.map(fetch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(tf.data.AUTOTUNE)


def count_batches(count: int, batch_size: int, *, seed: int, drop_remainder: bool) -> int:
    """Says how many batches an epoch has.

    Args:
        count: How many pictures there are.
        batch_size: Pictures in a batch.
        seed: Of the dataset.
        drop_remainder: Leave out a last batch that is not full.

    Returns:
        One or more.

    Raises:
        ValueError: There would be no batch, or `seed` is negative.
    """
    whole, rest = divmod(count, batch_size) if batch_size > 0 else (0, 0)
    batches = whole if drop_remainder else whole + (rest > 0)
    if batches < 1 or seed < 0:
        raise ValueError(
            "Expected at least one batch, and a seed that is not negative. "
            f"Received: {count} pictures, batch_size={batch_size}, "
            f"drop_remainder={drop_remainder}, seed={seed}"
        )
    return batches


def epoch_batches(
    count: int, batch_size: int, shuffle: bool, seed: int, epoch: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Says which pictures each batch of an epoch holds; the last batch may be smaller.

    Args:
        count: How many pictures there are.
        batch_size: Pictures in a batch.
        shuffle: Draw an order; otherwise 0, 1, 2, ….
        seed: Of the order and of the batches' own seeds.
        epoch: Which pass this is; each has its own order.

    Yields:
        The numbers of the batch's pictures, and a seed for what is random inside the batch.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(count) if shuffle else np.arange(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size], int(rng.integers(2**63))


def require_tensorflow() -> ModuleType:
    """Imports TensorFlow.

    Returns:
        The module `tensorflow`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            f"tf.data pipelines need `pip install tensorflow`. Received: {error}"
        ) from error
    module: ModuleType = tf
    return module
