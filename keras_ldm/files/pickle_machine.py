"""Reads pickles by a machine of its own, which can make values and nothing else.

`pickletools` takes the pickle apart, which runs nothing, and each opcode is then carried out here:

- Numbers, strings, bytes, lists, tuples and dictionaries are made; of a dictionary the pairs are
  kept, so that nothing from the file is hashed.
- A global is never looked up: it stays a name. Calling it makes a tensor, where it is one of the
  functions in `torch_objects.REBUILT`, and otherwise an `Inert` value, which swallows whatever is put
  into it. So the callbacks and settings in a checkpoint of Lightning do no harm, and have no effect.
- The names that only an attack needs (`os.system`, `builtins.eval`) are refused wherever they stand.
- What could exhaust the machine is refused: too many opcodes, memo entries out of order, a pickle
  of more than 256 MB, values nested too deep.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import IO, Any

from keras_ldm.files.inert_values import Global, Inert, PickledDict, check_depth, kind, named
from keras_ldm.files.refusal import Refusal
from keras_ldm.files.torch_objects import REBUILT

MAX_BYTES = 256_000_000
MAX_OPCODES = 5_000_000

_VALUE_OPCODES = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_VALUES = frozenset(_VALUE_OPCODES.split())
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class BoundedFile:
    """The part of a file that a pickle may take up.

    Memory is asked for only where there are bytes to fill it, whatever length a pickle claims.

    Args:
        file: Read from where it stands.
        limit: Bytes that may be read.
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        here = file.tell()
        self._left = min(limit, file.seek(0, io.SEEK_END) - here)
        file.seek(here)
        self._file = file

    def read(self, size: int) -> bytes:
        """Reads that many bytes, or fewer at the end."""
        return self._count(self._file.read(min(max(size, 0), self._left)))

    def readline(self) -> bytes:
        """Reads to the end of a line."""
        return self._count(self._file.readline(self._left))

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data


