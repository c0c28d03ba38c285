"""Which caption belongs to which picture of a folder, and captions varied from tags.

Captions come from a mapping, from a CSV or JSON Lines file, from `.txt` files beside the pictures
or from the pictures' own names. Names are compared in Unicode's composed form (NFC), with `/`
between folders, because the same name is spelt otherwise by macOS and by Windows.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from keras_ldm.data.caption_files import read_caption_file, read_text

CaptionSource = Mapping[str, str] | str | Path | None

DEFAULT_FILES = ("captions.csv", "metadata.csv", "metadata.jsonl", "captions.jsonl")
_NAMED = 5  # so many names are spelt out in a message

_logger = logging.getLogger(__name__)


def read_captions(
    folder: str | Path, names: Sequence[str], captions: CaptionSource = None
) -> tuple[str, ...]:
    """Finds the captions of a folder's pictures.

    Args:
        folder: The folder of pictures.
        names: The pictures' paths below the folder.
        captions: Where captions come from. A mapping from names to captions; the path of a `.csv`,
            `.tsv`, `.jsonl` or `.ndjson` file, looked for in the folder first, then from the
            working directory; `"txt"`, for the file of the picture's name that ends in `.txt`;
            `"file_name"`, for the name itself, `_` and `-` read as spaces. With None, the first in
            the folder of `captions.csv`, `metadata.csv`, `metadata.jsonl` and `captions.jsonl`;
            without those `.txt` files if there is any for a picture; else the names.

    Returns:
        A caption for each of `names`. A caption may be empty; how many are is logged as a warning,
        and so is for how many absent pictures there are captions.

    Raises:
        FileNotFoundError: There is no such file of captions.
        ValueError: Some pictures have no caption, or the file cannot be understood.

    Example:
        ```python
        captions = read_captions("pictures", ["cat.jpg", "more/dog.png"], "captions.csv")
        ```
    """
    folder = Path(folder)
    source = _default(folder, names) if captions is None else captions
    if source == "file_name":
        return tuple(_from_name(name) for name in names)
    if source == "txt":
        table, where = _text_files(folder, names), "same-named .txt files"
    elif isinstance(source, Mapping):
        table, where = _checked(source), "the mapping of captions"
    else:
        path = folder / source if (folder / source).is_file() else Path(source)
        table, where = read_caption_file(path), repr(str(path))
    return _match(table, names, where)


def augment_caption(
    caption: str,
    tags: Sequence[str],
    rng: np.random.Generator,
    *,
    max_tags: int = 4,
    keep_probability: float = 0.25,
) -> str:
    """Appends some of a picture's tags to its caption, others each time.

    With probability `keep_probability` the caption comes back as it is. Otherwise k is drawn from
    1 to `max_tags` (or to the number of tags, where those are fewer), then k tags in random order:
    `"caption, tag, tag"`. The caption always stands first.

    Args:
        caption: What the picture shows.
        tags: Words that also fit; the caption itself and repetitions among them are passed over.
        rng: Draws the tags.
        max_tags: At most so many tags are appended.
        keep_probability: How often nothing is appended.

    Returns:
        The caption, longer or the same.

    Raises:
        ValueError: `max_tags` is negative, or `keep_probability` is no probability.

    Example:
        ```python
        augment_caption("red heart", ["love", "like"], rng)  # "red heart, like"
        ```
    """
    if max_tags < 0:
        raise ValueError(f"`max_tags` must not be negative. Received: {max_tags}")
    if not 0 <= keep_probability <= 1:
        raise ValueError(f"`keep_probability` must lie in [0, 1]. Received: {keep_probability}")
    others = [tag for tag in dict.fromkeys(tags) if tag != caption]
    most = min(max_tags, len(others))
    if most == 0 or rng.random() < keep_probability:
        return caption
    count = int(rng.integers(1, most, endpoint=True))
    return ", ".join([caption, *(others[i] for i in rng.permutation(len(others))[:count])])


def _default(folder: Path, names: Sequence[str]) -> str:
    for file in DEFAULT_FILES:
        if (folder / file).is_file():
            return file
    has_text = any((folder / name).with_suffix(".txt").is_file() for name in names)
    return "txt" if has_text else "file_name"


def _from_name(name: str) -> str:
    stem = unicodedata.normalize("NFC", PurePosixPath(name).stem)
    return " ".join(stem.replace("_", " ").replace("-", " ").split())


def _text_files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    paths = {name: (folder / name).with_suffix(".txt") for name in names}
    folders = {path.parent for path in paths.values()}
    beside = {file for parent in folders for file in parent.glob("*.txt")}
    table = {file.relative_to(folder).as_posix(): "" for file in beside - set(paths.values())}
    for name, path in paths.items():
        if path in beside:
            table[name] = " ".join(read_text(path).split())
    return table


def _checked(captions: Mapping[str, str]) -> dict[str, str]:
    for name, caption in captions.items():
        if not isinstance(name, str) or not isinstance(caption, str):
            raise ValueError(f"`captions` must map names to strings. Received: {name!r}: {caption!r}")
    return dict(captions)


def _match(table: dict[str, str], names: Sequence[str], where: str) -> tuple[str, ...]:
    known = {_spelling(name): caption.strip() for name, caption in table.items()}
    if len(known) < len(table):
        twice = [name for name, n in Counter(map(_spelling, table)).items() if n > 1]
        raise ValueError(
            f"Expected one caption for each picture in {where}. "
            f"Received: several spellings of {_some(twice)}"
        )
    spelt = [_spelling(name) for name in names]
    missing = [name for name, key in zip(names, spelt, strict=True) if key not in known]
    if missing:
        raise ValueError(
            f"Expected a caption for each picture in {where}. Received: none for "
            f"{len(missing)} of {len(names)}: {_some(missing)}"
        )
    absent = sorted(known.keys() - set(spelt))
    if absent:
        _logger.warning("%d captions are for absent pictures: %s", len(absent), _some(absent))
    captions = tuple(known[key] for key in spelt)
    blank = [name for name, caption in zip(names, captions, strict=True) if not caption]
    if blank:
        _logger.warning("%d pictures have an empty caption: %s", len(blank), _some(blank))
    return captions


def _spelling(name: str) -> str:
    posix = PurePosixPath(name.strip().replace("\\", "/")).as_posix()
    return unicodedata.normalize("NFC", posix)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
