"""What diffusion asks of a first stage: images to latents and back.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.backend import compile_function, in_batch_parts, values_of
from keras_ldm.images import check_images, to_floats
from keras_ldm.layers import DiagonalGaussian, PointDistribution, SharedStatistics
from keras_ldm.models.fingerprint import fingerprint
from keras_ldm.models.tiling import TileFn, Tiling
from keras_ldm.types import Array, Tensor


class FirstStage(keras.Model):
    """Images to latents and back, in any way.

    Attributes:
        image_channels: channels of the images.
        latent_channels: channels of the latents.
        moments_per_latent: numbers that describe the distribution of one latent.
    """

    image_channels: int
    latent_channels: int
    moments_per_latent = 1

    @property
    def moment_channels(self) -> int:
        """Channels of what `moments` gives."""
        return self.moments_per_latent * self.latent_channels

    @property
    @abstractmethod
    def downsampling_factor(self) -> int:
        """How many pixels of the image's side one of the latents' side stands for."""

    @abstractmethod
    def moments(self, images: Tensor, training: bool = False) -> Tensor:
        """What describes the distribution of the latents, and is worth caching.

        Args:
            images: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
            training: whether dropout is active.

        Returns:
            float32 `(batch, height/f, width/f, moment_channels)`.
        """

    @abstractmethod
    def distribution(self, moments: Tensor) -> DiagonalGaussian | PointDistribution:
        """The distribution of the latents whose moments `moments()` gave."""

    @abstractmethod
    def decode(self, latents: Tensor, training: bool = False) -> Tensor:
        """Images from latents.

        Args:
            latents: `(batch, h, w, latent_channels)`, on the scale that `encode` gives.
            training: whether dropout is active.

        Returns:
            float32 `(batch, h·f, w·f, image_channels)`, about in [-1, 1].
        """

    # === Whole sets of images, compiled ===

    def moments_of(self, images: Array, batch_size: int = 32, tiling: Tiling | None = None) -> Array:
        """What `moments` says of any number of images.

        Args:
            images: uint8, or floats in [-1, 1], `(N, height, width, image_channels)`.
            batch_size: images encoded at a time; a progress bar shows if there are many.
            tiling: cuts large images; by default each is encoded whole.

        Returns:
            float32 `(N, h, w, moment_channels)`, a NumPy array.

        Raises:
            ValueError: if `images` is not a batch of images that the first stage takes.
        """
        images = check_images(images, self.image_channels, self.downsampling_factor)
        if not len(images):
            raise ValueError("Expected at least one image. Received: none")
        if tiling is not None:
            return self.moments_in_tiles(images, tiling)
        values = values_of(self.variables)
        starts = range(0, len(images), batch_size)
        encoded = [
            ops.convert_to_numpy(
                self._compiled_moments(values, ops.convert_to_tensor(images[start : start + batch_size]))
            )
            for start in tqdm(starts, "encoding", disable=len(starts) < 20, leave=False)
        ]
        return np.concatenate(encoded)

    @cached_property
    def _compiled_moments(self) -> Callable[..., Tensor]:
        moments = in_batch_parts(self.moments)
        return compile_function(lambda images: moments(to_floats(images)), self.variables)

    def fingerprint(self) -> str:
        """12 hexadecimal digits that say which first stage made some latents, on any backend."""
        return fingerprint(self)

    # === Large images ===

    def moments_in_tiles(self, images: Array, tiling: Tiling | None = None) -> Array:
        """What `moments` says of large images, in memory for a tile. Compiled.

        Args:
            images: `(batch, height, width, image_channels)`, uint8 or floats in [-1, 1].
            tiling: by default tiles of 512 pixels that share 128.

        Returns:
            float32 `(batch, height/f, width/f, moment_channels)`, a NumPy array.

        Raises:
            ValueError: for what is not such images, or tiles that are not a whole number of latents.
        """
        images = check_images(images, self.image_channels, self.downsampling_factor)
        return (tiling or Tiling()).encode(self._moments_of_tiles, images, self.downsampling_factor)

    def decode_in_tiles(self, latents: Tensor, tiling: Tiling | None = None) -> Array:
        """What `decode` makes of large latents, in memory for a tile. Compiled.

        Args:
            latents: `(batch, h, w, latent_channels)`, as `decode` takes them.
            tiling: by default tiles of 512 pixels that share 128.

        Returns:
            float32 `(batch, h·f, w·f, image_channels)`, a NumPy array.

        Raises:
            ValueError: for what is not such latents, or tiles that are not a whole number of latents.
        """
        array = ops.convert_to_numpy(latents).astype(np.float32)
        if array.ndim != 4 or array.shape[-1] != self.latent_channels or 0 in array.shape:
            raise ValueError(
                f"Expected latents of shape (batch, h, w, {self.latent_channels}). "
                f"Received: shape {array.shape}"
            )
        return (tiling or Tiling()).decode(self._decode_tiles, array, self.downsampling_factor)

    @cached_property
    def _moments_of_tiles(self) -> TileFn:
        return self._of_tiles(self.moments)

    @cached_property
    def _decode_tiles(self) -> TileFn:
        return self._of_tiles(self.decode)

    def _of_tiles(self, function: Callable[[Tensor], Tensor]) -> TileFn:
        """A function of tiles and of what their group normalizations share; compiled."""

        def apply(tiles: Tensor, weights: Tensor, *statistics: Tensor) -> tuple[Tensor, Tensor]:
            with SharedStatistics(weights, *statistics) as shared:
                outputs = function(tiles)
            return outputs, shared.seen()

        compiled = compile_function(apply, self.variables)

        def call(*tensors: Tensor) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = compiled(values_of(self.variables), *tensors)
            return found

        return call
