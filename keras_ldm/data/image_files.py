"""Which pictures a folder holds, and which of them can be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_PATIENCE = 2.0  # seconds until a progress bar shows

_logger = logging.getLogger(__name__)


def find_images(folder: str | Path, *, recursive: bool = True) -> tuple[str, ...]:
    """Lists the pictures of a folder by their suffixes, sorted by name.

    Hidden files and folders, whose names begin with a dot, are passed over.

    Args:
        folder: Where to look.
        recursive: Look in the folders inside, too.

    Returns:
        Paths below the folder, with `/` between folders.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: It is a file.
        ValueError: It holds no picture.

    Example:
        ```python
        names = find_images("pictures")  # ("cat.jpg", "more/dog.png")
        ```
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"Expected a folder of pictures. Received: {str(folder)!r}")
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder of pictures, not a file. Received: {str(folder)!r}")
    names = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        names += [
            (below / name).as_posix()
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    if not names:
        raise ValueError(f"Expected pictures ({', '.join(SUFFIXES)}). Received: none in {str(folder)!r}")
    return tuple(sorted(names))


def read_all(
    read: Callable[[str], NDArray[np.uint8]], names: Sequence[str], *, keep: bool
) -> list[NDArray[np.uint8] | None]:
    """Reads each picture once, on threads, and says which cannot be read.

    A progress bar shows when it takes longer than two seconds. Each broken picture is logged as a
    warning, and at the end their count.

    Args:
        read: Reads a picture by name; raises `ValueError` or `OSError` when it is broken.
        names: The pictures.
        keep: Keep the images; otherwise a readable picture gives an empty array.

    Returns:
        For each name its image, or None where it is broken.

    Raises:
        ValueError: All are broken.
    """
    nothing = np.empty(0, np.uint8)

    def attempt(name: str) -> NDArray[np.uint8] | Exception:
        try:
            return read(name)
        except (ValueError, OSError) as error:
            return error

    results: list[NDArray[np.uint8] | None] = []
    with ThreadPool(min(16, os.cpu_count() or 1)) as pool:
        reading = pool.imap(attempt, names, chunksize=8)
        for outcome in tqdm(reading, "Reading pictures", len(names), delay=_PATIENCE):
            if isinstance(outcome, Exception):
                _logger.warning("Skipped a broken picture. %s", outcome)
                results.append(None)
            else:
                results.append(outcome if keep else nothing)
    broken = sum(image is None for image in results)
    if broken == len(names):
        raise ValueError(f"Expected pictures that can be read. Received: {broken}, all broken")
    if broken:
        _logger.warning("Skipped %d broken pictures of %d.", broken, len(names))
    return results
