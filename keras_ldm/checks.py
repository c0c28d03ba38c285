"""Checks of arguments that all parts have."""

from typing import Any

import numpy as np


def check_int(name: str, number: Any, least: int) -> None:
    """Refuses what is no integer, of Python or NumPy, or too small a one.

    Args:
        name: of the argument, for the message.
        number: what was given.
        least: the smallest that may be.

    Raises:
        ValueError: if it is not.
    """
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
        raise ValueError(f"Expected `{name}` as an int >= {least}. Received: {number!r}")
