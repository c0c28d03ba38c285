"""A `tf.data` pipeline over images and captions that are already in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from keras_ldm.data.captions import augment_caption
from keras_ldm.data.image_augmentation import check_batch, check_shift, shift_images
from keras_ldm.data.pipeline import captioned_dataset

if TYPE_CHECKING:
    from tensorflow.data import Dataset


def array_dataset(
    images: NDArray[np.uint8],
    captions: Sequence[str],
    tags: Sequence[Sequence[str]] | None = None,
    *,
    batch_size: int = 32,
    shuffle: bool = True,
    max_shift: int = 0,
    seed: int = 0,
    drop_remainder: bool = False,
) -> Dataset:
    """Makes batches of captioned pictures from arrays.

    Args:
        images: A `(count, height, width, 3)` array.
        captions: One for each image.
        tags: Words for each image; some are appended to its caption, others at each pass, as
            `augment_caption` does. Without them captions stay as they are.
        batch_size: Pictures in a batch.
        shuffle: Draw a new order at each pass; the same passes for the same seed.
        max_shift: Move each image by up to so many pixels at each pass, as `shift_images` does.
        seed: Of the order and of what is random in the pictures and captions.
        drop_remainder: Leave out a last batch that is not full.

    Returns:
        A dataset of `{"image": uint8 (batch, height, width, 3), "caption": string (batch,)}`, its
        cardinality known.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: Images, captions and tags differ in number, or an argument makes no sense.

    Example:
        ```python
        train = array_dataset(emoji.images[:1700], emoji.captions[:1700], max_shift=3)
        ```
    """
    check_batch(images)
    if len(captions) != len(images) or (tags is not None and len(tags) != len(images)):
        raise ValueError(
            "Expected as many captions, and lists of tags, as images. "
            f"Received: {len(images)} images, {len(captions)} captions, "
            f"{'no' if tags is None else len(tags)} lists of tags"
        )
    check_shift(max_shift)

    def load(
        numbers: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], list[str]]:
        chosen = [captions[number] for number in numbers]
        if tags is not None:
            chosen = [
                augment_caption(caption, tags[number], rng)
                for caption, number in zip(chosen, numbers, strict=True)
            ]
        return shift_images(images[numbers], max_shift, rng), chosen

    return captioned_dataset(
        load,
        len(images),
        (images.shape[1], images.shape[2], images.shape[3]),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=drop_remainder,
    )
