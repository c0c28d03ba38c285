"""From arguments of `generate` to latents: checks, noise, guidance and the sampler's run."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ldm.diffusion import FlowSchedule
from keras_ldm.models import Tiling
from keras_ldm.samplers import ImageNoise, NamedSampler, get_grid, get_sampler, image_seeds
from keras_ldm.tasks.arguments import preprocess_conditions
from keras_ldm.tasks.blending import BlendedConditions
from keras_ldm.tasks.classifier_arguments import ClassifierArguments
from keras_ldm.tasks.denoising import CompiledDenoiser, CompiledLoop, require_compilable_loop
from keras_ldm.tasks.guidance import GuidanceArguments
from keras_ldm.tasks.starting_point import StartingPoint
from keras_ldm.types import Array, Batch, SamplerFn, SamplerStep, StepCallback, Tensor

if TYPE_CHECKING:
    from keras_ldm.tasks.generative_task import GenerativeTask

_DEFAULT_NUM_STEPS = 50
Grid = str | Callable[..., Array] | Sequence[float] | Array


class Generation:
    """One call of `generate`, checked when it is made and run batch by batch.

    Args:
        task: whose networks to use.
        conditions: see `GenerativeTask.generate` for this and the following.
        guidance: the arguments of guidance.
        classifier: those of guidance by a classifier.
        num_images: how many to draw without conditions.
        num_steps: of the sampler.
        sampler: name or function.
        sigmas: noise levels to visit.
        seed: of the noise.
        initial_latents: noise to start from.
        image: to start from.
        strength: how far back to noise.
        mask: where to fill.
        image_size: height and width.
        compile_loop: whether to run all steps as one program.
        tiling: how large images are cut for the autoencoder.
        sampler_options: for the sampler.
    """

    def __init__(
        self,
        task: "GenerativeTask",
        conditions: Batch | BlendedConditions | None,
        guidance: GuidanceArguments,
        classifier: ClassifierArguments,
        *,
        num_images: int | None = None,
        num_steps: int | None = None,
        sampler: str | SamplerFn | None = None,
        sigmas: Grid | None = None,
        seed: int | Sequence[int] | None = None,
        initial_latents: Array | None = None,
        image: Array | None = None,
        strength: float | None = None,
        mask: Array | None = None,
        image_size: tuple[int, int] | None = None,
        compile_loop: bool = False,
        tiling: Tiling | None = None,
        sampler_options: Mapping[str, Any] | None = None,
    ) -> None:
        task.latent_space.require_measured()
        if compile_loop:
            require_compilable_loop()
        self.task = task
        self.compile_loop = compile_loop
        self.tiling = tiling
        self.sampler = get_sampler(default_sampler(task) if sampler is None else sampler)
        self.sampler_options = check_options(self.sampler, sampler_options or {})
        levels = choose_sigmas(task, self.sampler, sigmas, num_steps)
        self.start = StartingPoint(
            task,
            self.sampler,
            levels,
            initial_latents=initial_latents,
            image=image,
            strength=strength,
            mask=mask,
            tiling=tiling,
        )
        self.blend = conditions if isinstance(conditions, BlendedConditions) else None
        if isinstance(conditions, BlendedConditions):
            self.inputs, self.end_inputs = (
                conditions.repeated(preprocess_conditions(task.conditioner, end))
                for end in (conditions.start, conditions.end)
            )
        else:
            self.inputs = preprocess_conditions(task.conditioner, conditions)
        self.classifier = classifier.check(task)
        self.num_images = self._count(num_images)
        self.guidance = guidance.check(task, self.inputs)
        self.shape = self._latent_shape(image_size)
        if classifier.classifier is not None:
            classifier.classifier.check_latent_size(self.shape[:2])
        self.seeds = image_seeds(seed, self.num_images)
        self.programs = task.denoising.guided_by(classifier.classifier)
        self.values = task.inference.values()

    # === Checks ===

    def _count(self, num_images: int | None) -> int:
        counts = {name: len(value) for name, value in self.inputs.items()} | self.start.counts()
        if self.classifier is not None:
            counts |= self.classifier.counts()
        if num_images is not None:
            counts["num_images"] = num_images
        if len(set(counts.values())) > 1 or any(
            not isinstance(count, (int, np.integer)) or count < 1 for count in counts.values()
        ):
            raise ValueError(f"Expected one number of images, at least 1. Received: {counts}")
        return next(iter(counts.values()), 1)

    def _latent_shape(self, image_size: tuple[int, int] | None) -> tuple[int, int, int]:
        task, given = self.task, self.start.image_sides()
        factor, channels = task.autoencoder.downsampling_factor, task.autoencoder.latent_channels
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

    def _embed(self, rows: slice) -> dict[str, Tensor]:
        """What the U-Net takes of the conditions of some of the images."""
        start = embed(self.task, self.values, self.inputs, rows)
        if self.blend is None:
            return start
        return self.blend.blend(start, embed(self.task, self.values, self.end_inputs, rows), rows)

    def given(self, rows: slice, noise: Tensor | None) -> dict[str, Any]:
        """The arguments of the task's denoise function."""
        conditions = self._embed(rows)
        given: dict[str, Any] = {"conditions": conditions, **self.guidance.tensors}
        if self.guidance.negatives is not None:
            embedded = embed(self.task, self.values, self.guidance.negatives, rows)
            given["conditions"] = {
                name: ops.concatenate([embedded[name], value]) for name, value in conditions.items()
            }
        if self.classifier is not None:
            given |= self.classifier.tensors(rows)
        mask = self.start.latent_mask(rows)
        if mask is not None:
            known = self.start.clean_latents(rows)
            given |= {"mask": ops.convert_to_tensor(mask), "known": known, "noise": noise}
        return given

    def run(
        self, batch_size: int, callback: StepCallback | None, progress: bool
    ) -> Iterator[tuple[slice, Array]]:
        """Yields which images each batch is of, and their normalized latents.

        Args:
            batch_size: images at a time.
            callback: called after each step.
            progress: whether to show a progress bar.
        """
        check_batch_size(batch_size)
        if callback is not None and self.compile_loop:
            raise ValueError(
                "Expected no `callback` with compile_loop=True, where all steps are one program. "
                "Received: a callback"
            )
        starts = range(0, self.num_images, batch_size)
        num_steps = len(self.start.sigmas) - 1
        with tqdm(total=len(starts) * num_steps, desc="generating", disable=not progress) as bar:

            def report(step: SamplerStep) -> None:
                bar.update()
                if callback is not None:
                    callback(step)

            for start in starts:
                rows = slice(start, min(start + batch_size, self.num_images))
                yield rows, self._run_batch(rows, report)
                if self.compile_loop:
                    bar.update(num_steps)

    def _run_batch(self, rows: slice, report: StepCallback) -> Array:
        schedule, sigmas = self.task.schedule, self.start.sigmas
        draw = ImageNoise(self.seeds[rows])
        noise = self.start.unit_noise(rows, draw, self.shape)
        given = self.given(rows, noise)
        denoiser = CompiledLoop if self.compile_loop else CompiledDenoiser
        x = self.sampler.function(
            denoiser(self.programs, self.programs.values(), given),
            self.start.latents(rows, noise),
            sigmas,
            seed=_refuse_noise if isinstance(schedule, FlowSchedule) else draw,
            callback=None if self.compile_loop else report,
            **self.sampler_options,
        )
        # A grid that ends above 0, as the original's, ends with latents as the network sees them.
        latents = ops.convert_to_numpy(x) / np.float32(schedule.starting_scale(float(sigmas[-1])))
        if "mask" in given:
            mask, known = (ops.convert_to_numpy(given[name]) for name in ("mask", "known"))
            latents = mask * latents + (1 - mask) * known
        return np.asarray(latents)


