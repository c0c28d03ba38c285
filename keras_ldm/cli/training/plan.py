"""What is to be trained, on what: read from a Python file, or put together from flags."""

import argparse
import inspect
import runpy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ldm.cli.evaluation.pictures import EMOJI
from keras_ldm.data import load_emoji, load_image_folder
from keras_ldm.presets import small_text_to_image
from keras_ldm.tasks import AutoencoderTask, Task

_MAKERS = ("make_task", "make_data", "make_validation_data", "make_callbacks")
_OURS = ("self", "x", "y", "callbacks", "validation_data")
_NEEDS_FIRST_STAGE = "small_text_to_image"


@dataclass
class Plan:
    """A training, none of it made yet.

    Args:
        make_task: makes the task.
        make_data: makes what it is trained on.
        make_validation_data: makes what it is validated on.
        make_callbacks: makes a list of callbacks.
        fit: arguments of the task's `fit`.
    """

    make_task: Callable[[], Task]
    make_data: Callable[[], Any]
    make_validation_data: Callable[[], Any] = lambda: None
    make_callbacks: Callable[[], list[keras.callbacks.Callback]] = list
    fit: dict[str, Any] = field(default_factory=dict)


def read_plan(arguments: argparse.Namespace) -> Plan:
    """The plan of the command line.

    Raises:
        FileNotFoundError: if the file or a folder does not exist.
        ValueError: if the file lacks something, or has something that has no meaning.
    """
    plan = _of_preset(arguments) if arguments.config is None else _of_file(arguments)
    for name in ("epochs", "batch_size", "steps_per_epoch"):
        if (value := getattr(arguments, name)) is not None:
            plan.fit[name] = value
    return plan


def _of_file(arguments: argparse.Namespace) -> Plan:
    path = Path(arguments.config)
    for name in ("data", "image_size", "first_stage"):
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"Expected --{name.replace('_', '-')} with --preset alone; a file says so itself. "
                f"Received: {getattr(arguments, name)!r}"
            )
    if not path.is_file():
        raise FileNotFoundError(f"Expected a Python file. Received: {str(path)!r}, which is not there")
    names = runpy.run_path(str(path), run_name="keras_ldm_config")
    makers = {name: value for name, value in names.items() if name.startswith("make_")}
    if unknown := sorted(set(makers) - set(_MAKERS)):
        raise ValueError(f"Expected {', '.join(_MAKERS)} in {str(path)!r}. Received: {unknown}")
    for name in _MAKERS[:2]:
        if not callable(makers.get(name)):
            raise ValueError(
                f"Expected a function {name}() in {str(path)!r}. Received: "
                + (
                    f"{makers[name]!r}"
                    if name in makers
                    else f"{sorted(makers) or 'no make_... at all'}"
                )
            )
    fit = names.get("fit", {})
    known = set(inspect.signature(keras.Model.fit).parameters) - set(_OURS)
    if not isinstance(fit, dict) or (unknown := sorted(set(fit) - known)):
        raise ValueError(
            f"Expected `fit` in {str(path)!r} as a dictionary of some of {sorted(known)}. "
            f"Received: {fit!r}"
        )
    return Plan(**makers, fit=dict(fit))


def _of_preset(arguments: argparse.Namespace) -> Plan:
    if arguments.data is None:
        raise ValueError("Expected --data with --preset. Received: none")
    side = 64 if arguments.image_size is None else arguments.image_size
    if side < 1:
        raise ValueError(f"Expected --image-size >= 1. Received: {side}")

    if (arguments.preset == _NEEDS_FIRST_STAGE) != (arguments.first_stage is not None):
        raise ValueError(
            f"Expected --first-stage with --preset {_NEEDS_FIRST_STAGE}, and with no other. "
            f"Received: --preset {arguments.preset}, --first-stage {arguments.first_stage}"
        )

    def make_task() -> Task:
        if arguments.first_stage is None:
            return Task.from_preset(arguments.preset)
        first_stage = AutoencoderTask.from_preset(arguments.first_stage)
        return small_text_to_image(first_stage.averaged_autoencoder())

    def make_data() -> dict[str, Any]:
        if arguments.data == EMOJI:
            emoji = load_emoji()
            if side != emoji.images.shape[1]:
                raise ValueError(f"Expected --image-size 64 with emoji. Received: {side}")
            images, captions = emoji.images, emoji.captions
        else:
            images, captions = load_image_folder(arguments.data, image_size=side)
        return {"image": images, "caption": np.array(captions, object)}

    return Plan(make_task, make_data)
