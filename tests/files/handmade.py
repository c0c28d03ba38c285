"""Files of tensors, byte by byte: what PyTorch writes, and what it never would."""

import codecs
import json
import math
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from keras_ldm.files import TensorFile, read_tensors

# === Opcodes ===


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(full: str) -> bytes:
    """`GLOBAL`: a class or function."""
    module, _, last = full.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def several(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    return several(*map(number, values))


def call(function: str | bytes, *arguments: bytes) -> bytes:
    """`REDUCE`: calls a global."""
    return (name(function) if isinstance(function, str) else function) + several(*arguments) + b"R"


def new(cls: str, state: bytes = b"") -> bytes:
    """`NEWOBJ`, and `BUILD` with a state: an object of a class, as pickle writes it."""
    return name(cls) + b")\x81" + (state + b"b" if state else b"")


def dictionary(entries: Mapping[str | bytes, bytes]) -> bytes:
    keys = [(text(k) if isinstance(k, str) else k) + v for k, v in entries.items()]
    return b"}(" + b"".join(keys) + b"u"


ORDERED = name("collections.OrderedDict") + b")R"


def ordered(entries: Mapping[str, bytes], state: bytes = b"") -> bytes:
    """What a `state_dict` is: an OrderedDict, with `_metadata` for its state."""
    return ORDERED + dictionary(entries)[1:] + (state + b"b" if state else b"")


def storage(kind: str, key: str, numel: int, more: bytes = b"") -> bytes:
    kind = kind if "." in kind else f"torch.{kind}"
    return several(text("storage"), name(kind), text(key), text("cpu"), number(numel), more) + b"Q"


def tensor(
    kind: str,
    numel: int,
    size: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    key: str = "0",
    offset: int = 0,
    more: bytes = b"",
) -> bytes:
    if stride is None:
        stride = [math.prod(size[i + 1 :]) for i in range(len(size))]
    return call(
        "torch._utils._rebuild_tensor_v2",
        storage(kind, key, numel, more),
        number(offset),
        numbers(size),
        numbers(stride),
        b"\x89",
        ORDERED,
    )


def floats(count: int = 6) -> bytes:
    return struct.pack(f"<{count}f", *range(count))


GOOD = tensor("FloatStorage", 6, (2, 3))  # of the storage "0", `floats()`


def beside(value: bytes) -> bytes:
    """A good checkpoint with something beside its tensors."""
    return dictionary({"callbacks": value, "state_dict": ordered({"w": GOOD})})


def among(value: bytes) -> bytes:
    """A checkpoint with something among its tensors."""
    return dictionary({"state_dict": ordered({"w": GOOD, "x": value})})


# === Files ===


def zipped(
    path: Path,
    value: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    members: Mapping[str, bytes] | None = None,
    folder: str = "archive",
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A checkpoint as since PyTorch 1.6; `value` is pickled in opcodes, without begin and end."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + value + b".")
        archive.writestr(f"{folder}/byteorder", "little")
        for key, data in ({"0": floats()} if storages is None else storages).items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", "3\n")
        for member, data in (members or {}).items():
            archive.writestr(member, data)
    return path


MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def legacy(
    path: Path,
    value: bytes,
    storages: Sequence[tuple[str, int, bytes]] = (("0", 6, floats()),),
    *,
    version: bytes = number(1001),
    little: bytes = b"\x88",
    keys: bytes | None = None,
) -> Path:
    """A checkpoint as before PyTorch 1.6."""
    facts = dictionary({"protocol_version": number(1001), "little_endian": little})
    if keys is None:
        keys = b"](" + b"".join(text(key) for key, _, _ in storages) + b"e"
    pickles = b"".join(b"\x80\x02" + part + b"." for part in (version, facts, value, keys))
    data = b"".join(struct.pack("<q", count) + values for _, count, values in storages)
    path.write_bytes(MAGIC + pickles + data)
    return path


def safetensors(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + data)
    return path


# === Proof that nothing ran ===

_RUNS = {
    "compile",
    "ctypes.dlopen",
    "exec",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.remove",
    "os.system",
    "pickle.find_class",
    "shutil.rmtree",
    "socket.connect",
    "subprocess.Popen",
}
for codec in ("cp437", "raw-unicode-escape"):  # which Python imports when they are first needed
    codecs.lookup(codec)
_seen: list[str] = []
_watching = False


def _hook(event: str, _: object) -> None:
    if _watching and event in _RUNS:
        _seen.append(event)


@contextmanager
def watching() -> Iterator[list[str]]:
    """Gives the list of what Python was made to run or import inside."""
    global _watching
    if not hasattr(sys, "_keras_ldm_hook"):  # it cannot be taken away
        sys.addaudithook(_hook)
        sys._keras_ldm_hook = True  # type: ignore[attr-defined]
    before, found = set(sys.modules), []
    _seen.clear()
    _watching = True
    try:
        yield found
    finally:
        _watching = False
        found += _seen
        found += sorted(m for m in set(sys.modules) - before if not m.startswith("encodings"))


def refused(path: Path, *reasons: str) -> str:
    """Asserts that a file is refused with its name and these words, and that nothing ran."""
    with watching() as ran, pytest.raises(ValueError) as caught:
        read_tensors(path).close()
    assert ran == []
    message = str(caught.value)
    assert message.startswith("Expected ") and "Received: " in message and repr(str(path)) in message
    for reason in reasons:
        assert reason in message
    assert len(message) < 2000
    return message


def opened(path: Path) -> TensorFile:
    """Opens a good file; asserts that nothing ran."""
    with watching() as ran:
        file = read_tensors(path)
    assert ran == []
    return file
