"""From arguments of `generate` to latents: checks, noise, guidance and the sampler's loop."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.diffusion import Denoiser, classifier_free_guidance
from keras_ldm.samplers import ImageNoise, get_sampler, image_seeds
from keras_ldm.tasks.arguments import check_latents, preprocess_conditions
from keras_ldm.types import (
    Array,
    Batch,
    DenoiseFn,
    SamplerFn,
    SamplerStep,
    StepCallback,
    Tensor,
)

if TYPE_CHECKING:
    from keras_ldm.tasks.latent_diffusion import LatentDiffusion

_DEFAULT_GUIDANCE_SCALE = 5.0


class Generation:
    """One call of `generate`, checked when it is made and run batch by batch.

    Args:
        task: whose networks to use.
        conditions: see `LatentDiffusion.generate` for this and the following.
        negative_conditions: what guidance leads away from.
        num_images: how many to draw without conditions.
        num_steps: of the sampler.
        guidance_scale: of classifier-free guidance.
        sampler: name or function.
        seed: of the noise.
        initial_latents: noise to start from.
        image_size: height and width.
        sampler_options: for the sampler.
    """

    def __init__(
        self,
        task: "LatentDiffusion",
        conditions: Batch | None,
        *,
        negative_conditions: Batch | None,
        num_images: int | None,
        num_steps: int,
        guidance_scale: float | None,
        sampler: str | SamplerFn,
        seed: int | Sequence[int] | None,
        initial_latents: Array | None,
        image_size: tuple[int, int] | None,
        sampler_options: Mapping[str, Any],
    ) -> None:
        task.latent_space.require_measured()
        self.task = task
        self.sampler = get_sampler(sampler)
        self.sampler_options = sampler_options
        self.sigmas = self.sampler.grid(task.schedule, num_steps)
        self.scale = self._check_guidance(guidance_scale, negative_conditions)
        self.inputs = preprocess_conditions(task.conditioner, conditions)
        self.num_images = self._count(num_images, initial_latents)
        if task.conditioner is not None and self.scale != 1.0:
            self.negatives = self._shape_negatives(
                task.conditioner.null(1)
                if negative_conditions is None
                else preprocess_conditions(task.conditioner, negative_conditions, "negative_conditions")
            )
        self.shape = self._latent_shape(image_size, initial_latents)
        self.seeds = image_seeds(seed, self.num_images)
        self.initial_latents = initial_latents
        self.values = task.inference.values()

    # === Checks ===

    def _check_guidance(self, scale: float | None, negatives: Batch | None) -> float:
        conditioner = self.task.conditioner
        if scale is None:
            scale = _DEFAULT_GUIDANCE_SCALE if conditioner is not None and conditioner.drops else 1.0
        if not np.isfinite(scale):
            raise ValueError(f"Expected a finite guidance scale. Received: {scale}")
        can_guide = conditioner is not None and (conditioner.null_known or negatives is not None)
        if scale != 1.0 and not can_guide:
            reason = (
                "an unconditional model"
                if conditioner is None
                else "a model trained without dropping its conditions (dropout=0)"
            )
            raise ValueError(
                "Expected guidance_scale=1: guidance needs a model that was trained with conditions "
                "dropped now and then, or negative conditions. "
                f"Received: guidance_scale={scale} for {reason}"
            )
        if negatives is not None and scale == 1.0:
            raise ValueError(
                "Expected a guidance scale other than 1 with negative conditions, which have no "
                "effect without guidance. Received: guidance_scale=1"
            )
        return float(scale)

    def _count(self, num_images: int | None, initial_latents: Array | None) -> int:
        counts = {name: len(value) for name, value in self.inputs.items()}
        if num_images is not None:
            counts["num_images"] = num_images
        if initial_latents is not None:
            counts["initial_latents"] = len(np.atleast_1d(initial_latents))
        if len(set(counts.values())) > 1 or any(
            not isinstance(count, (int, np.integer)) or count < 1 for count in counts.values()
        ):
            raise ValueError(f"Expected one number of images, at least 1. Received: {counts}")
        return next(iter(counts.values()), 1)

    def _shape_negatives(self, negatives: dict[str, Array]) -> dict[str, Array]:
        """One for each image, where there is one for all; nothing alike for each of many tokens."""
        shaped = {}
        for name, value in self.inputs.items():
            try:
                shaped[name] = np.broadcast_to(negatives[name], value.shape)
            except ValueError:
                raise ValueError(
                    f"Expected `negative_conditions` shaped like the conditions, {value.shape} for "
                    f"{name!r}, or one for all images. Received: {negatives[name].shape}"
                ) from None
        return shaped

    def _latent_shape(
        self, image_size: tuple[int, int] | None, initial_latents: Array | None
    ) -> tuple[int, int, int]:
        task, given = self.task, {}
        factor, channels = task.autoencoder.downsampling_factor, task.autoencoder.latent_channels
        if initial_latents is not None:
            shape = check_latents(initial_latents, channels, "`initial_latents`")
            given["initial_latents"] = (shape[1] * factor, shape[2] * factor)
        if image_size is not None:
            given["image_size"] = image_size
        maps = None if task.conditioner is None else task.conditioner.latent_sides(self.inputs)
        if maps is not None:
            given["conditions"] = (maps[0] * factor, maps[1] * factor)
        if len(set(given.values())) > 1:
            raise ValueError(f"Expected one size of images. Received: {given}")
        sides = next(iter(given.values()), task.image_size)
        if sides is None:
            raise ValueError(
                "Expected `image_size`, since the model has not been trained and names none. "
                "Received: None"
            )
        if any(side % task.image_factor for side in sides):
            raise ValueError(
                f"Expected an image size that divides by {task.image_factor}. "
                f"Received: {sides[0]}x{sides[1]}"
            )
        return sides[0] // factor, sides[1] // factor, channels

    # === Running ===

    def _denoise_function(self, rows: slice) -> DenoiseFn:
        task, guided = self.task, self.scale != 1.0
        embedded: dict[str, Tensor] = {}
        if task.conditioner is not None:
            arrays = {
                name: np.concatenate([self.negatives[name][rows], value[rows]])
                if guided
                else value[rows]
                for name, value in self.inputs.items()
            }
            tensors = {name: ops.convert_to_tensor(value) for name, value in arrays.items()}
            embedded = task.inference.embed(self.values, tensors)

        def network(latents: Tensor, timesteps: Tensor) -> Tensor:
            return task.inference.predict(
                self.values, {"latents": latents, "timesteps": timesteps, **embedded}
            )

        denoise = Denoiser(network, task.schedule, task.parameterization)
        return classifier_free_guidance(denoise, self.scale) if guided else denoise

    def run(self, batch_size: int, callback: StepCallback | None, progress: bool) -> Iterator[Array]:
        """Yields the normalized latents of each batch.

        Args:
            batch_size: images at a time.
            callback: called after each step.
            progress: whether to show a progress bar.
        """
        if batch_size < 1:
            raise ValueError(f"Expected `batch_size` >= 1. Received: {batch_size}")
        starts = range(0, self.num_images, batch_size)
        with tqdm(
            total=len(starts) * (len(self.sigmas) - 1), desc="generating", disable=not progress
        ) as bar:

            def report(step: SamplerStep) -> None:
                bar.update()
                if callback is not None:
                    callback(step)

            for start in starts:
                rows = slice(start, min(start + batch_size, self.num_images))
                noise = ImageNoise(self.seeds[rows])
                if self.initial_latents is None:
                    unit = noise((rows.stop - rows.start, *self.shape))
                else:
                    unit = ops.convert_to_tensor(
                        np.asarray(self.initial_latents[rows], dtype=np.float32)
                    )
                # The network was trained on variance-preserving latents, so the reference samplers
                # start there from unit variance, and end there.
                x = self.sampler.function(
                    self._denoise_function(rows),
                    unit * float(np.sqrt(1.0 + self.sigmas[0] ** 2)),
                    self.sigmas,
                    seed=noise,
                    callback=report,
                    **self.sampler_options,
                )
                yield ops.convert_to_numpy(x) / np.float32(np.sqrt(1.0 + self.sigmas[-1] ** 2))
