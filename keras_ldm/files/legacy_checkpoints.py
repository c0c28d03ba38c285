"""Reads the checkpoints that `torch.save` wrote before PyTorch 1.6.

They are pickles one behind the other: a magic number, a version, facts about the machine, the
object, the list of the storages' keys. Then each storage follows: its elements (i64) and its bytes.
"""

from __future__ import annotations

from typing import BinaryIO

from keras_ldm.files.inert_values import Inert, PickledDict
from keras_ldm.files.pickle_machine import PickleMachine
from keras_ldm.files.refusal import Refusal, shown
from keras_ldm.files.tensor_file import TensorFile
from keras_ldm.files.torch_objects import Storage, state_dict_of, storage_of

MAGIC = b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
_VERSION = 1001


def open_legacy(file: BinaryIO, path: str, size: int) -> TensorFile:
    """Reads the pickles of an open file, and finds the storages behind them.

    Args:
        file: At its beginning.
        path: Its name.
        size: Its bytes.

    Raises:
        Refusal: It is damaged, or not safe to read.
    """
    storages: dict[str, list[Storage]] = {}

    def find_storage(persistent_id: object) -> object:
        if isinstance(persistent_id, tuple) and persistent_id[:1] == ("module",):
            return Inert("module")  # a class with its source text
        storage = storage_of(persistent_id)
        storages.setdefault(storage.key, []).append(storage)
        return storage

    file.seek(len(MAGIC))
    version = PickleMachine(storage_of).load(file)
    if version != _VERSION:
        raise Refusal("which has an unknown version of the format of torch.save")
    facts = PickleMachine(storage_of).load(file)
    if not isinstance(facts, PickledDict) or not any(
        name == "little_endian" and value is True for name, value in facts.pairs
    ):
        raise Refusal("which was written on a big-endian machine")
    tensors, metadata = state_dict_of(PickleMachine(find_storage).load(file))
    keys = PickleMachine(storage_of).load(file)
    starts = _find(file, size, keys, storages)
    missing = [key for key in storages if key not in starts]
    if missing:
        raise Refusal(f"in which the storage {shown(missing[0])} is missing")
    places = {name: tensor.place(starts[tensor.storage.key]) for name, tensor in tensors.items()}
    return TensorFile(file, path, places, metadata)


def _find(file: BinaryIO, size: int, keys: object, storages: dict[str, list[Storage]]) -> dict[str, int]:
    """The first byte of each storage, which stand in the order of their keys."""
    starts: dict[str, int] = {}
    position = file.tell()
    for key in keys if isinstance(keys, list) else [None]:
        if not isinstance(key, str) or key not in storages or key in starts:
            raise Refusal("which has a wrong list of storages")
        file.seek(position)
        count = int.from_bytes(file.read(8), "little", signed=True)
        starts[key] = position + 8
        nbytes = count * storages[key][0].dtype.itemsize
        if any(storage.nbytes != nbytes for storage in storages[key]):
            raise Refusal(f"in which the storage {shown(key)} has {count} elements, not those it should")
        position += 8 + nbytes
        if position > size:
            raise Refusal(f"in which the storage {shown(key)} is truncated")
    return starts
