"""1,892 Noto emoji with captions, shipped with the package: real data without a download.

The images are 64×64 on white, kept as one lossless WebP atlas, and each has a caption ("red
heart"), some tags ("love", "like"), one of 9 categories and one of 98 subcategories. Flags and
letters among them mean something else mirrored, so no pipeline here flips them. The images come
from Google's Noto Emoji (Apache-2.0), the words from emoji-data and emojilib (both MIT); the
licences stand beside the files in `assets/emoji`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from keras_ldm.data.arrays import array_dataset

if TYPE_CHECKING:
    from tensorflow.data import Dataset

SIZE = 64


@dataclass(frozen=True, eq=False)
class EmojiData:
    """Pictures with their captions, in matching order.

    Args:
        images: A `(count, 64, 64, 3)` array, on white.
        captions: What each picture shows.
        tags: Other words for each picture, possibly none.
        categories: The number of each picture's category.
        category_names: The categories' names.
        subcategories: The number of each picture's subcategory.
        subcategory_names: The subcategories' names.
        codes: Each emoji's code points in hexadecimal, joined by `-`; all differ.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    categories: NDArray[np.int32]
    category_names: tuple[str, ...]
    subcategories: NDArray[np.int32]
    subcategory_names: tuple[str, ...]
    codes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def dataset(
        self,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        augment_captions: bool = False,
        max_shift: int = 0,
        seed: int = 0,
        drop_remainder: bool = False,
    ) -> Dataset:
        """Makes batches for text-to-image training.

        Args:
            batch_size: Pictures in a batch.
            shuffle: Draw a new order at each pass; the same passes for the same seed.
            augment_captions: Append some of the tags to the caption, others at each pass, as
                `augment_caption` does.
            max_shift: Move each picture by up to so many pixels at each pass.
            seed: Of all that is random here.
            drop_remainder: Leave out a last batch that is not full.

        Returns:
            A dataset of `{"image": uint8 (batch, 64, 64, 3), "caption": string (batch,)}`, its
            cardinality known.

        Raises:
            ImportError: TensorFlow is not installed.
            ValueError: An argument makes no sense.
        """
        return array_dataset(
            self.images,
            self.captions,
            self.tags if augment_captions else None,
            batch_size=batch_size,
            shuffle=shuffle,
            max_shift=max_shift,
            seed=seed,
            drop_remainder=drop_remainder,
        )


def load_emoji() -> EmojiData:
    """Reads the emoji that ship with the package.

    Returns:
        All of them, in new arrays.

    Raises:
        FileNotFoundError: A file is missing from the installed package.
        ValueError: A file of the installed package is damaged.

    Example:
        ```python
        emoji = load_emoji()
        train = emoji.dataset(64, augment_captions=True, max_shift=3)
        ```
    """
    try:
        table = json.loads(gzip.decompress(_read("captions.json.gz")))
        items = table["items"]
        return EmojiData(
            images=_images(_read("noto64_pal32.webp"), len(items)),
            captions=tuple(item["caption"] for item in items),
            tags=tuple(tuple(item["tags"]) for item in items),
            categories=_numbers(items, "category"),
            category_names=tuple(table["categories"]),
            subcategories=_numbers(items, "subcategory"),
            subcategory_names=tuple(table["subcategories"]),
            codes=tuple(item["code"] for item in items),
        )
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, KeyError, UnidentifiedImageError) as error:
        raise ValueError(
            f"Expected the emoji as they ship with keras_ldm ({type(error).__name__}: {error}); "
            f"reinstall the package. Received: damaged files in {str(_assets())!r}"
        ) from error


def _assets() -> Traversable:
    return resources.files("keras_ldm.data") / "assets" / "emoji"


def _read(name: str) -> bytes:
    file = _assets() / name
    if not file.is_file():
        raise FileNotFoundError(
            f"Expected a file that ships with keras_ldm; reinstall the package. Received: {file}"
        )
    return file.read_bytes()


def _images(data: bytes, count: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as atlas:
        pixels = np.array(atlas.convert("RGB"))
    columns = pixels.shape[1] // SIZE
    tiles = pixels.reshape(-1, SIZE, columns, SIZE, 3).transpose(0, 2, 1, 3, 4)
    images = tiles.reshape(-1, SIZE, SIZE, 3)[:count]
    if len(images) != count:
        raise ValueError(f"{len(images)} images for {count} captions")
    return images


def _numbers(items: list[dict[str, Any]], key: str) -> NDArray[np.int32]:
    return np.array([item[key] for item in items], dtype=np.int32)
