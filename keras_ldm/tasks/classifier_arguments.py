"""The arguments of `generate` that are about guidance by a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_ldm.diffusion import FlowSchedule
from keras_ldm.tasks.noisy_latent_classifier import NoisyLatentClassifier
from keras_ldm.types import Array, Tensor

if TYPE_CHECKING:
    from keras_ldm.tasks.generative_task import GenerativeTask


@dataclass(frozen=True)
class ClassifierArguments:
    """Arguments as they were given.

    Attributes:
        classifier: of noisy latents, or None.
        labels: the class of each image, or one for all, or None.
        scale: of the gradient.
    """

    classifier: NoisyLatentClassifier | None
    labels: Any
    scale: float

    def check(self, task: "GenerativeTask") -> "ClassifierGuidance | None":
        """Checks them against a task.

        Raises:
            ValueError: for a classifier of other latents, without labels, or labels without it.
        """
        classifier = self.classifier
        if (classifier is None) != (self.labels is None):
            raise ValueError(
                "Expected `classifier` and `classifier_labels` together. Received: only "
                + ("the labels" if classifier is None else "the classifier")
            )
        if np.ndim(self.scale) or not isinstance(self.scale, (int, float, np.number)):
            raise ValueError(f"Expected `classifier_scale` as one number. Received: {self.scale!r}")
        if classifier is None:
            if self.scale != 1.0:
                raise ValueError(
                    "Expected a `classifier` with `classifier_scale`. "
                    f"Received: classifier_scale={self.scale} alone"
                )
            return None
        if not isinstance(classifier, NoisyLatentClassifier):
            raise ValueError(f"Expected a NoisyLatentClassifier. Received: {type(classifier).__name__}")
        if isinstance(task.schedule, FlowSchedule):
            raise ValueError(
                "Expected a model with a variance-preserving schedule for guidance by a classifier. "
                "Received: one of flow matching"
            )
        if not np.isfinite(self.scale):
            raise ValueError(f"Expected a finite `classifier_scale`. Received: {self.scale}")
        _check_same_latents(task, classifier)
        labels = np.asarray(self.labels)
        labels = classifier.check_labels(labels[None] if labels.ndim == 0 else labels)
        return ClassifierGuidance(labels, np.ndim(self.labels) == 0, float(self.scale))


@dataclass(frozen=True)
class ClassifierGuidance:
    """Checked arguments.

    Attributes:
        labels: int32, one for each image, or one.
        one_for_all: whether it is one for all images.
        scale: of the gradient.
    """

    labels: Array
    one_for_all: bool
    scale: float

    def counts(self) -> dict[str, int]:
        """How many images the labels are for."""
        return {} if self.one_for_all else {"classifier_labels": len(self.labels)}

    def tensors(self, rows: slice) -> Mapping[str, Tensor]:
        """What a task's denoise function is given, for some of the images."""
        count = rows.stop - rows.start
        labels = self.labels.repeat(count) if self.one_for_all else self.labels[rows]
        return {
            "labels": ops.convert_to_tensor(labels),
            "classifier_scale": ops.convert_to_tensor(np.float32(self.scale)),
        }


def _check_same_latents(task: "GenerativeTask", classifier: NoisyLatentClassifier) -> None:
    spaces = (task.latent_space, classifier.latent_space)
    if spaces[0] is spaces[1]:
        return
    here, there = (
        np.concatenate([ops.convert_to_numpy(value) for value in (space.mean, space.std)])
        for space in spaces
    )
    if here.shape != there.shape or not np.allclose(here, there, rtol=1e-3, atol=1e-6):
        raise ValueError(
            "Expected a classifier of this model's latents, NoisyLatentClassifier(task.latent_space, "
            f"...). Received: one of latents with mean and deviation {there}, here {here}"
        )
