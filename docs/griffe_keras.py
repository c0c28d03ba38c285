"""Shows `Call arguments`, a section of Keras's docstrings that Griffe does not know, as a list."""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^(Call arguments:\n)((?:(?: {4}.*)?\n?)+)", re.MULTILINE)
_ITEM = re.compile(r"^ {4}(\*{0,2}\w+): ", re.MULTILINE)


def as_list(docstring: str) -> str:
    """Turns each `name: what it is` of the section into an item of a Markdown list."""
    return _SECTION.sub(lambda found: found[1] + _ITEM.sub(r"    - **`\1`** – ", found[2]), docstring)


class KerasSections(griffe.Extension):
    """Rewrites the docstring of each class before it is parsed."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        if cls.docstring:
            cls.docstring.value = as_list(cls.docstring.value)
