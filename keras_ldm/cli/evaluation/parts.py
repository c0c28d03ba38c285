"""Features of many images, kept in parts, so that an evaluation that was interrupted goes on."""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_ldm.cli.evaluation.sources import Source
from keras_ldm.files import atomic_write
from keras_ldm.metrics.feature_extraction import FeatureExtractor
from keras_ldm.metrics.image_features import ImageFeatures
from keras_ldm.types import Array

PART = 256
"""Images a part."""

_SETTINGS = "settings.json"


class PartFolder:
    """A folder of parts, and of the settings that they were made with.

    Args:
        folder: made with the first part.
        settings: all that the features depend on, as JSON can hold it.
        restart: whether to throw away what is there.

    Raises:
        ValueError: if there are parts that were made with other settings; the message names these.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        if restart:
            for path in (*folder.glob("*.npz"), folder / _SETTINGS):
                path.unlink(missing_ok=True)
        self._check()

    def _check(self) -> None:
        path = self.folder / _SETTINGS
        if not path.is_file():
            if any(self.folder.glob("*.npz")):
                raise ValueError(
                    f"Expected a file {str(path)!r} that says what the parts beside it were made with; "
                    "begin anew with --restart. Received: none"
                )
            return
        try:
            there = dict(json.loads(path.read_text("utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Expected the settings of parts in {str(path)!r}; begin anew with --restart. "
                f"Received: a damaged file ({error})"
            ) from error
        here = self.settings
        changed = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if changed:
            raise ValueError(
                f"Expected the settings of the parts that are in {str(self.folder)!r}; take another "
                "--output, or begin anew with --restart. Received: "
                + ", ".join(f"{name} {here.get(name)!r}, not {there.get(name)!r}" for name in changed)
            )

    def collect(self, count: int, make: Callable[[int, int], ImageFeatures], name: str) -> ImageFeatures:
        """All parts; those that are missing are made now.

        Args:
            count: of images.
            make: gives the features of the images from one number to before another.
            name: of the images, for what is said of parts that are there.

        Raises:
            ValueError: if a part is damaged.
        """
        parts = {
            self.folder / f"{number:05d}.npz": (start, min(start + PART, count))
            for number, start in enumerate(range(0, count, PART))
        }
        there = sum(stop - start for path, (start, stop) in parts.items() if path.exists())
        if there:
            tqdm.write(f"{name}: {there} of {count} images are in {self.folder}", file=sys.stderr)
        for path, (start, stop) in parts.items():
            if not path.exists():
                part = make(start, stop)
                self._write_settings()
                part.save(path)
        return ImageFeatures.joined([_load(path, *bounds) for path, bounds in parts.items()])

    def _write_settings(self) -> None:
        if not (self.folder / _SETTINGS).exists():
            with atomic_write(self.folder / _SETTINGS) as file:
                file.write(json.dumps(self.settings, indent=2).encode())


def _load(path: Path, start: int, stop: int) -> ImageFeatures:
    part = ImageFeatures.load(path)
    if part.count != stop - start:
        raise ValueError(
            f"Expected features of {stop - start} images in {str(path)!r}; begin anew with --restart. "
            f"Received: {part.count}"
        )
    return part


def features_of(
    source: Source, extractor: FeatureExtractor | None, folder: PartFolder, name: str
) -> ImageFeatures:
    """The features of all images of a source, kept in parts, with a progress bar.

    Args:
        source: gives the images, and perhaps values beside their features.
        extractor: of the features; None for those values alone.
        folder: of the parts.
        name: of the images, for the progress bar.
    """
    with tqdm(total=source.count, desc=name, unit="image") as bar:

        def make(start: int, stop: int) -> ImageFeatures:
            bar.update(start - bar.n)
            return _part(source, extractor, start, stop, bar)

        features = folder.collect(source.count, make, name)
        bar.update(source.count - bar.n)
    return features


def _part(
    source: Source, extractor: FeatureExtractor | None, start: int, stop: int, bar: Any
) -> ImageFeatures:
    rows: list[Mapping[str, Array]] = []

    def images() -> Iterator[Array]:
        for batch, values in source.batches(start, stop):
            rows.append(values)
            yield batch
            bar.update(len(batch))

    found = None
    if extractor is None:
        deque(images(), maxlen=0)
    else:
        found = extractor(images(), progress=False)
    beside = {name: np.concatenate([row[name] for row in rows]) for name in source.descriptions}
    return ImageFeatures(
        {**({} if found is None else found.values), **beside},
        {**({} if found is None else found.descriptions), **source.descriptions},
        None if found is None else found.resize_mode,
    )
