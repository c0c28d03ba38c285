"""What stands for the objects of a pickle: values that do nothing.

Nothing here is made from a name in the file, and nothing is hashed, compared or printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from keras_ldm.files.refusal import Refusal, shown

MAX_DEPTH = 1000  # Python's own pickler gives up at a third of that

# No honest checkpoint names these, not even for a callback. Refusing them is no defence, since no
# name is ever imported or called: it tells the file's owner what somebody put into it.
_MODULES_OF_ATTACKS = """
    _ctypes _frozen_importlib _frozen_importlib_external _pickle _posixsubprocess _socket asyncio atexit
    bdb cPickle cProfile code codeop commands ctypes distutils doctest ensurepip ftplib http httplib imp
    importlib marshal nt os pdb pickle pip pkgutil popen2 posix profile pty pydoc requests runpy
    setuptools shutil smtplib socket subprocess sys timeit trace urllib urllib2 venv webbrowser zipimport
"""
_REFUSED_MODULES = frozenset(_MODULES_OF_ATTACKS.split())
_REFUSED_PREFIXES = ("io.open", "torch.hub.", "torch.utils.cpp_extension.", "torch.utils.model_zoo.")
# `getattr` is how a pickle of protocol 2, which torch.save writes, names a nested class.
_HARMLESS_BUILTINS = """
    Ellipsis NotImplemented bool bytearray bytes complex dict float frozenset getattr int list long
    object range set slice str tuple type unicode xrange
"""
_KEPT_BUILTINS = frozenset(_HARMLESS_BUILTINS.split())


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function that the file names, which is not looked up."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Inert:
    """What a call of a class or function would have given; what went into it is dropped."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class PickledDict:
    """A dictionary as pairs, so that no key is hashed."""

    pairs: list[tuple[object, object]] = field(default_factory=list)


def named(module: str, name: str) -> Global:
    """The stand-in for a global.

    Raises:
        Refusal: It is one that only an attack would name.
    """
    full = f"{module}.{name}"
    root = module.partition(".")[0]
    inside = name.split(".")[:-1]  # protocol 4 finds `os.system` in any module that imports os
    builtin = root in ("builtins", "__builtin__") and name not in _KEPT_BUILTINS
    if builtin or not _REFUSED_MODULES.isdisjoint((root, *inside)) or full.startswith(_REFUSED_PREFIXES):
        raise Refusal(f"which names {shown(full)}: no honest checkpoint does, so do not trust this file")
    return Global(full)


def kind(value: object) -> str:
    """Says what a value is, without showing it."""
    if isinstance(value, Inert):
        return f"an object of {shown(value.name)}"
    if isinstance(value, Global):
        return f"the name {shown(value.name)}"
    return f"a {'dictionary' if isinstance(value, PickledDict) else type(value).__name__}"


def check_depth(value: object) -> None:
    """Refuses values that stand in more than 1000 others; goes level by level, not recursively."""
    seen: set[int] = set()
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for container in level:
            if id(container) not in seen:
                seen.add(id(container))
                below.extend(_inside(container))
        if not below:
            return
        level = below
    raise Refusal(f"in which values are nested more than {MAX_DEPTH} deep")


def _inside(value: object) -> Iterable[object]:
    """The containers in a container."""
    inside: Iterable[object] = ()
    if isinstance(value, PickledDict):
        inside = chain.from_iterable(value.pairs)
    elif isinstance(value, list | tuple):
        inside = value
    return (v for v in inside if isinstance(v, list | tuple | PickledDict))
