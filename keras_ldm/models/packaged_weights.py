"""Weights that a package brings, which is never imported."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path


def packaged_file(package: str, place: str, command: str) -> Path:
    """A file of an installed package.

    Args:
        package: its name, as one would import it.
        place: of the file, in the package's folder.
        command: what installs it.

    Raises:
        ImportError: if it is not there; the message has the command.
    """
    spec = importlib.util.find_spec(package)
    folders: Iterable[str] = (spec and spec.submodule_search_locations) or ()
    for file in (Path(folder) / place for folder in folders):
        if file.is_file():
            return file
    raise ImportError(
        f"Expected an installed package {package}, which brings {place}, or files of weights as "
        f"`weights`. Received: neither; install it with `{command}`"
    )
