"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside a file's, for what is written there to take the file's name once it is complete.

    After an error there is no new file, and one of that name, if there was one, is as it was. Folders
    that are missing are made.

    Args:
        path: The file to write; one of that name is replaced.

    Yields:
        The other name, with the same ending.

    Raises:
        IsADirectoryError: There is a folder of that name.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"Expected the name of a file. Received: {str(path)!r}, a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only once it is complete, on the disk: see `atomic_path`.

    Args:
        path: The file to write; one of that name is replaced.

    Yields:
        The open file.

    Raises:
        IsADirectoryError: There is a folder of that name.

    Example:
        ```python
        with atomic_write("notes.txt") as file:
            file.write(b"all or nothing")
        ```
    """
    with atomic_path(path) as temporary, open(temporary, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
