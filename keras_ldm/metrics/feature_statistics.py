"""Number, mean and covariance of features: what the Fréchet distance compares, kept in files."""

from dataclasses import dataclass
from os import PathLike
from typing import Self
from zipfile import BadZipFile

import numpy as np

from keras_ldm.files import atomic_write
from keras_ldm.types import Array

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Statistics of the features of some images.

    Two of them compare only if the same network saw the images, resized in the same way, so they carry
    what it was.

    Args:
        mean: `(dim,)`, float64.
        covariance: `(dim, dim)`, float64, with N - 1 in the denominator.
        count: images, N; None where a file does not say.
        features: the network, its weights and how images were resized, in words.

    Raises:
        ValueError: for arrays of other shapes, values that are not finite, or less than two images.

    Example:

    ```python
    statistics = keras_ldm.metrics.FeatureStatistics.of(features, "EfficientNet-Lite0, bilinear to 224")
    statistics.save("reference.npz")
    ```
    """

    mean: Array
    covariance: Array
    count: int | None
    features: str

    def __post_init__(self) -> None:
        mean, covariance = self.mean, self.covariance
        if mean.ndim != 1 or covariance.shape != 2 * mean.shape or not mean.size:
            raise ValueError(
                "Expected a mean (dim,) and a covariance (dim, dim). "
                f"Received: shapes {mean.shape} and {covariance.shape}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("Expected finite statistics. Received: values that are not finite")
        if self.count is not None and self.count < 2:
            raise ValueError(f"Expected statistics of at least two images. Received: {self.count}")

    @classmethod
    def of(cls, values: Array, features: str) -> Self:
        """The statistics of features.

        Args:
            values: `(N, dim)`.
            features: what they are, in words.

        Raises:
            ValueError: for features that are not finite, of another shape, or of less than two images.
        """
        values = check_features(values, 2)
        mean = np.asarray(np.mean(values, axis=0, dtype=np.float64))
        scatter = np.zeros(2 * mean.shape)
        for start in range(0, len(values), _BLOCK):
            centred = values[start : start + _BLOCK] - mean
            scatter += centred.T @ centred
        return cls(mean, scatter / (len(values) - 1), len(values), features)

    def merged(self, other: "FeatureStatistics") -> Self:
        """The statistics of the images of both.

        Args:
            other: of other images, by the same features.

        Raises:
            ValueError: if the features differ, or the number of images is not known.
        """
        check_comparable(self, other)
        if self.count is None or other.count is None:
            raise ValueError(
                "Expected statistics that say of how many images they are. "
                f"Received: {self.count} and {other.count}"
            )
        count = self.count + other.count
        difference = other.mean - self.mean
        scatter = (self.count - 1) * self.covariance + (other.count - 1) * other.covariance
        scatter += np.outer(difference, difference) * (self.count * other.count / count)
        mean = self.mean + difference * (other.count / count)
        return type(self)(mean, scatter / (count - 1), count, self.features)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a `.npz` file, which the code of ADM and of clean-fid reads too: `mu` and `sigma`."""
        count = -1 if self.count is None else self.count
        with atomic_write(path) as file:
            np.savez(
                file, mu=self.mean, sigma=self.covariance, features=np.array(self.features), count=count
            )

    @classmethod
    def load(
        cls, path: str | PathLike[str], features: str | None = None, *, spatial: bool = False
    ) -> Self:
        """Reads a file of `save`, or one of those that others publish.

        Args:
            path: a `.npz` file with `mu` and `sigma`.
            features: what they are, where the file does not say.
            spatial: whether to take `mu_s` and `sigma_s`, which ADM's files have for sFID.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not such a file, or neither it nor `features` says what they are, or
                both do and differ.
        """
        names = ("mu_s", "sigma_s") if spatial else ("mu", "sigma")
        try:
            with np.load(path, allow_pickle=False) as file:
                mean, covariance = (np.asarray(file[name], np.float64) for name in names)
                said = str(file["features"]) if "features" in file else None
                count = int(file["count"]) if "count" in file else -1
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Expected a file of statistics. Received: {path}") from error
        except (KeyError, OSError, EOFError, ValueError, AttributeError, TypeError, BadZipFile) as error:
            raise ValueError(
                f"Expected an .npz file with {' and '.join(map(repr, names))}. Received: {path}: {error}"
            ) from error
        if features is not None and said is not None and features != said:
            raise ValueError(f"Expected statistics of {features!r}. Received: {path}, of {said!r}")
        name = features or said
        if name is None:
            raise ValueError(
                f"Expected to be told what the features in {path} are, since the file does not say. "
                "Received: features=None"
            )
        return cls(mean, covariance, None if count < 0 else count, name)


def check_features(values: Array, at_least: int) -> Array:
    """Features `(N, dim)` of so many images, or a ValueError that says what they are."""
    values = np.asarray(values)
    if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "fiu":
        raise ValueError(
            "Expected features (N, dim) as numbers. "
            f"Received: shape {values.shape}, dtype {values.dtype}"
        )
    if len(values) < at_least:
        raise ValueError(f"Expected features of at least {at_least} images. Received: {len(values)}")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(
            "Expected finite features. Received: values that are not, of "
            f"{len(values) - finite.sum()} of {len(values)} images, first number {finite.argmin()}"
        )
    return values


def check_pair(real: Array, generated: Array, at_least: int) -> tuple[Array, Array]:
    """Features of both kinds of images, of one width, or a ValueError that says what they are."""
    real, generated = check_features(real, at_least), check_features(generated, at_least)
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            "Expected features of one width. Received: "
            f"shapes {real.shape} (real) and {generated.shape} (generated)"
        )
    return real, generated


def check_comparable(a: FeatureStatistics, b: FeatureStatistics) -> None:
    """Raises a ValueError for statistics of different features."""
    if a.features != b.features or a.mean.shape != b.mean.shape:
        raise ValueError(
            "Expected statistics of the same features. Received: "
            f"{a.features!r} ({a.mean.size}) and {b.features!r} ({b.mean.size})"
        )
