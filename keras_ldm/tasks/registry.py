"""Presets by name. `keras_ldm.presets` registers its functions here when the package is imported."""

from collections.abc import Callable
from typing import Any

_PRESETS: dict[str, Callable[[], Any]] = {}


def register_preset(name: str, builder: Callable[[], Any]) -> None:
    """Makes a preset known to `from_preset`.

    Args:
        name: what users call it.
        builder: returns the built task.
    """
    _PRESETS[name] = builder


def get_preset(name: str) -> Callable[[], Any]:
    """The function that builds a preset.

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
    """
    if name not in _PRESETS:
        raise ValueError(
            f"Expected a preset among {sorted(_PRESETS)}, or the path of a .keras file. "
            f"Received: {name!r}"
        )
    return _PRESETS[name]
