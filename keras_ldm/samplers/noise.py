"""Noise that depends on the seed and the image, not on the batch or the backend."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_ldm.types import Array, NoiseFn, SamplerSeed, Tensor


def image_seeds(seed: int | Sequence[int] | None, num_images: int, offset: int = 0) -> list[Array]:
    """One seed for each image.

    Args:
        seed: an int (image i gets a stream of its own, drawn from it and `offset + i`), one int for
            each image, or None for fresh randomness.
        num_images: how many seeds to give.
        offset: number of the first image, for a batch that is part of a larger one.

    Raises:
        ValueError: if a sequence has not one seed for each image, or a seed is negative.
    """
    if seed is None:
        return [np.random.SeedSequence().generate_state(4) for _ in range(num_images)]
    if isinstance(seed, (int, np.integer)):
        seeds = [(int(seed), offset + i) for i in range(num_images)]
    else:
        if not isinstance(seed, (Sequence, np.ndarray)) or not all(
            isinstance(s, (int, np.integer)) for s in seed
        ):
            raise ValueError(f"Expected `seed` as an int, one int an image, or None. Received: {seed!r}")
        if len(seed) != num_images:
            raise ValueError(
                f"Expected one seed for each of the {num_images} images. Received: {len(seed)}"
            )
        seeds = [(int(s), 0) for s in seed]
    if min((s for s, _ in seeds), default=0) < 0:
        raise ValueError(f"Expected seeds >= 0. Received: {seed}")
    if max((s for s, _ in seeds), default=0) >= 2**64:
        raise ValueError(f"Expected seeds below 2**64. Received: {seed}")
    return [np.array(s, dtype=np.uint64) for s in seeds]


class ImageNoise:
    """Standard normal noise, each image from a generator of its own.

    The noise of an image is the same on every backend and however a batch is split.

    Args:
        seeds: one for each image, as `image_seeds` gives them.
    """

    def __init__(self, seeds: Sequence[Array]) -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """Returns the next noise, float32 of that shape, its first axis the images."""
        rows = [rng.standard_normal(tuple(shape[1:]), np.float32) for rng in self._generators]
        return ops.convert_to_tensor(np.stack(rows))


def noise_function(seed: SamplerSeed, num_images: int) -> NoiseFn:
    """What a sampler draws its noise from, whatever it was given.

    Args:
        seed: a function of the shape, which is returned, or a seed as `image_seeds` takes it.
        num_images: how many images there are.

    Returns:
        `(shape) -> noise`, another at each call.
    """
    if callable(seed):
        return seed
    return ImageNoise(image_seeds(seed, num_images))
