"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only once it is complete.

    The bytes go to a file beside it, which is flushed to the disk and then renamed. After an error
    there is no new file, and one of that name, if there was one, is as it was. Folders that are
    missing are made.

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
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"Expected the name of a file. Received: {str(path)!r}, a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
