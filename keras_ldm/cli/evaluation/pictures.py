"""The pictures that `keras-ldm evaluate` reads: the emoji that ship, or a folder, one at a time."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from keras_ldm.data import EmojiData, find_images, load_emoji, load_image, read_captions
from keras_ldm.data.image_files import read_all
from keras_ldm.types import Array

EMOJI = "emoji"
_NAMED = 5  # so many names are spelt out in a message


class Pictures(ABC):
    """Pictures by their number.

    Attributes:
        count: how many there are.
        side: of the square in the middle that is taken, in pixels; None for pictures as they are.
        identity: tells them from others.
    """

    count: int
    side: int | None
    identity: str

    @abstractmethod
    def captions(self) -> tuple[str, ...]:
        """What each shows."""

    @abstractmethod
    def read(self, number: int) -> Array:
        """One picture, uint8 `(height, width, 3)`."""


class EmojiPictures(Pictures):
    """The emoji that ship with the package.

    Args:
        side: to resize them to; None leaves them at 64.
    """

    def __init__(self, side: int | None) -> None:
        self.emoji: EmojiData = load_emoji()
        self.count = len(self.emoji)
        self.side = side
        self.identity = hashlib.sha256(self.emoji.images.tobytes()).hexdigest()[:16]

    def captions(self) -> tuple[str, ...]:
        """Their captions."""
        return self.emoji.captions

    def read(self, number: int) -> Array:
        """One of them."""
        image = self.emoji.images[number]
        if self.side in (None, len(image)):
            return image
        picture = Image.fromarray(image).resize((self.side, self.side), Image.Resampling.LANCZOS)
        return np.asarray(picture)


class FolderPictures(Pictures):
    """The pictures of a folder, those in folders inside too, in the order of their names.

    All are read once at the start, with a progress bar, so that a broken one is known before anything
    long begins.

    Args:
        folder: where they are.
        side: see `Pictures`.

    Raises:
        FileNotFoundError: if there is no such folder.
        NotADirectoryError: if it is a file.
        ValueError: if it holds no picture, or one that cannot be read.
    """

    def __init__(self, folder: str | Path, side: int | None) -> None:
        self.folder = Path(folder)
        self.names = find_images(folder)
        self.count = len(self.names)
        self.side = side
        read = read_all(lambda name: self._read(name), self.names, keep=False)
        broken = [name for name, image in zip(self.names, read, strict=True) if image is None]
        if broken:
            more = ", ..." if len(broken) > _NAMED else ""
            raise ValueError(
                f"Expected pictures that can be read in {str(folder)!r}; take out or mend those that "
                f"cannot. Received: {len(broken)} broken of {self.count}: "
                f"{', '.join(broken[:_NAMED])}{more}"
            )
        self.identity = self._identity()

    def captions(self) -> tuple[str, ...]:
        """Captions, from where `keras_ldm.data.read_captions` finds them."""
        return read_captions(self.folder, self.names)

    def read(self, number: int) -> Array:
        """One of them."""
        return self._read(self.names[number])

    def _read(self, name: str) -> Array:
        return load_image(self.folder / name, self.side)

    def _identity(self) -> str:
        """Of names, sizes and times of the files."""
        digest = hashlib.sha256()
        for name in self.names:
            status = (self.folder / name).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()[:16]


def open_pictures(where: str, side: int | None) -> Pictures:
    """The pictures that the command line names: "emoji", or those of a folder.

    Raises:
        ValueError: for "emoji", if there is a folder of that name too; and see `FolderPictures`.
    """
    if where != EMOJI:
        return FolderPictures(where, side)
    if Path(EMOJI).is_dir():
        raise ValueError(
            f"Expected ./{EMOJI} for the folder of that name, or another folder to work in for the "
            f"emoji that ship. Received: {EMOJI!r}, and there is such a folder"
        )
    return EmojiPictures(side)


def read_batches(pictures: Pictures, start: int, stop: int, batch_size: int) -> Iterator[Array]:
    """Pictures by their numbers, uint8 `(n, height, width, 3)`, n at most `batch_size`."""
    waiting: list[Array] = []
    for number in range(start, stop):
        image = pictures.read(number)
        if waiting and (len(waiting) == batch_size or waiting[0].shape != image.shape):
            yield np.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield np.stack(waiting)
