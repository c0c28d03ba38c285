"""A folder of captioned pictures, as a `tf.data` pipeline or as arrays.

Each picture is read once up front, so that a broken one is named and left out before training
starts rather than in the middle of it, and so that the number of batches is known. The pipeline
then decodes pictures anew at each pass, on worker threads; a set that fits in memory is faster as
arrays: `array_dataset(*load_image_folder(path))`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from keras_ldm.data.captions import CaptionSource, read_captions
from keras_ldm.data.image_augmentation import check_shift, flip_images, shift_images
from keras_ldm.data.image_files import find_images, read_all
from keras_ldm.data.images import Crop, check_square, load_image
from keras_ldm.data.pipeline import captioned_dataset, count_batches, require_tensorflow

if TYPE_CHECKING:
    from tensorflow.data import Dataset


def image_folder(
    path: str | Path,
    captions: CaptionSource = None,
    *,
    image_size: int = 64,
    crop: Crop = "center",
    batch_size: int = 32,
    shuffle: bool = True,
    max_shift: int = 0,
    random_flip: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    recursive: bool = True,
    verify: bool = True,
) -> Dataset:
    """Makes batches for text-to-image training from a folder of pictures.

    Args:
        path: The folder. Pictures are found by suffix: PNG, JPEG, WebP, BMP, GIF and TIFF.
        captions: Where captions come from, as in `read_captions`: a mapping, a `.csv`, `.tsv`,
            `.jsonl` or `.ndjson` file, `"txt"` or `"file_name"`. With None, `captions.csv`,
            `metadata.csv`, `metadata.jsonl` or `captions.jsonl` in the folder, else `.txt` files
            beside the pictures, else the pictures' names.
        image_size: Height and width of the images.
        crop: Which square of a picture is taken, as in `load_image`; a random one differs at each
            pass.
        batch_size: Pictures in a batch.
        shuffle: Draw a new order at each pass; the same passes for the same seed.
        max_shift: Move each image by up to so many pixels at each pass.
        random_flip: Mirror half of the images at each pass; not for text, nor for captions that
            tell left from right.
        seed: Of all that is random here.
        drop_remainder: Leave out a last batch that is not full.
        recursive: Look for pictures in the folders inside, too.
        verify: Read all pictures now, with a progress bar, and leave out broken ones with a
            warning that names each. Otherwise the first broken picture ends the iteration with an
            error that names it: for large sets known to be whole.

    Returns:
        A dataset of `{"image": uint8 (batch, image_size, image_size, 3), "caption": string
        (batch,)}`, its cardinality known.

    Raises:
        FileNotFoundError: There is no such folder, or no such file of captions.
        NotADirectoryError: `path` is a file.
        ImportError: TensorFlow is not installed.
        ValueError: There are no pictures, all are broken, some have no caption, or an argument
            makes no sense.

    Example:
        ```python
        dataset = image_folder("pictures", "captions.csv", image_size=128, crop="random")
        task.fit(dataset, epochs=10)
        ```
    """
    folder = Path(path)
    names = find_images(folder, recursive=recursive)
    texts = read_captions(folder, names, captions)
    check_square(image_size, crop)
    check_shift(max_shift)
    count_batches(len(names), batch_size, seed=seed, drop_remainder=drop_remainder)
    require_tensorflow()
    if verify:
        read = read_all(lambda name: load_image(folder / name, image_size), names, keep=False)
        whole = [number for number, image in enumerate(read) if image is not None]
        names = tuple(names[number] for number in whole)
        texts = tuple(texts[number] for number in whole)

    def load(
        numbers: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], list[str]]:
        files = [folder / names[number] for number in numbers]
        images = np.stack([load_image(file, image_size, crop=crop, rng=rng) for file in files])
        images = shift_images(images, max_shift, rng)
        if random_flip:
            images = flip_images(images, rng)
        return images, [texts[number] for number in numbers]

    return captioned_dataset(
        load,
        len(names),
        (image_size, image_size, 3),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=drop_remainder,
    )


def load_image_folder(
    path: str | Path,
    captions: CaptionSource = None,
    *,
    image_size: int = 64,
    crop: Literal["center", "none"] = "center",
    recursive: bool = True,
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Reads a folder of captioned pictures into memory, without TensorFlow.

    Broken pictures are left out with a warning that names each.

    Args:
        path: The folder.
        captions: Where captions come from, as in `image_folder`.
        image_size: Height and width of the images.
        crop: Which square of a picture is taken, as in `load_image`.
        recursive: Look for pictures in the folders inside, too.

    Returns:
        Images `(count, image_size, image_size, 3)`, sorted by name, and their captions.

    Raises:
        FileNotFoundError: There is no such folder, or no such file of captions.
        NotADirectoryError: `path` is a file.
        ValueError: There are no pictures, all are broken, some have no caption, or an argument
            makes no sense.

    Example:
        ```python
        images, captions = load_image_folder("pictures", image_size=64)
        ```
    """
    folder = Path(path)
    names = find_images(folder, recursive=recursive)
    texts = read_captions(folder, names, captions)
    check_square(image_size, crop)
    read = read_all(lambda name: load_image(folder / name, image_size, crop=crop), names, keep=True)
    whole = [(image, text) for image, text in zip(read, texts, strict=True) if image is not None]
    return np.stack([image for image, _ in whole]), tuple(text for _, text in whole)