class PickleMachine:
    """Reads one pickle.

    Args:
        find_storage: Gives the value of a persistent id, which is how torch names a storage.
    """

    def __init__(self, find_storage: Callable[[object], object]) -> None:
        self._find_storage = find_storage
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}

    def load(self, file: IO[bytes]) -> object:
        """Reads the pickle that begins where the file stands, and leaves the file behind it.

        Raises:
            Refusal: It does what no checkpoint needs to.
            ValueError, IndexError: It is damaged; so with other errors that `refusing` knows.
        """
        steps = pickletools.genops(BoundedFile(file, MAX_BYTES))  # type: ignore[arg-type]
        for count, (opcode, argument, _) in enumerate(steps, 1):
            if count > MAX_OPCODES:
                raise Refusal(f"which has a pickle of more than {MAX_OPCODES} steps")
            name = opcode.name
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in _IGNORED:
                raise Refusal(f"which has the opcode {name} in its pickle")
        value = self._stack.pop()
        check_depth(value)
        return value

    # === Stack and memo ===

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _take(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise IndexError("too few values on the stack")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        return values

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        values = self._stack
        self._stack = self._below.pop()
        return values

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _remember(self, index: int) -> None:
        # Picklers count from 0, or from 1 in Python 2.
        if not 0 <= index <= len(self._memo) + 1:
            raise Refusal(
                f"which has {len(self._memo)} values in its pickle's memo, and names one beyond"
            )
        self._memo[index] = self._stack[-1]

    # === Containers ===

    def _add(self, values: list[Any] | tuple[Any, ...]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise Refusal(f"which adds to {kind(target)} as if it were a list")

    def _set(self, values: list[Any] | tuple[Any, ...]) -> None:
        target = self._stack[-1]
        if isinstance(target, PickledDict):
            target.pairs.extend(_pairs(values))
        elif not isinstance(target, Inert):
            raise Refusal(f"which adds to {kind(target)} as if it were a dictionary")

    def _frozen_set(self) -> None:
        self._to_mark()
        self._push(Inert("builtins.frozenset"))

    # === Objects ===

    def _call(self, function: object, *arguments: object) -> None:
        if isinstance(function, Global) and function.name in REBUILT:
            self._push(REBUILT[function.name](*arguments))
        elif isinstance(function, Global | Inert):
            self._push(Inert(function.name))
        else:
            raise Refusal(f"which calls {kind(function)}")

    def _reduce(self) -> None:
        function, arguments = self._take(2)
        known = isinstance(function, Global) and function.name in REBUILT
        if known and not isinstance(arguments, tuple):
            raise Refusal(f"which calls {kind(function)} with {kind(arguments)}")
        self._call(function, *(arguments if known else ()))

    def _build(self) -> None:
        target, _ = self._take(2)
        if not isinstance(target, Inert | PickledDict):  # an OrderedDict has `_metadata`, of no use here
            raise Refusal(f"which sets attributes of {kind(target)}")
        self._push(target)

    def _global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refusal("which names a class or function by something that is no name")
        self._push(named(module, name))

    def _instance(self, name: str) -> None:
        self._to_mark()
        self._global(*_split(name))
        self._call(self._stack.pop())

    def _object(self) -> None:
        function, *_ = self._to_mark()
        self._call(function)


def _split(name: str) -> tuple[str, str]:
    module, _, name = name.partition(" ")  # as pickletools joins them
    return module, name


def _pairs(values: list[Any] | tuple[Any, ...]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


_Step = Callable[[PickleMachine, Any], object]
# What is pushed and taken is spelled out here, opcode by opcode; `a` is the opcode's argument.
_STEPS: dict[str, _Step] = {
    "MARK": lambda m, a: m._mark(),
    "POP": lambda m, a: m._pop(),
    "POP_MARK": lambda m, a: m._to_mark(),
    "DUP": lambda m, a: m._push(m._stack[-1]),
    # values
    "NONE": lambda m, a: m._push(None),
    "NEWTRUE": lambda m, a: m._push(True),
    "NEWFALSE": lambda m, a: m._push(False),
    # containers
    "EMPTY_LIST": lambda m, a: m._push([]),
    "LIST": lambda m, a: m._push(m._to_mark()),
    "APPEND": lambda m, a: m._add(m._take(1)),
    "APPENDS": lambda m, a: m._add(m._to_mark()),
    "EMPTY_TUPLE": lambda m, a: m._push(()),
    "TUPLE": lambda m, a: m._push(tuple(m._to_mark())),
    "TUPLE1": lambda m, a: m._push(m._take(1)),
    "TUPLE2": lambda m, a: m._push(m._take(2)),
    "TUPLE3": lambda m, a: m._push(m._take(3)),
    "EMPTY_DICT": lambda m, a: m._push(PickledDict()),
    "DICT": lambda m, a: m._push(PickledDict(_pairs(m._to_mark()))),
    "SETITEM": lambda m, a: m._set(m._take(2)),
    "SETITEMS": lambda m, a: m._set(m._to_mark()),
    "EMPTY_SET": lambda m, a: m._push(Inert("builtins.set")),
    "ADDITEMS": lambda m, a: m._add(m._to_mark()),
    "FROZENSET": lambda m, a: m._frozen_set(),
    # memo
    "GET": lambda m, a: m._push(m._memo[a]),
    "BINGET": lambda m, a: m._push(m._memo[a]),
    "LONG_BINGET": lambda m, a: m._push(m._memo[a]),
    "PUT": lambda m, a: m._remember(a),
    "BINPUT": lambda m, a: m._remember(a),
    "LONG_BINPUT": lambda m, a: m._remember(a),
    "MEMOIZE": lambda m, a: m._remember(len(m._memo)),
    # objects
    "GLOBAL": lambda m, a: m._global(*_split(a)),
    "STACK_GLOBAL": lambda m, a: m._global(*m._take(2)),
    "REDUCE": lambda m, a: m._reduce(),
    "NEWOBJ": lambda m, a: m._reduce(),
    "NEWOBJ_EX": lambda m, a: m._call(m._take(3)[0]),
    "INST": lambda m, a: m._instance(a),
    "OBJ": lambda m, a: m._object(),
    "BUILD": lambda m, a: m._build(),
    "PERSID": lambda m, a: m._push(m._find_storage(a)),
    "BINPERSID": lambda m, a: m._push(m._find_storage(m._take(1)[0])),
}
