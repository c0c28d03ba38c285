"""Features of a set of images with what they are: kept in files, joined from parts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from keras_ldm.files import atomic_write
from keras_ldm.metrics.feature_statistics import FeatureStatistics, check_features
from keras_ldm.types import Array

_NOTES, _VALUES = "image_features", "values_"  # names in a file, the second of each feature


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What a network says of some images, as `extract_features` gives it.

    Args:
        values: by the feature's name, `(N, dim)`, one row an image, in the images' order.
        descriptions: by the same names: the network, its weights and how images were resized, in words.
            Features of different descriptions do not compare.
        resize_mode: how images were resized; None where no network saw them.

    Raises:
        ValueError: for no feature, other names, arrays of other shapes or different numbers of images,
            or values that are not finite.

    Example:

    ```python
    features = keras_ldm.metrics.extract_features(network, images, features=("pooled", "logits"))
    features.save("real.npz")
    features.statistics("pooled")
    ```
    """

    values: Mapping[str, Array]
    descriptions: Mapping[str, str]
    resize_mode: str | None = None

    def __post_init__(self) -> None:
        if not self.values or set(self.values) != set(self.descriptions):
            raise ValueError(
                "Expected at least one feature, and a description of each. "
                f"Received: features {sorted(self.values)}, descriptions of {sorted(self.descriptions)}"
            )
        counts = {name: len(check_features(values, 1)) for name, values in self.values.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"Expected features of the same images. Received: numbers {counts}")

    @property
    def count(self) -> int:
        """How many images they are of."""
        return len(next(iter(self.values.values())))

    def statistics(self, name: str = "pooled") -> FeatureStatistics:
        """The statistics of one of the features, for the Fréchet distance.

        Raises:
            ValueError: if there is no such feature, or only one image.
        """
        if name not in self.values:
            raise ValueError(f"Expected a feature among {sorted(self.values)}. Received: {name!r}")
        return FeatureStatistics.of(self.values[name], self.descriptions[name])

    @classmethod
    def joined(cls, parts: "Sequence[ImageFeatures]") -> Self:
        """The features of the images of all parts, in their order.

        Raises:
            ValueError: if there are none, or they are not the same features.
        """
        if not parts:
            raise ValueError("Expected at least one part. Received: none")
        first = parts[0]
        for part in parts[1:]:
            if part.descriptions != first.descriptions or part.resize_mode != first.resize_mode:
                raise ValueError(
                    "Expected parts with the same features. Received: "
                    f"{dict(first.descriptions)} and {dict(part.descriptions)}"
                )
        values = {name: np.concatenate([part.values[name] for part in parts]) for name in first.values}
        return cls(values, first.descriptions, first.resize_mode)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a `.npz` file, which is there whole or not at all.

        Args:
            path: the file; one of that name is replaced.
        """
        notes = json.dumps({"descriptions": dict(self.descriptions), "resize_mode": self.resize_mode})
        arrays: dict[str, Any] = {_VALUES + name: values for name, values in self.values.items()}
        with atomic_write(path) as file:
            np.savez(file, **{**arrays, _NOTES: np.array(notes)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Reads a file of `save`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                notes = json.loads(str(file[_NOTES]))
                descriptions = {str(name): str(text) for name, text in notes["descriptions"].items()}
                values = {name: np.asarray(file[_VALUES + name]) for name in descriptions}
                return cls(values, descriptions, notes["resize_mode"])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Expected a file of image features. Received: {path}") from error
        except (KeyError, OSError, EOFError, ValueError, AttributeError, TypeError, BadZipFile) as error:
            raise ValueError(
                f"Expected a file that `ImageFeatures.save` wrote. Received: {path}: {error}"
            ) from error


def is_features_file(path: str | PathLike[str]) -> bool:
    """Whether a file is one of `ImageFeatures.save`, to look at; it may still be damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return _NOTES in file
    except (OSError, EOFError, ValueError, TypeError, BadZipFile):
        return False
