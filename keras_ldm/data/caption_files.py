"""Tables of captions: CSV and JSON Lines files, one line a picture.

Each line names a picture (`file_name`, `file`, `filename`, `image` or `path`, below the folder of
pictures) and its caption (`caption` or `text`). The file is UTF-8, with or without a byte order
mark. What cannot be understood is an error that names the line: a caption half read trains a
model on half a caption.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

FILE_COLUMNS = ("file_name", "file", "filename", "image", "path")
CAPTION_COLUMNS = ("caption", "text")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")

Row = tuple[int, str, str]


def read_caption_file(path: str | Path) -> dict[str, str]:
    """Reads a `.csv`, `.tsv`, `.jsonl` or `.ndjson` file of captions.

    Args:
        path: The file.

    Returns:
        The caption of each picture, by the name that the file gives the picture.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind, is empty, is not UTF-8, lacks a column, has a line
            that cannot be read, or names a picture twice.

    Example:
        ```python
        captions = read_caption_file("pictures/captions.csv")  # {"cat.jpg": "a grey cat", …}
        ```
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in DELIMITERS and suffix not in JSON_LINES:
        known = ", ".join((*DELIMITERS, *JSON_LINES))
        raise ValueError(f"A file of captions ends in one of {known}. Received: {str(path)!r}")
    text = read_text(path)
    delimiter = DELIMITERS.get(suffix)
    rows = _json_rows(text, path) if delimiter is None else _csv_rows(text, path, delimiter)
    captions = _unique(rows, path)
    if not captions:
        raise ValueError(f"Expected at least one caption in the file. Received: {str(path)!r}")
    return captions


def read_text(path: Path) -> str:
    """Reads a UTF-8 file, with or without a byte order mark.

    Args:
        path: The file.

    Returns:
        Its text, newlines as they are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of captions. Received: {str(path)!r}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Captions must be saved as UTF-8 ({error.reason} at byte {error.start}). "
            f"Received: {str(path)!r}"
        ) from error


def _csv_rows(text: str, path: Path, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if not header:
            return
        file_column = header.index(_key(FILE_COLUMNS, header, f"{path.name}, its first line"))
        text_column = header.index(_key(CAPTION_COLUMNS, header, f"{path.name}, its first line"))
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"Expected the {len(header)} cells of the header; a caption that holds "
                    f"{delimiter!r} stands in double quotes. "
                    f"Received: {len(cells)} cells at line {reader.line_num} of {str(path)!r}"
                )
            yield reader.line_num, cells[file_column], cells[text_column]
    except csv.Error as error:
        raise ValueError(
            f"Expected comma- or tab-separated values ({error}). "
            f"Received: line {reader.line_num} of {str(path)!r}"
        ) from error


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {str(path)!r}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"Expected one JSON object a line ({error}). Received: {where}") from error
        if not isinstance(record, dict):
            raise ValueError(
                f"Expected one JSON object a line. Received: {type(record).__name__} at {where}"
            )
        file = record[_key(FILE_COLUMNS, record, where)]
        caption = record[_key(CAPTION_COLUMNS, record, where)]
        if not isinstance(file, str) or not isinstance(caption, str):
            raise ValueError(
                "Expected strings for the file and its caption. "
                f"Received: {file!r} and {caption!r} at {where}"
            )
        yield number, file, caption


def _key(accepted: tuple[str, ...], found: Iterable[str], where: str) -> str:
    found = list(found)
    for name in accepted:
        if name in found:
            return name
    raise ValueError(f"Expected a column named one of {accepted}. Received: {found} at {where}")


def _unique(rows: Iterable[Row], path: Path) -> dict[str, str]:
    captions: dict[str, str] = {}
    for line, file, caption in rows:
        if file in captions:
            raise ValueError(
                "Expected one caption for each picture. "
                f"Received: {file!r} again at line {line} of {str(path)!r}"
            )
        captions[file] = caption
    return captions
