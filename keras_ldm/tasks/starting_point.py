"""Where a sampler starts: from noise, given latents, or an image with as much noise as asked for."""

from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_ldm.images import check_images, to_uint8
from keras_ldm.models import Tiling
from keras_ldm.samplers import NamedSampler
from keras_ldm.tasks.arguments import check_latents
from keras_ldm.types import Array, NoiseFn, Tensor

if TYPE_CHECKING:
    from keras_ldm.tasks.generative_task import GenerativeTask

_DEFAULT_STRENGTH = 0.8


class StartingPoint:
    """The first latents of each image, what of an image is to stay, and the levels to go through.

    Args:
        task: whose latents.
        sampler: which will start there.
        sigmas: all noise levels.
        initial_latents: see `GenerativeTask.generate` for this and the following.
        image: to start from.
        strength: how far back to noise.
        mask: where to fill.
        tiling: how large images are cut for encoding.
    """

    def __init__(
        self,
        task: "GenerativeTask",
        sampler: NamedSampler,
        sigmas: Array,
        *,
        initial_latents: Array | None,
        image: Array | None,
        strength: float | None,
        mask: Array | None,
        tiling: Tiling | None,
    ) -> None:
        self.task = task
        self.tiling = tiling
        self.sampler = sampler
        channels = task.autoencoder.latent_channels
        self.initial_latents = None
        if initial_latents is not None:
            check_latents(initial_latents, channels, "`initial_latents`")
            self.initial_latents = np.asarray(initial_latents, dtype=np.float32)
            if not np.all(np.isfinite(self.initial_latents)):
                raise ValueError("Expected finite `initial_latents`. Received: NaN or infinity")
        self.image = None if image is None else self._check_image(image)
        self.mask = None if mask is None else self._check_mask(mask)
        self.sigmas = sigmas[self._first_step(strength, len(sigmas) - 1) :]
        self._encoded: Array | None = None

    # === Checks ===

    def _check_image(self, image: Any) -> Array:
        array = np.asarray(image)
        array = array[None] if array.ndim == 3 else array
        return check_images(array, self.task.autoencoder.image_channels, self.task.image_factor)

    def _check_mask(self, mask: Any) -> Array:
        if self.image is None:
            raise ValueError("Expected an `image` whose masked part to fill. Received: a mask alone")
        array = np.asarray(mask)
        array = array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array
        array = array[None] if array.ndim == 2 else array
        sides = self.image.shape[1:3]
        if array.dtype != bool or array.ndim != 3 or array.shape[1:] != sides:
            raise ValueError(
                f"Expected `mask` as booleans of shape (N, {sides[0]}, {sides[1]}) or "
                f"({sides[0]}, {sides[1]}), True where to fill. "
                f"Received: {array.dtype} of shape {np.shape(mask)}"
            )
        return array

    def _first_step(self, strength: float | None, num_steps: int) -> int:
        if self.image is None:
            if strength is not None:
                raise ValueError(f"Expected an `image` with `strength`. Received: strength={strength}")
            return 0
        if strength is None:
            strength = _DEFAULT_STRENGTH if self.mask is None else 1.0
        if not 0 <= strength <= 1:
            raise ValueError(f"Expected `strength` from 0 to 1. Received: {strength}")
        steps = int(num_steps * strength + 1e-9)
        return num_steps - (max(steps, 1) if strength > 0 else 0)

    def counts(self) -> dict[str, int]:
        """How many images each argument is for; those given once serve for all."""
        given = {"initial_latents": self.initial_latents, "image": self.image, "mask": self.mask}
        return {
            name: len(value)
            for name, value in given.items()
            if value is not None and (name == "initial_latents" or len(value) > 1)
        }

    def image_sides(self) -> dict[str, tuple[int, int]]:
        """Height and width of the images that each argument asks for."""
        factor, sides = self.task.autoencoder.downsampling_factor, {}
        if self.initial_latents is not None:
            height, width = self.initial_latents.shape[1:3]
            sides["initial_latents"] = (height * factor, width * factor)
        if self.image is not None:
            sides["image"] = self.image.shape[1:3]
        return sides

    # === Use ===

    @staticmethod
    def _take(values: Array, rows: slice) -> Array:
        count = rows.stop - rows.start
        return np.broadcast_to(values, (count, *values.shape[1:])) if len(values) == 1 else values[rows]

    def unit_noise(self, rows: slice, draw: NoiseFn, shape: tuple[int, ...]) -> Tensor:
        """Noise of unit variance for some of the images."""
        drawn = draw((rows.stop - rows.start, *shape))  # in any case: what follows must differ
        if self.initial_latents is not None:
            return ops.convert_to_tensor(self.initial_latents[rows])
        return drawn

    def clean_latents(self, rows: slice) -> Tensor:
        """The latents of some of the images to start from."""
        if self._encoded is None and self.image is not None:
            self._encoded = self.task.encode_images(self.image, self.tiling)
        if self._encoded is None:
            raise ValueError("Expected an `image` to start from. Received: None")
        return ops.convert_to_tensor(self._take(self._encoded, rows))

    def latents(self, rows: slice, noise: Tensor) -> Tensor:
        """X at the first level for some of the images.

        The network was trained on latents of unit variance. Some reference samplers start there from
        unit variance, others from the noise that is in it, without an image.
        """
        schedule, sigma = self.task.schedule, float(self.sigmas[0])
        if self.image is not None:
            if len(self.sigmas) == 1:
                return self.clean_latents(rows) * schedule.starting_scale(sigma)
            return schedule.add_noise(self.clean_latents(rows), noise, sigma)
        if self.sampler.starts_from_unit_variance:
            return noise * schedule.starting_scale(sigma)
        return noise * sigma

    def latent_mask(self, rows: slice) -> Array | None:
        """1 where any pixel of a latent is to be filled, for some of the images, `(n, h, w, 1)`."""
        if self.mask is None:
            return None
        mask, factor = self._take(self.mask, rows), self.task.autoencoder.downsampling_factor
        count, height, width = mask.shape
        blocks = mask.reshape(count, height // factor, factor, width // factor, factor)
        return np.asarray(blocks.any(axis=(2, 4)), dtype=np.float32)[..., None]

    def keep_pixels(self, images: Array, rows: slice) -> Array:
        """The drawn images, with the given one's own pixels where it was not to be filled."""
        if self.mask is None or self.image is None:
            return images
        original = self._take(self.image, rows)
        original = original if original.dtype == np.uint8 else to_uint8(original)
        return np.where(self._take(self.mask, rows)[..., None], images, original)
