"""Reads the checkpoints that `torch.save` writes since PyTorch 1.6: zip archives."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections import Counter
from typing import BinaryIO

from keras_ldm.files.pickle_machine import MAX_BYTES, PickleMachine
from keras_ldm.files.refusal import Refusal, shown, shown_all
from keras_ldm.files.tensor_file import Place, TensorFile
from keras_ldm.files.torch_objects import StoredTensor, state_dict_of, storage_of

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, then the lengths of the name and the extra field
_ENCRYPTED = 0x1
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)|\\|\0")


def open_zip(file: BinaryIO, path: str, size: int) -> TensorFile:
    """Reads the pickle of an open zip archive, and finds the storages that it names.

    Args:
        file: The archive.
        path: Its name.
        size: Its bytes.

    Raises:
        Refusal: It is no checkpoint, or not safe to read.
    """
    archive = _Archive(file, size)
    folder = archive.folder()
    order = archive.members.get(f"{folder}/byteorder")
    if order is not None and archive.read(order, 16).strip() != b"little":
        raise Refusal("which was written on a big-endian machine")
    pickled = archive.read(archive.members[f"{folder}/data.pkl"], MAX_BYTES)
    tensors, metadata = state_dict_of(PickleMachine(storage_of).load(io.BytesIO(pickled)))
    places = {name: archive.place(f"{folder}/data", tensor) for name, tensor in tensors.items()}
    return TensorFile(file, path, places, metadata, archive.zip)


class _Archive:
    """The members of a zip archive, by name."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self.zip = zipfile.ZipFile(file)
        infos = self.zip.infolist()
        names = [info.orig_filename for info in infos]  # as they are in the file
        outside = [name for name in names if _OUTSIDE.search(name)]
        if outside:
            raise Refusal(f"which is an archive with paths that lead out of it: {shown_all(outside)}")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise Refusal(f"which is an archive with two members {shown_all(twice)}")
        for info in infos:
            if info.flag_bits & _ENCRYPTED:
                raise Refusal(f"in which {shown(info.filename)} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refusal(f"in which {shown(info.filename)} is compressed in an unknown way")
        self.members = dict(zip(names, infos, strict=True))
        self._starts: dict[str, int] = {}

    def folder(self) -> str:
        """The folder of the pickle in the archive."""
        folders = [
            name.partition("/")[0] for name in self.members if re.fullmatch("[^/]+/data.pkl", name)
        ]
        if len(folders) != 1:
            what = "more than one data.pkl" if folders else "no data.pkl"
            raise Refusal(f"which is a zip archive with {what}, not one of torch.save")
        inside = f"{folders[0]}/"
        if any(name.startswith((f"{inside}code/", f"{inside}constants.pkl")) for name in self.members):
            raise Refusal("which is a TorchScript archive, a program: save its state_dict instead")
        return folders[0]

    def read(self, info: zipfile.ZipInfo, limit: int) -> bytes:
        """Reads a small member."""
        if info.file_size > limit:
            raise Refusal(f"in which {shown(info.filename)} has {info.file_size} bytes")
        if info.compress_type == zipfile.ZIP_STORED:
            # Not by `zipfile`, since torch can be told to leave out the checksums.
            self._file.seek(self._start(info))
            return self._file.read(info.file_size)
        with self.zip.open(info) as member:
            data = member.read(info.file_size)
        if len(data) != info.file_size:
            raise Refusal(f"in which {shown(info.filename)} is truncated")
        return data

    def _start(self, info: zipfile.ZipInfo) -> int:
        """The first byte of a member that is not compressed."""
        name = info.orig_filename
        if name not in self._starts:
            if info.header_offset < 0:
                raise Refusal(f"in which {shown(name)} would begin before the file")
            self._file.seek(info.header_offset)
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(
                self._file.read(_LOCAL_HEADER.size)
            )
            written = self._file.read(name_length).decode("utf-8" if info.flag_bits & 0x800 else "cp437")
            start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
            if signature != b"PK\x03\x04" or written != name or info.compress_size != info.file_size:
                raise Refusal(f"in which {shown(name)} is not where the archive's directory says")
            if start + info.file_size > self._size:
                raise Refusal(f"in which {shown(name)} reaches beyond the end: it is truncated")
            self._starts[name] = start
        return self._starts[name]

    def place(self, folder: str, tensor: StoredTensor) -> Place:
        """Where a tensor lies."""
        storage = tensor.storage
        name = f"{folder}/{storage.key}"
        info = self.members.get(name)
        if info is None:
            raise Refusal(f"in which the storage {shown(name)} is missing")
        if info.file_size != storage.nbytes:
            raise Refusal(
                f"in which the storage {shown(name)} has {info.file_size} bytes, "
                f"not {storage.nbytes}: it is truncated or damaged"
            )
        if info.compress_type == zipfile.ZIP_STORED:
            return tensor.place(self._start(info))
        return tensor.place(0, name)
