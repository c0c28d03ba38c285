"""The model that `keras-ldm evaluate` is given: what it is, what it draws, and at what size."""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops

from keras_ldm.cli.evaluation.pictures import EMOJI, Pictures
from keras_ldm.conditioning import ClassEmbedder
from keras_ldm.tasks import AutoencoderTask, GenerativeTask, Task, TextToImage
from keras_ldm.tasks.loading import ENDINGS
from keras_ldm.types import Array


def is_folder(arguments: argparse.Namespace) -> bool:
    """Whether it is a folder of pictures, and no model."""
    return arguments.preset is None and Path(arguments.model).is_dir()


def load_task(arguments: argparse.Namespace) -> tuple[Task, str]:
    """The task of the command line, and what tells it from others.

    Raises:
        FileNotFoundError: if there is neither a file nor a folder of that name.
        ValueError: if it is no task that draws or reconstructs.
    """
    if arguments.preset is None:
        path = Path(arguments.model)
        if path.suffix not in ENDINGS:
            raise ValueError(
                "Expected a checkpoint, a model saved as .keras, or a folder of pictures. "
                f"Received: {arguments.model!r}"
            )
        task = Task.from_preset(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    else:
        task = Task.from_preset(arguments.preset)
        digest = hashlib.sha256()
        for weight in task.weights:
            digest.update(np.ascontiguousarray(ops.convert_to_numpy(weight)).tobytes())
    if not isinstance(task, GenerativeTask | AutoencoderTask):
        raise ValueError(
            "Expected a model that draws or reconstructs images. "
            f"Received: a {type(task).__name__}, {arguments.model or arguments.preset!r}"
        )
    return task, digest.hexdigest()[:16]


def picture_side(arguments: argparse.Namespace, task: Task | None) -> int | None:
    """To how many pixels a side pictures are cut and resized; None for pictures as they are.

    They come to the size of what a model draws, or reconstructs.

    Raises:
        ValueError: if no size is given and the model does not say, or it draws no squares.
    """
    if arguments.image_size is not None or task is None:
        side: int | None = arguments.image_size
        return side
    if isinstance(task, AutoencoderTask):
        if arguments.data == EMOJI:
            return None
        raise ValueError(
            "Expected --image-size with an autoencoder, which does not say what it was trained on. "
            "Received: none"
        )
    if task.image_size is None:
        raise ValueError("Expected --image-size, since the model names none. Received: none")
    height, width = task.image_size
    if height != width:
        raise ValueError(
            "Expected a model of square images, or --reference in place of --data, whose pictures are "
            f"cut to squares. Received: one of {height}x{width}"
        )
    return height


def conditions_of(task: GenerativeTask, pictures: Pictures | None) -> dict[str, Array]:
    """What a task is to draw: the pictures' captions, or its classes, or nothing.

    Raises:
        ValueError: for a task that takes other conditions, or captions where there are no pictures.
    """
    if task.conditioner is None:
        return {}
    embedders = task.conditioner.embedders
    if isinstance(task, TextToImage):
        if pictures is None:
            raise ValueError("Expected --data, whose captions say what to draw. Received: none")
        captions = {"caption": np.array(pictures.captions(), object)}
        task.conditioner.preprocess({"caption": captions["caption"][:1]})
        return captions
    if len(embedders) == 1:
        ((name, embedder),) = embedders.items()
        if isinstance(embedder, ClassEmbedder):
            return {name: np.array(_classes(embedder), np.int32)}
    raise ValueError(
        "Expected a TextToImage, or a LatentDiffusion without conditions or with one of classes. "
        f"Received: one with the conditions {sorted(embedders)}"
    )


def _classes(embedder: ClassEmbedder) -> Sequence[int]:
    """All classes, but for the one that the model has learned to stand for none."""
    classes = range(embedder.num_classes)
    return [c for c in classes if c != embedder.null_class or not embedder.null_known]
