"""Opens a file of tensors: what every format begins with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from keras_ldm.files.refusal import Refusal, refusing
from keras_ldm.files.tensor_file import TensorFile


def open_tensor_file(
    path: str | os.PathLike[str], expected: str, read: Callable[[BinaryIO, str], TensorFile]
) -> TensorFile:
    """Opens a file and reads what is in it; it stays open for its tensors, unless that fails.

    Args:
        path: The file.
        expected: What it should be, for messages.
        read: From the open file and its name to its tensors; it raises `Refusal` for other files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no regular file, or not what is expected.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"Expected {expected}. Received: {name!r}, which does not exist")
    with refusing(expected, name):
        if not Path(name).is_file():
            raise Refusal("which is a folder" if Path(name).is_dir() else "which is no regular file")
        file = open(name, "rb")  # noqa: SIM115
        try:
            return read(file, name)
        except BaseException:
            file.close()
            raise
