"""A task's denoise function: its compiled networks, guided as one call of `generate` asks."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import compile_function, in_batch_parts
from keras_ldm.diffusion import (
    Denoiser,
    classifier_free_guidance,
    classifier_guidance,
    mask_blending,
)
from keras_ldm.diffusion.denoiser import check_prediction
from keras_ldm.diffusion.schedules import Schedule
from keras_ldm.samplers.stages import Steps
from keras_ldm.tasks.inference import InferenceNetworks
from keras_ldm.types import DenoiseFn, NoiseFn, StepCallback, Tensor

if TYPE_CHECKING:
    from keras_ldm.tasks.noisy_latent_classifier import NoisyLatentClassifier

# What a denoise function is given besides x and sigma, all tensors, so that other values of them need
# no new trace: "conditions", what the U-Net takes; for guidance "scale", "rescale", "interval"; for that
# of a classifier "labels" and "classifier_scale"; for inpainting "known", "mask" and "noise".
Given = Mapping[str, Any]


class DenoisingPrograms:
    """The compiled programs that draw with a task's networks.

    Args:
        inference: the networks.
        schedule: noise schedule they were trained with.
        parameterization: what the U-Net predicts.
        classifier: guides them, or None.
    """

    def __init__(
        self,
        inference: InferenceNetworks,
        schedule: Schedule,
        parameterization: str,
        classifier: "NoisyLatentClassifier | None" = None,
    ) -> None:
        check_prediction(schedule, parameterization)
        self.inference = inference
        self.schedule = schedule
        self.parameterization = parameterization
        self.classifier = classifier
        self._guided: DenoisingPrograms | None = None

    def guided_by(self, classifier: "NoisyLatentClassifier | None") -> "DenoisingPrograms":
        """The same with a classifier; those of the last one are kept."""
        if classifier is None:
            return self
        if self._guided is None or self._guided.classifier is not classifier:
            self._guided = DenoisingPrograms(
                self.inference, self.schedule, self.parameterization, classifier
            )
        return self._guided

    def values(self) -> list[Tensor]:
        """What the networks compute with, for `denoise` and `loop`."""
        classifier = [] if self.classifier is None else self.classifier.network_values()
        return [*self.inference.values(), *classifier]

    def _variables(self) -> list[keras.Variable]:
        classifier = [] if self.classifier is None else self.classifier.network.variables
        return [*self.inference.variables(), *classifier]

    @cached_property
    def denoise(self) -> Any:
        """`(values, given, x, sigma) -> estimate`, compiled."""
        unet = in_batch_parts(self.inference.unet)

        def denoise(given: Given, x: Tensor, sigma: Tensor) -> Tensor:
            return self._denoise_function(unet, given)(x, sigma)

        return compile_function(denoise, self._variables())

    @cached_property
    def loop(self) -> Any:
        """`(values, given, x, table) -> x`: all stages of a sampler, as one XLA program."""

        def loop(given: Given, x: Tensor, table: Mapping[str, Tensor]) -> Tensor:
            denoise = self._denoise_function(self.inference.unet, given)
            num_stages, num_slots, _ = table["weights"].shape

            def stage(i: Tensor, slots: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                known = [*slots, denoise(slots[0], table["sigmas"][i])]
                weights = table["weights"][i]
                new = [sum(weights[j][k] * v for k, v in enumerate(known)) for j in range(num_slots)]
                if "draws" in table:
                    new[0] = new[0] + table["deviations"][i] * table["draws"][table["places"][i]]
                return tuple(new)

            return ops.fori_loop(0, num_stages, stage, (x,) * num_slots)[0]

        return compile_function(loop, self._variables(), jit_compile=True)

    def _denoise_function(self, unet: Any, given: Given) -> DenoiseFn:
        def network(latents: Tensor, timesteps: Tensor) -> Tensor:
            return unet({"latents": latents, "timesteps": timesteps, **given["conditions"]})

        denoiser = Denoiser(network, self.schedule, self.parameterization)
        denoise: DenoiseFn = denoiser
        if "scale" in given:
            denoise = classifier_free_guidance(
                denoise,
                given["scale"],
                rescale=given.get("rescale", 0.0),
                interval=given.get("interval"),
                origin=denoiser.origin,
            )
        classifier = self.classifier
        if classifier is not None:
            denoise = classifier_guidance(
                denoise,
                lambda x, sigma: classifier.log_probability(x, sigma, given["labels"]),
                given["classifier_scale"],
            )
        if "mask" in given:
            denoise = mask_blending(
                denoise,
                given["known"],
                given["mask"],
                given["noise"],
                add_noise=self.schedule.add_noise,
            )
        return denoise


class CompiledDenoiser:
    """A denoise function that is compiled once, whatever it is given.

    Args:
        programs: of the task.
        values: of the networks' variables.
        given: tensors by name.
    """

    def __init__(self, programs: DenoisingPrograms, values: list[Tensor], given: Given) -> None:
        self.programs = programs
        self.values = values
        self.given = given

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Estimates the clean latents."""
        sigma = ops.convert_to_tensor(sigma, "float32")
        return self.programs.denoise(self.values, self.given, x, sigma)


class CompiledLoop(CompiledDenoiser):
    """A denoise function that runs all steps of a sampler as one program."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Refuses a sampler with a loop of its own.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "Expected a sampler that is made of `keras_ldm.samplers.solve` for compile_loop=True. "
            "Received: one that calls the denoise function itself"
        )

    def solve_steps(
        self, x: Tensor, steps: Steps, draw: NoiseFn, callback: StepCallback | None
    ) -> Tensor:
        """See `samplers.solve`; there is no callback."""
        stages = [stage for step in steps for stage in step]
        if not stages:
            return x
        deviations = np.array([stage.noise for stage in stages])
        table = {
            "sigmas": np.array([stage.sigma for stage in stages]),
            "weights": np.array([np.stack(list(stage.slots)) for stage in stages]),
        }
        tensors = {name: ops.convert_to_tensor(v.astype("float32")) for name, v in table.items()}
        if deviations.any():
            noisy = deviations > 0
            tensors["draws"] = ops.stack([draw(x.shape) for _ in range(noisy.sum())])
            # Stages without noise take that of another one, times 0.
            tensors["places"] = ops.convert_to_tensor(np.maximum(np.cumsum(noisy) - 1, 0), "int32")
            tensors["deviations"] = ops.convert_to_tensor(deviations.astype("float32"))
        return self.programs.loop(self.values, self.given, x, tensors)


def require_compilable_loop() -> None:
    """Checks that the backend compiles loops.

    Raises:
        ValueError: on PyTorch, which has no XLA.
    """
    if keras.backend.backend() == "torch":
        raise ValueError(
            "Expected the TensorFlow or JAX backend for compile_loop=True, which needs XLA. "
            "Received: the PyTorch backend"
        )
