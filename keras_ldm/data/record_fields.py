"""What is in a record of a tar or TFRecord file: a picture, and fields beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from keras_ldm.files.record_places import Example, Record, parse_example

_PICTURES = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff")


class RecordFields:
    """Where in a record its picture and its fields are.

    Args:
        fields: as `ImageShards` takes them.
        image_field: as `ImageShards` takes it.

    Raises:
        ValueError: for other than names by name.
    """

    def __init__(self, fields: Mapping[str, str] | None, image_field: str | None) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else ()
        names = [*(name for pair in pairs for name in pair), image_field or ""]
        is_kind = fields is None or isinstance(fields, Mapping)
        if not is_kind or not all(isinstance(name, str) for name in names):
            raise ValueError(
                'Expected `fields` such as {"caption": "txt"} and `image_field` as a name. '
                f"Received: fields={fields!r}, image_field={image_field!r}"
            )
        self.fields, self.image_field = fields, image_field

    def check(self, record: Record) -> None:
        """Refuses a record of which nobody can tell what its picture is.

        Raises:
            ValueError: if it has several.
        """
        if self.image_field is None and len(found := _pictures(record)) > 1:
            raise ValueError(
                f"Expected `image_field`, which says what the picture is. Received: {record.name!r} "
                f"with several, {found}"
            )

    def picture(self, record: Record, example: Example | None) -> IO[bytes]:
        """The encoded picture of a record, as a file.

        Args:
            record: the record.
            example: what `example_of` gave for it.

        Raises:
            ValueError: if it has none.
        """
        if example is not None:
            name = self.image_field or "image"
            values = example.get(name) or [None]
            if not isinstance(values[0], bytes):
                raise ValueError(
                    f"Expected a picture, {name!r}. Received: {record.name!r} with {sorted(example)}"
                )
            return io.BytesIO(values[0])
        if self.image_field is not None:
            return record.open(self.image_field.lower())
        found = _pictures(record)
        if not found:
            raise ValueError(
                f"Expected a picture. Received: {record.name!r} with {sorted(record.parts)}"
            )
        return record.open(found[0])

    def values(self, record: Record, example: Example | None) -> dict[str, Any]:
        """The fields of a record: text, numbers, or arrays of them.

        Args:
            record: the record.
            example: what `example_of` gave for it.

        Raises:
            ValueError: if it lacks one.
        """
        default = {"caption": "txt" if example is None else "caption"}
        fields = default if self.fields is None else self.fields
        try:
            return {
                name: _member(record, field) if example is None else _feature(record, example, field)
                for name, field in fields.items()
            }
        except ValueError as error:
            if self.fields is not None:
                raise
            raise ValueError(f"{error}. Data without captions need `fields={{}}`") from error


def example_of(record: Record) -> Example | None:
    """What a TFRecord holds; None for a record of a tar file, whose members are read one by one."""
    return parse_example(record.read("")) if "" in record.parts else None


def _pictures(record: Record) -> list[str]:
    return [ending for ending in record.parts if ending.rpartition(".")[2] in _PICTURES]


def _member(record: Record, field: str) -> Any:
    ending, key = field.partition(":")[::2]
    ending = ending.lower()
    text = record.read(ending).decode()
    if not key:
        return int(text) if ending.rpartition(".")[2] == "cls" else text.strip()
    values = json.loads(text)
    value = values.get(key) if isinstance(values, dict) else None
    if value is None:
        raise ValueError(f"Expected {key!r} in {record.name!r}. Received: {text[:100]!r}")
    return value


def _feature(record: Record, example: Example, field: str) -> Any:
    values = [value.decode() if isinstance(value, bytes) else value for value in example.get(field, [])]
    if not values:
        raise ValueError(f"Expected {field!r} in {record.name!r}. Received: {sorted(example)}")
    return values[0] if len(values) == 1 else np.asarray(values)
