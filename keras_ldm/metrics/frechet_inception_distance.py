"""The Fréchet distance of features as a metric."""

import base64
from collections.abc import Mapping
from typing import Any, Literal, Self

import keras
import numpy as np

from keras_ldm.metrics.feature_metric import FeatureMetric
from keras_ldm.metrics.feature_statistics import FeatureStatistics
from keras_ldm.metrics.frechet_distance import frechet_distance
from keras_ldm.metrics.running_moments import RunningMoments
from keras_ldm.types import Array, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class FrechetInceptionDistance(FeatureMetric):
    """The Fréchet distance of features of real and generated images; of reconstructions, rFID.

    It is the published FID with the `InceptionV3` of `keras_ldm.models.pretrained_inception`, whose
    weights are of 2015, and sFID with its features "spatial". With any other network it is a Fréchet
    distance, which compares with no published FID. It falls as the number of images grows: compare
    results for equal numbers only.

    Its state is the number, sum and products of features in float64; on JAX in pairs of float32, which
    gives about the digits of single precision.

    Args:
        network: see `FeatureMetric`.
        features: which of its features.
        reference: statistics of the real images. Those that are given are then passed over, and the
            configuration holds the statistics: 45 MB for 2,048 features.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: if `reference` is of other features; see `FeatureMetric` too.

    Reference: Heusel et al. 2017, https://arxiv.org/abs/1706.08500.

    Example:

    ```python
    network = keras_ldm.models.pretrained_inception("weights-inception-2015-12-05-6726825d.pth")
    first_stage.compile(metrics=[keras_ldm.metrics.FrechetInceptionDistance(network)])
    first_stage.evaluate(images, return_dict=True)["fid"]     # rFID
    ```
    """

    def __init__(
        self,
        network: keras.Model,
        features: str = "pooled",
        *,
        reference: FeatureStatistics | None = None,
        name: str = "fid",
        **kwargs: Any,
    ) -> None:
        super().__init__(network, features, name=name, **kwargs)
        if reference is not None:
            wanted = self.awaited_description or self.description
            if reference.features != wanted:
                raise ValueError(f"Expected `reference` of {wanted!r}. Received: {reference.features!r}")
        self.reference = reference
        self._real = RunningMoments(self, self.dim, "real") if reference is None else None
        self._generated = RunningMoments(self, self.dim, "generated")

    def update_real(self, images: Tensor) -> None:
        """Takes in real images, unless there is a `reference`: see `FeatureMetric`."""
        if self._real is not None:
            super().update_real(images)

    def _add_real(self, features: Tensor) -> None:
        if self._real is not None:
            self._real.add(features)

    def _add_generated(self, features: Tensor) -> None:
        self._generated.add(features)

    def statistics(self, which: Literal["real", "generated"] = "generated") -> FeatureStatistics:
        """Mean and covariance of the images so far, to be kept as a reference for instance.

        Args:
            which: of which images; with a `reference`, it is that of the real ones.

        Raises:
            ValueError: for another word, or less than two images.
        """
        if which not in ("real", "generated"):
            raise ValueError(f"Expected 'real' or 'generated'. Received: {which!r}")
        if which == "real" and self.reference is not None:
            return self.reference
        side = self._generated if self._real is None or which == "generated" else self._real
        return side.statistics(self.description)

    def _measure(self) -> float:
        sides = [self._generated] if self._real is None else [self._real, self._generated]
        if any(side.count < 2 or not side.is_finite() for side in sides):
            return float("nan")
        return frechet_distance(self.statistics("real"), self.statistics("generated"))

    def _check_mergeable(self, other: Self) -> None:
        if (self._real is None) != (other._real is None):
            raise ValueError(
                "Expected metrics that all have a `reference`, or none. Received: one with, one without"
            )

    def _merge(self, other: Self) -> None:
        self._generated.merge(other._generated)
        if self._real is not None and other._real is not None:
            self._real.merge(other._real)

    def get_config(self) -> Config:
        """The constructor's arguments, and which weights the network has."""
        reference = None if self.reference is None else _encoded(self.reference)
        return {**super().get_config(), "reference": reference}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """A metric from `get_config()`'s value; see `FeatureMetric`."""
        reference = config["reference"]
        return super().from_config(
            {**config, "reference": None if reference is None else _decoded(reference)}
        )


def _encoded(statistics: FeatureStatistics) -> Config:
    """Statistics as JSON can hold them, with all digits."""
    mean, covariance = (
        base64.b64encode(np.asarray(x, "<f8").tobytes()).decode()
        for x in (statistics.mean, statistics.covariance)
    )
    return {
        "mean": mean,
        "covariance": covariance,
        "count": statistics.count,
        "features": statistics.features,
    }


def _decoded(config: Mapping[str, Any]) -> FeatureStatistics:
    def array(name: str) -> Array:
        return np.frombuffer(base64.b64decode(config[name]), "<f8").astype(np.float64)

    mean = array("mean")
    covariance = array("covariance").reshape(2 * mean.shape)
    return FeatureStatistics(mean, covariance, config["count"], config["features"])
