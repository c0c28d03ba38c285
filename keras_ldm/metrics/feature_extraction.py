"""From images, of any number and any sizes, to their features."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.backend import compile_function, in_batch_parts, values_of
from keras_ldm.images import check_images
from keras_ldm.metrics.feature_description import describe_features
from keras_ldm.metrics.image_features import ImageFeatures
from keras_ldm.models.feature_network import FeatureNetwork
from keras_ldm.types import Array, Tensor


def extract_features(
    network: FeatureNetwork,
    images: Array | Iterable[Array],
    *,
    features: Sequence[str] = ("pooled",),
    batch_size: int = 32,
    progress: bool = True,
) -> ImageFeatures:
    """Features of a set of images.

    Args:
        network: such as `keras_ldm.models.pretrained_efficientnet()`.
        images: uint8 or floats in [-1, 1], `(N, height, width, channels)` with three channels or one,
            which is repeated; or an iterable of such batches, each of any number and size, which is
            read once.
        features: names of the network's outputs: "pooled", "logits", "spatial".
        batch_size: images that the network sees at a time.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for images that are none of these, no image, a feature that the network does not
            have, or features that are not finite.

    Example:

    ```python
    network = keras_ldm.models.pretrained_efficientnet()
    real = keras_ldm.metrics.extract_features(network, images)
    real.values["pooled"]    # float32 (N, 1280)
    ```
    """
    return FeatureExtractor(network, features, batch_size)(images, progress=progress)


class FeatureExtractor:
    """A network compiled once for several sets of images: see `extract_features`.

    Images are first brought to the network's size, so that however many sizes there are, it is compiled
    for one.

    Args:
        network: the network.
        features: names of its outputs.
        batch_size: images that it sees at a time.

    Attributes:
        widths: how many features an image has, by name.

    Raises:
        ValueError: for another kind of network, features that it does not have, or a batch of none.
    """

    def __init__(
        self, network: FeatureNetwork, features: Sequence[str] = ("pooled",), batch_size: int = 32
    ) -> None:
        if not isinstance(network, FeatureNetwork):
            raise ValueError(
                "Expected a network of features, such as keras_ldm.models.pretrained_efficientnet(). "
                f"Received: {network!r}"
            )
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"Expected `batch_size` >= 1. Received: {batch_size!r}")
        self.network = network
        self.features = tuple(dict.fromkeys(features))
        self.batch_size = batch_size
        self.widths = self._check_features()
        self._run = compile_function(in_batch_parts(self._outputs), network.variables)
        self._has_run_full = False

    @property
    def descriptions(self) -> dict[str, str]:
        """What the features are, in words, by name; of the weights that the network has now."""
        return {name: describe_features(self.network, name) for name in self.features}

    def _check_features(self) -> dict[str, int]:
        side = self.network.side
        images = keras.KerasTensor((1, side, side, 3), "float32")
        known = self.network.compute_output_spec(images)
        if not self.features or not set(self.features) <= set(known):
            raise ValueError(
                f"Expected features of {type(self.network).__name__} among {sorted(known)}; 'spatial' "
                f"are InceptionV3's. Received: {list(self.features)}"
            )
        return {name: int(known[name].shape[-1]) for name in self.features}

    def _outputs(self, images: Tensor) -> dict[str, Tensor]:
        outputs = self.network(images)
        return {name: outputs[name] for name in self.features}

    def __call__(self, images: Array | Iterable[Array], *, progress: bool = True) -> ImageFeatures:
        """The features of a set of images."""
        batches: Iterable[Any] = [images] if hasattr(images, "shape") else images
        total = len(images) if isinstance(images, np.ndarray) and images.ndim else None
        values = values_of(self.network.variables)
        rows: list[dict[str, Array]] = []
        with tqdm(total=total, desc="features", unit="image", disable=not progress) as bar:
            for batch in self._full_batches(batches):
                rows.append(self._features_of(values, batch))
                bar.update(len(batch))
        if not rows:
            raise ValueError("Expected at least one image. Received: none")
        joined = {name: np.concatenate([row[name] for row in rows]) for name in self.features}
        return ImageFeatures(joined, self.descriptions, self.network.resize_mode)

    def _features_of(self, values: list[Tensor], batch: Array) -> dict[str, Array]:
        """Of at most `batch_size` images; once there was a full batch, it is compiled for no other."""
        count = len(batch)
        if count == self.batch_size:
            self._has_run_full = True
        elif self._has_run_full:
            batch = np.pad(batch, ((0, self.batch_size - count), (0, 0), (0, 0), (0, 0)))
        outputs = self._run(values, ops.convert_to_tensor(batch))
        return {name: ops.convert_to_numpy(value)[:count] for name, value in outputs.items()}

    def _full_batches(self, batches: Iterable[Any]) -> Iterator[Array]:
        """Images in the network's size, `batch_size` at a time, but for the last."""
        waiting: list[Array] = []
        count = 0
        for images in batches:
            for resized in self._resized(images):
                waiting.append(resized)
                count += len(resized)
                if count >= self.batch_size:
                    joined = np.concatenate(waiting)
                    yield joined[: self.batch_size]
                    waiting, count = [joined[self.batch_size :]], count - self.batch_size
        if count:
            yield np.concatenate(waiting)

    def _resized(self, images: Any) -> Iterator[Array]:
        """Some at a time, float32 in [-1, 1], `(n, side, side, 3)`."""
        values = np.asarray(images)
        channels = 1 if values.ndim == 4 and values.shape[-1] == 1 else 3
        values = check_images(values, channels, 1, "images")
        for start in range(0, len(values), self.batch_size):
            part = np.repeat(values[start : start + self.batch_size], 3 // channels, axis=-1)
            pixels = self.network.pixels(ops.convert_to_tensor(part))
            yield ops.convert_to_numpy(pixels) / np.float32(127.5) - np.float32(1.0)
