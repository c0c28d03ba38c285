"""Why a file is not read."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

# What parsers raise at bytes that make no sense.
_DAMAGE = (
    ArithmeticError,  # with OverflowError
    AssertionError,
    EOFError,
    LookupError,  # IndexError, KeyError
    MemoryError,
    RecursionError,
    NotImplementedError,
    ValueError,  # with UnicodeError and json.JSONDecodeError
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Refusal(ValueError):
    """The reason for not reading a file, worded to stand behind the file's name."""


@contextmanager
def refusing(expected: str, path: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into one ValueError that names the file.

    Args:
        expected: What the file should have been.
        path: The file.

    Raises:
        ValueError: A refusal, or an error that damaged bytes lead to.
    """
    try:
        yield
    except Refusal as refusal:
        raise ValueError(f"Expected {expected}. Received: {path!r}, {refusal}") from refusal
    except _DAMAGE as error:
        raise ValueError(
            f"Expected {expected}. Received: {path!r}, which is damaged "
            f"({type(error).__name__}: {str(error)[:200]})"
        ) from error


def shown(text: str) -> str:
    """A name from a file, quoted, and cut where it is long."""
    return repr(text if len(text) <= 100 else text[:100] + "…")


def shown_all(texts: list[str]) -> str:
    """The first few of several names."""
    more = f" and {len(texts) - 5} more" if len(texts) > 5 else ""
    return ", ".join(shown(text) for text in texts[:5]) + more
