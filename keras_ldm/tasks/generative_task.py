"""What a task can do with a trained network: draw, interpolate, invert."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from keras import ops

from keras_ldm.conditioning import Conditioner
from keras_ldm.diffusion import Schedule
from keras_ldm.images import image_sides, to_uint8
from keras_ldm.models import FirstStage, Tiling, UNet
from keras_ldm.samplers import ImageNoise, image_seeds, slerp
from keras_ldm.tasks.blending import BlendedConditions
from keras_ldm.tasks.classifier_arguments import ClassifierArguments
from keras_ldm.tasks.denoising import DenoisingPrograms
from keras_ldm.tasks.generation import Generation, Grid
from keras_ldm.tasks.guidance import GuidanceArguments
from keras_ldm.tasks.inference import InferenceNetworks
from keras_ldm.tasks.inversion import invert
from keras_ldm.tasks.latent_space import LatentSpace
from keras_ldm.tasks.noisy_latent_classifier import NoisyLatentClassifier
from keras_ldm.tasks.prediction import predict_epsilon
from keras_ldm.tasks.rate_distortion import RateDistortion, rate_distortion
from keras_ldm.tasks.task import Task
from keras_ldm.types import Array, Batch, SamplerFn, StepCallback, Tensor


class GenerativeTask(Task):
    """A task with a first stage and a network that denoises its latents.

    A subclass makes the attributes, and trains.

    Attributes:
        autoencoder: the first stage.
        unet: the denoising network.
        conditioner: makes its conditions, or None.
        schedule: noise schedule.
        parameterization: what the network predicts.
        latent_space: the scale of the latents.
        inference: the networks with the averaged weights.
        denoising: the compiled programs made of them.
        image_size: height and width of images to draw, or None.
    """

    autoencoder: FirstStage
    unet: UNet
    conditioner: Conditioner | None
    schedule: Schedule
    parameterization: str
    latent_space: LatentSpace
    inference: InferenceNetworks
    denoising: DenoisingPrograms
    image_size: tuple[int, int] | None

    @property
    def image_factor(self) -> int:
        """What the sides of images must divide by."""
        return self.autoencoder.downsampling_factor * int(2 ** (len(self.unet.channels) - 1))

    # === Latents ===

    def measure_latents(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        progress: bool = True,
    ) -> None:
        """Sets the scale of the latents by a pass over data.

        The first `fit` does so with 16 batches, unless a scale is known. Measure before training: the
        network knows its latents by their scale. It is saved with the model.

        Args:
            x: images or moments, in any form that `fit` takes; conditions are not looked at.
            batch_size: for arrays only; 32 by default.
            steps: batches to look at, all by default.
            progress: whether to show a progress bar.

        Raises:
            ValueError: for other data, none, latents that do not vary, or a trained model.
        """
        if int(ops.convert_to_numpy(self.batches)):
            raise ValueError(
                "Expected a model that has not been trained, since it knows its latents by their scale. "
                "Received: a trained one"
            )
        self.latent_space.measure_data(x, batch_size, steps, progress)

    def encode_moments(self, images: Array, tiling: Tiling | None = None) -> Array:
        """Encodes images once and for all, for the key "moments" in training.

        Args:
            images: uint8, or floats in [-1, 1], `(N, height, width, channels)`.
            tiling: cuts large images, for less memory; by default each is encoded whole.

        Returns:
            Mean and log-variance of their latents, float32 `(N, h, w, 2 * latent_channels)`.
        """
        return self.autoencoder.moments_of(images, tiling=tiling)

    def encode_images(self, images: Array, tiling: Tiling | None = None) -> Array:
        """Latents of images at unit scale (the mode): what the U-Net sees without noise."""
        return self.latent_space.encode(images, tiling)

    def decode_latents(self, latents: Tensor, tiling: Tiling | None = None) -> Array:
        """Images from latents at unit scale, as floats about in [-1, 1]."""
        return self.latent_space.decode(latents, tiling=tiling)

    # === Drawing ===

    def predict_epsilon(
        self, latents: Array, timesteps: Array, conditions: Batch | None = None
    ) -> Array:
        """Predicts the noise in latents, with the averaged weights.

        Args:
            latents: `√ᾱ_t·z + √(1-ᾱ_t)·noise` of normalized latents z, `(N, h, w, c)`.
            timesteps: integers, `(N,)`.
            conditions: raw conditions by name, as `generate` takes them.

        Returns:
            float32, shaped like the latents.

        Raises:
            ValueError: for arguments of other shapes, kinds or ranges.
        """
        self.finish_average()
        return predict_epsilon(self, latents, timesteps, conditions)

    def generate(
        self,
        conditions: Batch | BlendedConditions | None = None,
        *,
        negative_conditions: Batch | None = None,
        num_images: int | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] | None = None,
        classifier: NoisyLatentClassifier | None = None,
        classifier_labels: int | Sequence[int] | Array | None = None,
        classifier_scale: float = 1.0,
        sampler: str | SamplerFn | None = None,
        sigmas: Grid | None = None,
        seed: int | Sequence[int] | None = None,
        initial_latents: Array | None = None,
        image: Array | None = None,
        strength: float | None = None,
        mask: Array | None = None,
        image_size: int | Sequence[int] | None = None,
        output: Literal["images", "latents"] = "images",
        callback: StepCallback | None = None,
        batch_size: int = 16,
        progress: bool = True,
        compile_loop: bool = False,
        tiling: Tiling | None = None,
        **sampler_options: Any,
    ) -> Array:
        """Draws images.

        The network is compiled at the first call. Other samplers, numbers of steps, noise levels and
        guidance scales than 1 need no new compilation; another batch or image size does, and so does
        each kind of guidance or start that is used for the first time.

        Args:
            conditions: raw conditions by name, one entry for each image, or `BlendedConditions`.
            negative_conditions: what guidance leads away from, for all or each; by default nothing.
            num_images: how many to draw, for an unconditional model.
            num_steps: steps of the sampler, by default 50. The original's uniform grid takes a few more
                where it does not divide the schedule's timesteps.
            guidance_scale: 1 follows the conditions as trained, more exaggerates them; by default 5
                where the model can be guided.
            guidance_rescale: from 0 to 1, how far guided outputs are brought back to the deviation of
                those without guidance.
            guidance_interval: noise levels (low, high] at which to guide, times for flow matching; by
                default all.
            classifier: leads to `classifier_labels` by its gradient; also an unconditional model.
            classifier_labels: the class of each image, or one for all.
            classifier_scale: of the gradient: 0 leaves the images, more than 1 exaggerates the class.
            sampler: a name that `samplers.get_sampler` knows, or a function of the sampler protocol; by
                default "ddim", and "euler" for flow matching.
            sigmas: noise levels to visit: a grid by name ("karras", "trailing", ...), a function
                `(schedule, num_steps) -> sigmas`, or falling numbers; by default the sampler's own.
            seed: of the noise: an int, one int for each image, or None. An image depends on its
                seed and its place alone, not on the batch or the backend.
            initial_latents: noise to start from, of unit variance, `(N, h, w, c)`.
            image: to start from, one for all or each: uint8, or floats in [-1, 1].
            strength: how far back towards noise `image` is taken: 0 leaves it, 1 all the way; by default
                0.8, and 1 with a mask.
            mask: where to fill `image`, True, and where its pixels stay: booleans, `(N, height, width)`.
            image_size: height and width, or one side; by default that of the image, of maps among the
                conditions, or of training.
            output: "images", or "latents" (normalized).
            callback: called with a `SamplerStep` after each step of each batch.
            batch_size: images drawn at a time.
            progress: whether to show a progress bar.
            compile_loop: run all steps as one XLA program, on TensorFlow and JAX; another number of
                steps compiles anew, and levels may where noise is added.
            tiling: how large images are cut for encoding and decoding; by default each is whole. The
                U-Net sees all of the latents.
            **sampler_options: for the sampler, such as `eta` for DDIM.

        Returns:
            uint8 images `(N, height, width, channels)`, or float32 latents.

        Raises:
            ValueError: for an argument that makes no sense; the message says what was expected.
        """
        self.finish_average()
        generation = Generation(
            self,
            conditions,
            GuidanceArguments(guidance_scale, guidance_rescale, guidance_interval, negative_conditions),
            ClassifierArguments(classifier, classifier_labels, classifier_scale),
            num_images=num_images,
            num_steps=num_steps,
            sampler=sampler,
            sigmas=sigmas,
            seed=seed,
            initial_latents=initial_latents,
            image=image,
            strength=strength,
            mask=mask,
            image_size=image_sides(image_size),
            compile_loop=compile_loop,
            tiling=tiling,
            sampler_options=sampler_options,
        )
        return self._draw(generation, output, callback, batch_size, progress)

    def interpolate(
        self,
        conditions: Batch | None = None,
        end_conditions: Batch | None = None,
        *,
        num_images: int = 8,
        seeds: tuple[int, int] = (0, 1),
        **kwargs: Any,
    ) -> Array:
        """Draws images on the way from one seed to another, from conditions to others, or both.

        Noise is interpolated along an arc, and so are the vectors that the conditions are embedded as.

        Args:
            conditions: raw conditions by name, of the first image, one entry each.
            end_conditions: those of the last image; by default the same.
            num_images: how many, with both ends.
            seeds: of the first and the last image; the same one twice keeps the noise.
            **kwargs: see `generate`: num_steps, guidance_scale, sampler, image_size, output, ...

        Returns:
            As `generate`. With a sampler that adds no noise, the first image is that of
            `seed=[seeds[0]]` and the last that of `seed=[seeds[1]]`.

        Raises:
            ValueError: for fewer than two images, seeds that are not two, or more than one entry.
        """
        if not isinstance(num_images, int) or num_images < 2 or np.shape(seeds) != (2,):
            raise ValueError(
                "Expected `num_images` >= 2 and two `seeds`. "
                f"Received: num_images={num_images}, seeds={seeds}"
            )
        if conditions is None and end_conditions is not None:
            raise ValueError("Expected `conditions` with `end_conditions`. Received: the latter alone")
        weights = np.linspace(0, 1, num_images, dtype=np.float32)
        sides = image_sides(kwargs.get("image_size")) or self.image_size
        if sides is None:
            raise ValueError("Expected `image_size`, since the model names none. Received: None")
        factor = self.autoencoder.downsampling_factor
        shape = (1, sides[0] // factor, sides[1] // factor, self.autoencoder.latent_channels)
        ends = [ImageNoise(image_seeds([seed], 1))(shape) for seed in seeds]
        start, end = (ops.repeat(noise, num_images, axis=0) for noise in ends)
        noise = ops.convert_to_numpy(slerp(start, end, weights, num_axes=3))
        blend = None
        if conditions is not None:
            last = conditions if end_conditions is None else end_conditions
            blend = BlendedConditions(conditions, last, weights)
        return GenerativeTask.generate(self, blend, initial_latents=noise, **kwargs)

    def invert(
        self,
        images: Array,
        conditions: Batch | None = None,
        *,
        num_steps: int | None = None,
        sigmas: Grid | None = None,
        guidance_scale: float = 1.0,
        negative_conditions: Batch | None = None,
        batch_size: int = 16,
        progress: bool = True,
    ) -> Array:
        """The noise that DDIM draws given images of, approximately.

        With the same steps, `generate(conditions, initial_latents=noise, sampler="ddim",
        guidance_scale=1)` gives the images back, the closer the more steps; other conditions edit them.

        Args:
            images: uint8, or floats in [-1, 1], `(N, height, width, channels)`.
            conditions: what the images show, as `generate` takes them.
            num_steps: steps of DDIM, by default 50.
            sigmas: noise levels to visit; see `generate`.
            guidance_scale: on the way back; guidance makes it less exact.
            negative_conditions: what guidance leads away from.
            batch_size: images at a time.
            progress: whether to show a progress bar.

        Returns:
            float32 noise of about unit variance, `(N, h, w, c)`, for `initial_latents`.

        Raises:
            ValueError: for images or conditions that the model does not take.
        """
        guidance = GuidanceArguments(guidance_scale, 0.0, None, negative_conditions)
        generation = self._generation_of(images, conditions, guidance, num_steps, sigmas)
        return invert(self, images, generation, batch_size, progress)

    def rate_distortion(
        self,
        images: Array,
        conditions: Batch | None = None,
        *,
        num_steps: int | None = None,
        sigmas: Grid = "exponential",
        seed: int = 0,
        batch_size: int = 16,
        progress: bool = True,
    ) -> RateDistortion:
        """How well images are known after how many bits, along the reverse process.

        The bits are those of the variational bound of a chain with these levels. The smaller the steps
        between their logarithms, the tighter the bound: most samplers' grids have a last step that takes
        most of the bits. A grid's level 0 is left out, where bits have no end.

        Args:
            images: uint8, or floats in [-1, 1], `(N, height, width, channels)`.
            conditions: what the images show, as `generate` takes them; the receiver knows them.
            num_steps: steps of the chain, by default 50.
            sigmas: noise levels to visit, by default even in their logarithms; see `generate`.
            seed: of the noise.
            batch_size: images at a time.
            progress: whether to show a progress bar.

        Raises:
            ValueError: for images or conditions that the model does not take.
        """
        guidance = GuidanceArguments(1.0, 0.0, None, None)
        generation = self._generation_of(images, conditions, guidance, num_steps, sigmas, seed)
        return rate_distortion(self, generation, batch_size, progress)

    def _generation_of(
        self,
        images: Array,
        conditions: Batch | None,
        guidance: GuidanceArguments,
        num_steps: int | None,
        sigmas: Grid | None,
        seed: int = 0,
    ) -> Generation:
        """That of given images, by default with the levels of DDIM."""
        self.finish_average()
        shape = np.shape(images)
        if len(shape) != 4:
            received = "None" if images is None else f"shape {shape}"
            raise ValueError(
                f"Expected `images` of shape (N, height, width, channels). Received: {received}"
            )
        return Generation(
            self,
            conditions,
            guidance,
            ClassifierArguments(None, None, 1.0),
            num_images=shape[0],
            num_steps=num_steps,
            sampler="ddim",
            sigmas=sigmas,
            seed=seed,
            image=images,
            strength=1.0,
        )

    @staticmethod
    def _draw(
        generation: Generation,
        output: str,
        callback: StepCallback | None,
        batch_size: int,
        progress: bool,
    ) -> Array:
        if output not in ("images", "latents"):
            raise ValueError(f"Expected `output` to be 'images' or 'latents'. Received: {output!r}")
        results = []
        for rows, latents in generation.run(batch_size, callback, progress):
            if output == "images":
                images = to_uint8(generation.task.decode_latents(latents, generation.tiling))
                latents = generation.start.keep_pixels(images, rows)
            results.append(latents)
        return np.concatenate(results)
