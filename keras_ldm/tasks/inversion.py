"""From images to the noise that a task draws them of."""

from typing import TYPE_CHECKING

import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.samplers import ddim_inversion
from keras_ldm.tasks.denoising import CompiledDenoiser
from keras_ldm.tasks.generation import Generation, check_batch_size
from keras_ldm.types import Array, SamplerStep

if TYPE_CHECKING:
    from keras_ldm.tasks.generative_task import GenerativeTask


def invert(
    task: "GenerativeTask", images: Array, generation: Generation, batch_size: int, progress: bool
) -> Array:
    """The initial latents of images: see `GenerativeTask.invert`.

    Args:
        task: whose networks to use.
        images: to invert.
        generation: of those images, with the levels and the guidance to go back with.
        batch_size: images at a time.
        progress: whether to show a progress bar.
    """
    check_batch_size(batch_size)
    sigmas, schedule = generation.start.sigmas, task.schedule
    clean = task.encode_images(images)
    starts = range(0, len(clean), batch_size)
    results = []
    with tqdm(total=len(starts) * (len(sigmas) - 1), desc="inverting", disable=not progress) as bar:

        def report(step: SamplerStep) -> None:
            bar.update()

        for start in starts:
            rows = slice(start, min(start + batch_size, len(clean)))
            given = generation.given(rows, noise=None)
            x = ddim_inversion(
                CompiledDenoiser(task.denoising, generation.values, given),
                ops.convert_to_tensor(clean[rows] * schedule.starting_scale(float(sigmas[-1]))),
                sigmas,
                callback=report,
            )
            results.append(ops.convert_to_numpy(x) / schedule.starting_scale(float(sigmas[0])))
    return np.concatenate(results).astype(np.float32)
