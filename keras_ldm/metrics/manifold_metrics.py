"""Precision and recall, density and coverage as metrics, which keep the features of some images."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import keras
import numpy as np

from keras_ldm.backend import is_replicated
from keras_ldm.metrics.feature_buffer import FeatureBuffer
from keras_ldm.metrics.feature_metric import FeatureMetric
from keras_ldm.metrics.manifolds import density_coverage, precision_recall
from keras_ldm.types import Array, Config, Tensor


class ManifoldMetric(FeatureMetric):
    """What compares the neighbourhoods of features.

    Args:
        network: see `FeatureMetric`.
        features: which of its features.
        capacity: images of each kind.
        k: which neighbour gives an image's reach.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: for numbers out of range; under `tf.distribute`, where each replica would keep its
            own; see `FeatureMetric` too.
    """

    def __init__(
        self,
        network: keras.Model,
        features: str = "pooled",
        *,
        capacity: int = 10_000,
        k: int,
        name: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, features, name=name, **kwargs)
        if k < 1 or capacity <= k:
            raise ValueError(f"Expected capacity > k >= 1. Received: capacity={capacity}, k={k}")
        if is_replicated():
            raise ValueError(
                "Expected no `tf.distribute` strategy, of which each replica would keep other images. "
                f"Received: {name!r} within one"
            )
        self.capacity = capacity
        self.k = k
        self._real = FeatureBuffer(self, capacity, self.dim, "real")
        self._generated = FeatureBuffer(self, capacity, self.dim, "generated")

    def _add_real(self, features: Tensor) -> None:
        self._real.add(features)

    def _add_generated(self, features: Tensor) -> None:
        self._generated.add(features)

    def _measure(self) -> dict[str, float]:
        sets = self._real.value(), self._generated.value()
        if any(len(values) <= self.k or not np.isfinite(values).all() for values in sets):
            return dict.fromkeys(self.result_names, float("nan"))
        return dict(zip(self.result_names, self._compare(*sets), strict=True))

    @abstractmethod
    def _compare(self, real: Array, generated: Array) -> tuple[float, float]:
        """The results, by the names of `result_names`."""

    def _merge(self, other: Self) -> None:
        self._real.add_array(other._real.value())
        self._generated.add_array(other._generated.value())

    def get_config(self) -> Config:
        """The constructor's arguments, and which weights the network has."""
        return {**super().get_config(), "capacity": self.capacity, "k": self.k}


@keras.saving.register_keras_serializable("keras_ldm")
class PrecisionRecall(ManifoldMetric):
    """Improved precision and recall of generated images: `{"precision": ..., "recall": ...}`.

    Both depend on the number of images: compare results for equal numbers only. Up to `capacity` of
    each kind are kept, 80 MB for 10,000 of 2,048 features; those that come later are not taken in.
    Results of not more than k images of a kind are NaN.

    Args:
        network: see `FeatureMetric`.
        features: which of its features.
        capacity: images of each kind that are compared.
        k: which neighbour gives an image's reach.
        name: of the metric; the logs have "precision" and "recall".
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: for numbers out of range; under `tf.distribute`; see `FeatureMetric` too.

    Reference: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991.

    Example:

    ```python
    metric = keras_ldm.metrics.PrecisionRecall(network)
    metric.update_state(real, generated)    # (batch, height, width, 3)
    metric.result()["recall"]
    ```
    """

    result_names: ClassVar[tuple[str, ...]] = ("precision", "recall")

    def __init__(
        self,
        network: keras.Model,
        features: str = "pooled",
        *,
        capacity: int = 10_000,
        k: int = 3,
        name: str = "precision_recall",
        **kwargs: Any,
    ) -> None:
        super().__init__(network, features, capacity=capacity, k=k, name=name, **kwargs)

    def _compare(self, real: Array, generated: Array) -> tuple[float, float]:
        return precision_recall(real, generated, self.k)


@keras.saving.register_keras_serializable("keras_ldm")
class DensityCoverage(ManifoldMetric):
    """Density and coverage of generated images: `{"density": ..., "coverage": ...}`.

    Coverage rises with the number of generated images: compare results for equal numbers only. Up to
    `capacity` of each kind are kept, 80 MB for 10,000 of 2,048 features; those that come later are not
    taken in. Results of not more than k images of a kind are NaN.

    Args:
        network: see `FeatureMetric`.
        features: which of its features.
        capacity: images of each kind that are compared.
        k: which neighbour gives an image's reach.
        name: of the metric; the logs have "density" and "coverage".
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: for numbers out of range; under `tf.distribute`; see `FeatureMetric` too.

    Reference: Naeem et al. 2020, https://arxiv.org/abs/2002.09797.

    Example:

    ```python
    metric = keras_ldm.metrics.DensityCoverage(network)
    metric.update_state(real, generated)    # (batch, height, width, 3)
    metric.result()["coverage"]
    ```
    """

    result_names: ClassVar[tuple[str, ...]] = ("density", "coverage")

    def __init__(
        self,
        network: keras.Model,
        features: str = "pooled",
        *,
        capacity: int = 10_000,
        k: int = 5,
        name: str = "density_coverage",
        **kwargs: Any,
    ) -> None:
        super().__init__(network, features, capacity=capacity, k=k, name=name, **kwargs)

    def _compare(self, real: Array, generated: Array) -> tuple[float, float]:
        return density_coverage(real, generated, self.k)