def embed(
    task: "GenerativeTask", values: list[Tensor], inputs: Mapping[str, Array], rows: slice
) -> dict[str, Tensor]:
    """What the U-Net takes of some preprocessed conditions; nothing for an unconditional model."""
    if task.conditioner is None:
        return {}
    tensors = {name: ops.convert_to_tensor(value[rows]) for name, value in inputs.items()}
    embedded: dict[str, Tensor] = task.inference.embed(values, tensors)
    return embedded


def check_batch_size(batch_size: Any) -> None:
    """Refuses what is not a number of images.

    Raises:
        ValueError: if it is not an integer >= 1.
    """
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"Expected `batch_size` >= 1. Received: {batch_size}")


def default_sampler(task: "GenerativeTask") -> str:
    """The original's, or for flow matching its own."""
    return "euler" if isinstance(task.schedule, FlowSchedule) else "ddim"


def check_options(sampler: NamedSampler, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuses options that the sampler does not have.

    Raises:
        ValueError: for such an option; the message lists those there are.
    """
    parameters = inspect.signature(sampler.function).parameters.values()
    named = list(parameters)[3:]  # behind denoise, x and sigmas
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = {p.name for p in named if p.kind in kinds} - {"seed", "callback"}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = sorted(set(options) - known)
    if unknown and not takes_any:
        raise ValueError(
            f"Expected arguments of `generate`, or options of the sampler: {sorted(known) or 'none'}. "
            f"Received: {unknown}"
        )
    return options


def choose_sigmas(
    task: "GenerativeTask", sampler: NamedSampler, sigmas: Grid | None, num_steps: int | None
) -> Array:
    """The noise levels to visit.

    Raises:
        ValueError: for levels that do not fall, or given together with a number of steps.
    """
    given: Any = sigmas
    if sigmas is None or isinstance(sigmas, str) or callable(sigmas):
        grid = sampler.grid if sigmas is None else get_grid(sigmas)
        given = grid(task.schedule, _DEFAULT_NUM_STEPS if num_steps is None else num_steps)
    elif num_steps is not None:
        raise ValueError(
            "Expected either `num_steps` or a list of `sigmas`, which has as many steps as it has. "
            f"Received: num_steps={num_steps} and {np.size(given)} sigmas"
        )
    try:
        levels = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        levels = np.zeros(0)
    falls = levels.ndim == 1 and len(levels) >= 2 and np.all(np.diff(levels) < 0)
    if not falls or levels[-1] < 0 or not np.isfinite(levels[0]):
        raise ValueError(
            "Expected `sigmas` as at least two finite, falling noise levels, to 0 or above. "
            f"Received: {given}"
        )
    if isinstance(task.schedule, FlowSchedule) and levels[0] > 1:
        raise ValueError(
            f"Expected `sigmas` as times from 1 to 0 for flow matching. Received: {levels[0]:g}"
        )
    return levels


def _refuse_noise(shape: Sequence[int]) -> Tensor:
    raise ValueError(
        "Expected a sampler without noise, such as 'euler', 'heun' or 'dpmpp_2m', for flow matching. "
        "Received: one that adds noise"
    )
