"""Recognises a file by its first bytes and opens it."""

from __future__ import annotations

import os
from typing import BinaryIO

from keras_ldm.files.legacy_checkpoints import MAGIC, open_legacy
from keras_ldm.files.opening import open_tensor_file
from keras_ldm.files.refusal import Refusal
from keras_ldm.files.safetensors_reading import looks_like_safetensors, open_safetensors
from keras_ldm.files.tensor_file import TensorFile
from keras_ldm.files.zip_checkpoints import open_zip

_EXPECTED = "a safetensors file or a checkpoint of torch.save"
_ZIP = b"PK\x03\x04"
_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_OTHERS = {
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of NumPy",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "compressed (gzip); unpack it first",
    b"PK\x05\x06": "an empty zip archive",
    b"\x80": "a bare pickle, which torch.save does not write",
}


def read_tensors(path: str | os.PathLike[str]) -> TensorFile:
    """Opens a safetensors file, or a checkpoint of `torch.save`, to read its tensors by name.

    Which of them it is shows in its content; the name's ending does not matter. Of a checkpoint the
    tensors in its `state_dict` are given, or if it has none, those of its top-level dictionary.

    No PyTorch is needed, and nothing that a pickle names is imported or run: see
    `keras_ldm.files.pickle_machine`.

    Args:
        path: The file.

    Returns:
        The tensors by name; each is read when it is asked for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, is damaged, or is not safe to read.

    Example:
        ```python
        with read_tensors("sd-v1-4.ckpt") as tensors:
            print(len(tensors), tensors.metadata)
        ```
    """
    return open_tensor_file(path, _EXPECTED, _recognise)


def _recognise(file: BinaryIO, name: str) -> TensorFile:
    size = os.fstat(file.fileno()).st_size
    head = file.read(512)
    file.seek(0)
    if not head:
        raise Refusal("which is empty")
    if head.startswith(_POINTER):
        raise Refusal("which is a Git LFS pointer: the weights themselves were not downloaded")
    # First what has a fixed meaning at its ninth byte: the length before it can look like anything.
    if looks_like_safetensors(head):
        return open_safetensors(file, name, size)
    if head.startswith(_ZIP):
        return open_zip(file, name, size)
    if head.startswith(MAGIC):
        return open_legacy(file, name, size)
    if head.lstrip().lower().startswith(_PAGES):
        raise Refusal("which is a web page: the download gave a page instead of the file")
    for start, kind in _OTHERS.items():
        if head.startswith(start):
            raise Refusal(f"which is {kind}")
    if _is_text(head):
        raise Refusal("which is a text file")
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{":
        raise Refusal(f"which is no safetensors either: its header would have {length} bytes")
    raise Refusal("which is another kind of file")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start >= len(head) - 3 else "\0"
    return all(character.isprintable() or character.isspace() for character in text)
