"""What the measures of features share: network, images, merging, and when a result is computed."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import has_float64, is_inside_step, without_gradient
from keras_ldm.images import to_floats
from keras_ldm.metrics.feature_description import check_network, describe_features
from keras_ldm.types import Config, Tensor

_MOST = 1.0 + 1e-3
_SIDE = 64  # of the image that shows the width of features, where a network does not say what it takes


class FeatureMetric(keras.metrics.Metric):
    """Compares features of real and of generated images, batch by batch.

    `result` takes seconds or more, so a compiled step (TensorFlow, JAX) or one of this package's tasks
    gets NaN; Keras asks again when the epoch or evaluation is over, and the logs and the history then
    have the true value. In other models on PyTorch, or with `run_eagerly`, it is computed at each step.
    A result is NaN too before there are enough images, and where features are not finite.

    The configuration has the network without its weights. A metric that was made from it refuses images
    until its network has the same weights: `metric.network.set_weights(...)`. A task saves them, and
    needs nothing.

    Args:
        network: from images in [-1, 1], `(batch, height, width, 3)`, to features `(batch, dim)`, or to
            a dictionary of them, such as `keras_ldm.models.InceptionV3`. It is not trained here, and its
            weights are not among the metric's variables.
        features: which of them; for a network with one output, what to call it.
        description: which features they must be, as `describe_features` says it; None for those that the
            network makes now. A configuration has it.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.

    Raises:
        ValueError: for a network that is not built, does not take images, or has no such features.
    """

    result_names: ClassVar[tuple[str, ...]] = ()
    """Keys of the result, where it is a dictionary."""

    def __init__(
        self,
        network: keras.Model,
        features: str = "pooled",
        *,
        description: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        check_network(network)
        self.network = network
        self.features = features
        self.dim = _width(network, features)
        self._awaited = description

    # === Images ===

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: None = None) -> None:
        """Takes in a batch of both kinds.

        Args:
            y_true: real images, `(batch, height, width, 3)`, uint8 or floats in [-1, 1].
            y_pred: generated ones, or reconstructions; of any number and size.
            sample_weight: None: each image counts once.

        Raises:
            ValueError: for weights, or what are no images.
        """
        self._check_unweighted(sample_weight)
        self.update_real(y_true)
        self.update_generated(y_pred)

    def update_real(self, images: Tensor) -> None:
        """Takes in real images, `(batch, height, width, 3)`, uint8 or floats in [-1, 1]."""
        check_range(images)
        with without_gradient():
            self._add_real(self.features_of(images))

    def update_generated(self, images: Tensor) -> None:
        """Takes in generated images, `(batch, height, width, 3)`, uint8 or floats in [-1, 1]."""
        with without_gradient():
            self._add_generated(self.features_of(images))

    def _check_unweighted(self, sample_weight: Tensor | None) -> None:
        if sample_weight is not None:
            raise ValueError(
                "Expected `sample_weight` as None: each image counts once. "
                f"Received: {type(sample_weight).__name__}"
            )

    def features_of(self, images: Tensor) -> Tensor:
        """The features that are compared.

        Args:
            images: `(batch, height, width, 3)`, uint8 or floats in [-1, 1].

        Returns:
            `(batch, dim)`.

        Raises:
            ValueError: for what are no images, those of a size that gives features of another width,
                or where the network still lacks its weights.
        """
        self.check_weights()
        images = ops.convert_to_tensor(images)
        if len(images.shape) != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"Expected images (batch, height, width, 3). Received: shape {tuple(images.shape)}"
            )
        values = _chosen(self.network(to_floats(images), training=False), self.features)
        if values.shape[-1] != self.dim:
            raise ValueError(
                f"Expected images of a size that gives {self.dim} features. Received: images of shape "
                f"{tuple(images.shape)}, which give {values.shape[-1]}"
            )
        return values

    @abstractmethod
    def _add_real(self, features: Tensor) -> None:
        """Takes in features of real images, `(batch, dim)`."""

    @abstractmethod
    def _add_generated(self, features: Tensor) -> None:
        """Takes in features of generated images, `(batch, dim)`."""

    # === Results ===

    def result(self) -> Any:
        """The measure of all images so far, a scalar or scalars by name; see the class for when."""
        if is_inside_step(self.variables[0].value):
            found: float | dict[str, float] = float("nan")
            if self.result_names:
                found = dict.fromkeys(self.result_names, float("nan"))
        else:
            found = self._measure()
        dtype = "float64" if has_float64() else "float32"
        return keras.tree.map_structure(lambda x: ops.convert_to_tensor(x, dtype=dtype), found)

    @abstractmethod
    def _measure(self) -> float | dict[str, float]:
        """The result, in eager code."""

    def merge_state(self, metrics: Iterable[Self]) -> None:
        """Takes in what others have seen, such as each a part of the images.

        Args:
            metrics: of the same class, by the same features; they stay as they are.

        Raises:
            ValueError: for others.
        """
        own = self.description
        others = list(metrics)
        for other in others:
            if type(other) is not type(self) or other is self or other.description != own:
                theirs = getattr(other, "description", "")
                raise ValueError(
                    f"Expected other metrics {type(self).__name__} of {own!r}. "
                    f"Received: {'itself' if other is self else type(other).__name__} of {theirs!r}"
                )
            self._check_mergeable(other)
        for other in others:
            self._merge(other)

    def _check_mergeable(self, other: Self) -> None:
        """Raises a ValueError for a metric of the same features that does not fit all the same."""

    @abstractmethod
    def _merge(self, other: Self) -> None:
        """Takes in what another one has seen; in eager code."""

    # === Configuration ===

    @property
    def description(self) -> str:
        """Which features they are: see `describe_features`."""
        return describe_features(self.network, self.features)

    @property
    def awaited_description(self) -> str | None:
        """Which features a configuration says they are, until the network has those weights."""
        return self._awaited

    def check_weights(self) -> None:
        """Takes the network's weights for those that a configuration awaits.

        Raises:
            ValueError: if they are others.
        """
        if self._awaited is None:
            return
        found = self.description
        if found != self._awaited:
            raise ValueError(
                f"Expected the network of {self._awaited!r}, as {self.name!r} was saved with: give its "
                f"weights to `metric.network.set_weights`, or compile anew. Received: {found!r}"
            )
        self._awaited = None

    def get_config(self) -> Config:
        """The constructor's arguments, and which weights the network has."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "features": self.features,
            "description": self._awaited or self.description,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """A metric from `get_config()`'s value; see the class for its network's weights."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def check_range(images: Tensor) -> None:
    """Raises a ValueError for real images as floats of another range than [-1, 1], in eager code.

    Those that a model makes may lie beyond, and are clipped.
    """
    images = ops.convert_to_tensor(images)
    if is_inside_step(images):
        return
    values = ops.convert_to_numpy(images)
    if values.dtype.kind == "f" and values.size and np.nanmax(np.abs(values)) > _MOST:
        raise ValueError(
            "Expected images as uint8, or as floats in [-1, 1]. "
            f"Received: floats from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}"
        )


def _width(network: keras.Model, features: str) -> int:
    """How many features an image has."""
    side = getattr(network, "side", 0) or _SIDE
    shape = getattr(network, "input_shape", None) or (None, None, None, 3)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"Expected a network of images (batch, height, width, 3). Received: {shape}")
    example = keras.KerasTensor((2, shape[1] or side, shape[2] or side, 3), "float32")
    return int(_chosen(network.compute_output_spec(example), features).shape[-1])


def _chosen(outputs: Any, features: str) -> Tensor:
    """The features of that name, or a ValueError."""
    if isinstance(outputs, dict):
        if features not in outputs:
            raise ValueError(f"Expected features among {sorted(outputs)}. Received: {features!r}")
        outputs = outputs[features]
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2:
        raise ValueError(
            "Expected a network that gives features (batch, dim), or a dictionary of them. "
            f"Received: {type(outputs).__name__}, shape {shape}"
        )
    return outputs
