"""One run of `keras-ldm evaluate`: everything is checked, then drawn and measured."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from keras_ldm import __version__
from keras_ldm.cli.evaluation.arguments import (
    DRAWING,
    RECONSTRUCTED,
    asked_for,
    check_arguments,
    choose_measures,
    refuse_drawing_options,
)
from keras_ldm.cli.evaluation.model import conditions_of, is_folder, load_task, picture_side
from keras_ldm.cli.evaluation.pairs import PairMeasures
from keras_ldm.cli.evaluation.parts import PartFolder, features_of
from keras_ldm.cli.evaluation.pictures import FolderPictures, Pictures, open_pictures
from keras_ldm.cli.evaluation.reference import load_reference
from keras_ldm.cli.evaluation.sources import (
    DrawingSource,
    PictureSource,
    ReconstructionSource,
    Source,
)
from keras_ldm.files import atomic_write
from keras_ldm.metrics.evaluation import evaluate_images
from keras_ldm.metrics.evaluation_report import Evaluation
from keras_ldm.metrics.feature_extraction import FeatureExtractor
from keras_ldm.metrics.image_features import ImageFeatures, is_features_file
from keras_ldm.metrics.measures import (
    MEASURES,
    Reference,
    check_counts,
    check_measurable,
    needed_features,
)
from keras_ldm.models import pretrained_efficientnet, pretrained_inception
from keras_ldm.models.feature_network import FeatureNetwork
from keras_ldm.tasks import AutoencoderTask, Task


def make_network(arguments: argparse.Namespace) -> FeatureNetwork:
    """The network whose features are compared.

    Raises:
        ImportError: if its weights are to come from a package that is not installed.
        FileNotFoundError: if there is no such file of weights.
        ValueError: for a file that does not hold them, or an unknown way to resize.
    """
    make: Any = pretrained_inception if arguments.network == "inception" else pretrained_efficientnet
    options = {} if arguments.resize_mode is None else {"resize_mode": arguments.resize_mode}
    return make(arguments.weights, **options)


class EvaluationJob:
    """What the command line asks for, loaded and checked.

    Args:
        arguments: those of the command line.

    Raises:
        FileNotFoundError: if a model, folder or file does not exist.
        ValueError: if an argument makes no sense, or there are parts of another evaluation.
        ImportError: if a package with weights is needed and not installed.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        check_arguments(arguments)
        self.arguments = arguments
        self.task: Task | None = None
        self.identity: str | None = None
        if not is_folder(arguments):
            self.task, self.identity = load_task(arguments)
        self.reconstructs = isinstance(self.task, AutoencoderTask)
        path = arguments.reference
        self.metrics, self.pairs = choose_measures(
            asked_for(arguments.metrics),
            self.reconstructs,
            path is not None and not is_features_file(path),
        )
        self.extractor: FeatureExtractor | None = None
        self.reference: Reference | None = None
        if self.metrics:
            features = needed_features(self.metrics)
            self.extractor = FeatureExtractor(make_network(arguments), features, arguments.batch_size)
            if path is not None:
                self.reference = load_reference(path, self.extractor.descriptions)
        self.pictures: Pictures | None = None
        if arguments.data is not None:
            self.pictures = open_pictures(arguments.data, picture_side(arguments, self.task))
        self.source = self._source()
        self.real = self._real_source()
        self._check()
        self.parts = self._folder("generated", self.source)
        self.real_parts = None if self.real is None else self._folder("real", self.real)

    # === What is measured ===

    def _source(self) -> Source:
        arguments, task, pictures = self.arguments, self.task, self.pictures
        if task is None:
            refuse_drawing_options(arguments, "a folder of pictures")
            pictures = FolderPictures(arguments.model, arguments.image_size)
            return PictureSource(pictures, self._count(pictures.count), arguments.batch_size)
        if isinstance(task, AutoencoderTask):
            refuse_drawing_options(arguments, "an autoencoder")
            if pictures is None:
                raise ValueError("Expected --data, pictures to reconstruct. Received: none")
            channels = task.autoencoder.image_channels
            if channels != 3:
                raise ValueError(f"Expected an autoencoder of 3 channels. Received: one of {channels}")
            measures = PairMeasures(self.pairs)
            count = self._count(pictures.count)
            return ReconstructionSource(task, pictures, count, arguments.batch_size, measures)
        count = arguments.num_samples
        if count is None and pictures is None:
            raise ValueError("Expected --num-samples, or --data with as many. Received: neither")
        options = {name: getattr(arguments, name) for name in (*DRAWING, "image_size")}
        seed = options.pop("seed") or 0
        return DrawingSource(
            task,
            conditions_of(task, pictures),
            pictures.count if count is None and pictures is not None else count,
            seed,
            arguments.batch_size,
            options,
        )

    def _count(self, available: int) -> int:
        """How many of some pictures to take."""
        count: int | None = self.arguments.num_samples
        if count is not None and count > available:
            raise ValueError(f"Expected --num-samples of at most {available}. Received: {count}")
        return available if count is None else count

    def _real_source(self) -> Source | None:
        """The real pictures, of a reconstruction those that it is of; None if they are not looked at."""
        saves = self.arguments.save_reference is not None
        if saves and self.extractor is None:
            raise ValueError(
                f"Expected --save-reference with measures of features. Received: {','.join(self.pairs)}"
            )
        compares = any(MEASURES[metric].reference != "nothing" for metric in self.metrics)
        if self.reference is not None or not (compares or saves):
            return None
        if self.pictures is None:
            raise ValueError("Expected --data with real pictures, or --reference. Received: neither")
        count = self.source.count if self.reconstructs else self.pictures.count
        return PictureSource(self.pictures, count, self.arguments.batch_size)

    def _check(self) -> None:
        needs = [metric for metric in self.metrics if MEASURES[metric].reference != "nothing"]
        if self.arguments.reference is not None and not needs:
            raise ValueError(
                "Expected --reference with measures that compare with real pictures. "
                f"Received: {self.arguments.reference!r} for {','.join((*self.metrics, *self.pairs))}"
            )
        if self.extractor is None:
            return
        count = self.source.count
        if self.reference is not None:
            extractor = self.extractor
            check_measurable(
                self.metrics, extractor.descriptions, count, self.reference, extractor.widths
            )
        check_counts(self.metrics, count, None if self.real is None else self.real.count)

    def _folder(self, name: str, source: Source) -> PartFolder:
        settings = {
            **source.settings,
            "features": {} if self.extractor is None else self.extractor.descriptions,
            "keras_ldm": __version__,
        }
        if name == "generated":
            settings["model"] = self.identity
        folder = Path(self.arguments.output) / "parts" / name
        return PartFolder(folder, settings, restart=self.arguments.restart)

    # === Measuring it ===

    def run(self) -> Evaluation:
        """Draws and measures, as far as it has not been done, and writes `evaluation.json`."""
        arguments = self.arguments
        generated = features_of(self.source, self.extractor, self.parts, "generated")
        reference = self.reference
        if self.real is not None and self.real_parts is not None:
            reference = real = features_of(self.real, self.extractor, self.real_parts, "real")
            if arguments.save_reference is not None:
                real.save(arguments.save_reference)
        evaluation = self._evaluation(generated, reference)
        with atomic_write(Path(arguments.output) / "evaluation.json") as file:
            file.write(evaluation.to_json().encode() + b"\n")
        return evaluation

    def _evaluation(self, generated: ImageFeatures, reference: Reference | None) -> Evaluation:
        values: dict[str, float] = {}
        provenance: dict[str, Any] = {"num_generated": generated.count}
        if self.metrics:
            found = evaluate_images(generated, reference, self.metrics, progress=True)
            names = RECONSTRUCTED if self.reconstructs else {}
            values = {names.get(name, name): value for name, value in found.values.items()}
            provenance = dict(found.provenance)
        for name in self.pairs:
            values[name] = float(np.mean(generated.values[name], dtype=np.float64))
        arguments, task = self.arguments, self.task
        provenance["generated"] = {
            "model": arguments.model or arguments.preset,
            "kind": "folder of pictures" if task is None else type(task).__name__,
            "model_hash": self.identity,
            **self.source.settings,
        }
        if self.real is not None:
            provenance["real"] = {"data": arguments.data, **self.real.settings}
        elif arguments.reference is not None:
            provenance["real"] = {"reference": arguments.reference}
        return Evaluation(values, {**provenance, "keras_ldm": __version__})
