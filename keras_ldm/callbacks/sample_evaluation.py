"""What a model draws from the same noise, epoch by epoch, and how close it comes to real images."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_ldm.callbacks.metrics_file import MetricsFile
from keras_ldm.callbacks.picture import PictureCallback
from keras_ldm.data.batch_sources import to_numpy
from keras_ldm.metrics.evaluation import evaluate_images
from keras_ldm.metrics.evaluation_report import Evaluation
from keras_ldm.metrics.feature_extraction import FeatureExtractor
from keras_ldm.metrics.image_features import ImageFeatures
from keras_ldm.metrics.measures import (
    Reference,
    check_measurable,
    check_metrics,
    needed_features,
    value_names,
)
from keras_ldm.models.feature_network import FeatureNetwork
from keras_ldm.tasks import GenerativeTask, TextToImage
from keras_ldm.types import Array, Batch, SamplerStep

_RESERVED = ("output", "num_images", "callback")


class SampleEvaluation(PictureCallback):
    """Draws images as `generate` does, always from the same noise, and measures them.

    The numbers go into `logs`, so that `History` and the callbacks behind this one see them, into
    TensorBoard beside the pictures, and into `metrics.csv` in the folder, which a training that is
    continued continues, with the network and the numbers of images beside them. In epochs that are not
    measured, or whose model gives NaN, the logs have NaN: so the lists of `History` keep one length, and
    `CSVLogger` its columns. A callback that watches one of the numbers takes NaN for no improvement:
    give it a `patience` of several times `every`.

    Training goes on as it would without: nothing draws from its random state.

    Args:
        conditions: what to draw: prompts for `TextToImage`, raw conditions by name for other models,
            None for an unconditional one. Where there are fewer than images, they come round again.
        folder: where `samples_0001.png`, ... and `metrics.csv` go; None for no files.
        num_images: how many to draw; by default one for each condition, 16 without any. On measures of
            few images see `keras_ldm.metrics.evaluate_images`.
        reference: of real images: their features, or their statistics, for "fid" and "sfid" alone. None
            draws only.
        network: the network that the reference is of.
        metrics: see `keras_ldm.metrics.evaluate_images`; by default "fid" and "kid", or what the
            reference allows of them.
        log_dir: of TensorBoard; None for none.
        every: epochs between two pictures. The last epoch of a training always has one; its numbers are
            in the logs unless a callback behind this one ends the training.
        seed: of the noise.
        columns: images in a row.
        shown: images on the picture, the first ones.
        feature_batch_size: images that the network sees at a time.
        progress: whether to show progress bars.
        **options: for the task's `generate`: num_steps, guidance_scale, sampler, batch_size, ...

    Attributes:
        evaluation: the last `keras_ldm.metrics.Evaluation`, or None.

    Raises:
        ValueError: for arguments out of range, or a reference that the measures cannot do with; when
            training begins, for conditions or options that the task refuses, or a `metrics.csv` with
            other columns, or rows that were measured with something else.
        ImportError: if TensorBoard is needed and not installed.

    Example:

    ```python
    network = keras_ldm.models.pretrained_efficientnet()
    real = keras_ldm.metrics.extract_features(network, images)
    task.fit(data, epochs=100, callbacks=[
        keras_ldm.callbacks.SampleEvaluation(
            captions[:500], "runs/mine", reference=real, network=network, every=10, num_steps=20
        ),
        keras.callbacks.ModelCheckpoint("best.keras", monitor="kid", mode="min", save_best_only=True),
    ])
    ```
    """

    def __init__(
        self,
        conditions: Batch | Sequence[str] | Array | None = None,
        folder: str | Path | None = None,
        *,
        num_images: int | None = None,
        reference: Reference | None = None,
        network: FeatureNetwork | None = None,
        metrics: Sequence[str] | None = None,
        log_dir: str | Path | None = None,
        every: int = 1,
        seed: int = 0,
        columns: int = 8,
        shown: int = 64,
        feature_batch_size: int = 32,
        progress: bool = False,
        **options: Any,
    ) -> None:
        super().__init__("samples", folder, log_dir, every)
        self.conditions = _by_name(conditions)
        counts = {name: len(value) for name, value in self.conditions.items()}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ValueError(f"Expected one number of conditions, at least 1. Received: {counts}")
        if num_images is None:
            num_images = next(iter(counts.values()), 16)
        sizes = {"num_images": num_images, "columns": columns, "shown": shown}
        for name, size in sizes.items():
            if not isinstance(size, (int, np.integer)) or size < 1:
                raise ValueError(f"Expected `{name}` >= 1. Received: {size!r}")
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"Expected `seed` as an int >= 0. Received: {seed!r}")
        if reserved := sorted(set(options) & set(_RESERVED)):
            raise ValueError(f"Expected options that say how to draw. Received: {reserved}")
        self.takes_prompts = conditions is not None and not isinstance(conditions, Mapping)
        self.num_images, self.columns, self.shown = num_images, columns, shown
        self.seed, self.progress, self.options = seed, progress, options
        self.reference = reference
        metrics = _default_metrics(reference) if metrics is None else metrics
        self.metrics = check_metrics(metrics) if metrics else ()
        self.names = value_names(self.metrics) if self.metrics else ()
        self.extractor: FeatureExtractor | None = None
        if self.metrics:
            if network is None:
                raise ValueError(f"Expected a `network` to measure {self.metrics}. Received: None")
            features = needed_features(self.metrics)
            self.extractor = FeatureExtractor(network, features, feature_batch_size)
            extractor = self.extractor
            check_measurable(
                self.metrics, extractor.descriptions, num_images, reference, extractor.widths
            )
        self.evaluation: Evaluation | None = None
        self._file: MetricsFile | None = None
        if self.extractor is not None and self.folder is not None:
            measured_with = self._measured_with(self.extractor.descriptions)
            self._file = MetricsFile(self.folder / "metrics.csv", self.names, measured_with)

    def _measured_with(self, descriptions: Mapping[str, str]) -> dict[str, str]:
        """What the numbers depend on besides the model."""
        references = self.reference if isinstance(self.reference, Sequence) else [self.reference]
        counts = {str(reference.count) for reference in references if reference is not None}
        return {
            "features": "; ".join(descriptions.values()),
            "images": str(self.num_images),
            "reference_images": ", ".join(sorted(counts)),
        }

    # === When ===

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the model, and everything that `generate` is given, by a first step."""
        task = self.model
        if not isinstance(task, GenerativeTask) or task.autoencoder.image_channels not in (1, 3):
            raise ValueError(
                "Expected a task that draws images of 1 or 3 channels, such as LatentDiffusion. "
                f"Received: {task!r}"
            )
        if self.takes_prompts and not isinstance(task, TextToImage):
            raise ValueError(
                "Expected `conditions` by name, such as {'class_label': labels}, or None. "
                f"Received: prompts for a {type(task).__name__}"
            )
        if self._file is not None:
            self._file.rows()
        super().on_train_begin(logs)
        with suppress(_FirstStepDone):
            self._generate(callback=_stop, compile_loop=False, progress=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws and measures, if it is time to; adds the numbers, or NaN, to the logs."""
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            measured = self._drawn == self._epoch
            logs.update(self.numbers() if measured else dict.fromkeys(self.names, float("nan")))

    def _write(self) -> None:
        super()._write()
        if self._file is not None:
            self._file.write(self._epoch, self.numbers())

    # === What ===

    def draw(self) -> Image.Image:
        """Draws the images, and measures them."""
        self.evaluation = None
        images = self._generate()
        if self.extractor is not None:
            features = self.extractor(images, progress=self.progress)
            self.evaluation = evaluate_images(
                features, self.reference, self.metrics, progress=self.progress
            )
        return _sheet(images[: self.shown], self.columns)

    def numbers(self) -> dict[str, float]:
        """What the images just drawn measure; NaN where the model gave none."""
        if self.evaluation is None:
            return dict.fromkeys(self.names, float("nan"))
        return dict(self.evaluation.values)

    def _generate(self, **more: Any) -> Array:
        """uint8 `(num_images, height, width, channels)`."""
        options = {"seed": self.seed, "progress": self.progress, **self.options, **more}
        if not self.conditions:
            return GenerativeTask.generate(self.model, num_images=self.num_images, **options)
        count = len(next(iter(self.conditions.values())))
        rows = np.arange(self.num_images) % count
        conditions = {name: value[rows] for name, value in self.conditions.items()}
        if isinstance(self.model, TextToImage) and set(conditions) == {"caption"}:
            return self.model.generate(conditions["caption"], **options)
        return GenerativeTask.generate(self.model, conditions, **options)


class _FirstStepDone(Exception):
    """A sampler has taken its first step: what it was given can be drawn from."""


def _stop(step: SamplerStep) -> None:
    raise _FirstStepDone


def _by_name(conditions: Batch | Sequence[str] | Array | None) -> dict[str, Array]:
    """Conditions as arrays by name; prompts are "caption"."""
    if conditions is None:
        return {}
    if isinstance(conditions, str):
        conditions = [conditions]
    if not isinstance(conditions, Mapping):
        conditions = {"caption": conditions}
    return {str(name): np.atleast_1d(to_numpy(value)) for name, value in conditions.items()}


def _default_metrics(reference: Reference | None) -> tuple[str, ...]:
    if reference is None:
        return ()
    return ("fid", "kid") if isinstance(reference, ImageFeatures) else ("fid",)


def _sheet(images: Array, columns: int) -> Image.Image:
    """Images in rows, on white."""
    count, height, width, channels = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = np.full((rows, height, columns, width, channels), 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        canvas[row, :, column] = image
    sheet = canvas.reshape(rows * height, columns * width, channels)
    return Image.fromarray(np.repeat(sheet, 3 // channels, axis=-1))
