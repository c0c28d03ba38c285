"""How much of an image is known after how many bits, along the reverse process.

Latents at noise level σ take all bits from the prior down to there (`diffusion.step_bits`), and whoever
knows them can decode the estimate of the clean ones: the first bits buy what the image shows, the last
ones detail that hardly shows.

Reference: Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4.3 and figure 5; Rombach et al.
2022, https://arxiv.org/abs/2112.10752, figure 2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.diffusion import prior_bits, step_bits
from keras_ldm.images import to_floats
from keras_ldm.samplers import ImageNoise
from keras_ldm.tasks.denoising import CompiledDenoiser
from keras_ldm.tasks.generation import Generation, check_batch_size
from keras_ldm.types import Array

if TYPE_CHECKING:
    from keras_ldm.tasks.generative_task import GenerativeTask


@dataclass(frozen=True, eq=False)
class RateDistortion:
    """The rate-distortion curve of some images, a point for each noise level.

    Attributes:
        sigmas: the noise levels, falling.
        rates: bits for each value of the images (of height, width and channels) down to there, rising;
            means over the images.
        distortions: root mean squared error of the decoded estimate, of values from 0 to 255.
        floor: the same of images that were encoded and decoded without noise.
    """

    sigmas: Array
    rates: Array
    distortions: Array
    floor: float


def rate_distortion(
    task: "GenerativeTask", generation: Generation, batch_size: int, progress: bool
) -> RateDistortion:
    """The curve of the images of a generation: see `GenerativeTask.rate_distortion`.

    Args:
        task: whose networks to use.
        generation: of those images, with the levels to go through and the seeds of the noise.
        batch_size: images at a time.
        progress: whether to show a progress bar.
    """
    check_batch_size(batch_size)
    images, sigmas = generation.start.image, generation.start.sigmas
    sigmas = sigmas[sigmas > 0]
    originals = ops.convert_to_numpy(to_floats(ops.convert_to_tensor(images)))
    bits, errors = np.zeros(len(sigmas)), np.zeros(len(sigmas) + 1)
    starts = range(0, len(originals), batch_size)

    def error(latents: Array, rows: slice) -> float:
        decoded = task.decode_latents(latents).clip(-1.0, 1.0)
        return float(np.sum(np.square(127.5 * (decoded - originals[rows]), dtype=np.float64)))

    with tqdm(total=len(starts) * len(sigmas), desc="measuring", disable=not progress) as bar:
        for start in starts:
            rows = slice(start, min(start + batch_size, len(originals)))
            latents = generation.start.clean_latents(rows)
            denoise = CompiledDenoiser(
                task.denoising, generation.values, generation.given(rows, noise=None)
            )
            draw = ImageNoise(generation.seeds[rows])
            bits[0] += _total(prior_bits(task.schedule, latents, sigmas[0]))
            for i, sigma in enumerate(sigmas):
                x = task.schedule.add_noise(latents, draw(latents.shape), float(sigma))
                estimate = denoise(x, sigma)
                errors[i] += error(estimate, rows)
                if i + 1 < len(sigmas):
                    step = step_bits(task.schedule, latents, estimate, sigma, sigmas[i + 1])
                    bits[i + 1] += _total(step)
                bar.update()
            errors[-1] += error(latents, rows)
    errors = np.sqrt(errors / originals.size)
    return RateDistortion(sigmas, np.cumsum(bits) / originals.size, errors[:-1], float(errors[-1]))


def _total(values: Array) -> float:
    return float(np.sum(ops.convert_to_numpy(values), dtype=np.float64))
