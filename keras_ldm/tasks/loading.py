"""Tasks and models from files."""

import os
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_ldm.tasks.checkpoint import SUFFIX, check_configuration, check_whole, restore, shell_of

ENDINGS = (".keras", SUFFIX)  # of the files that `load` takes


def load(path: str | os.PathLike[str]) -> Any:
    """Loads a task or model that was saved to a `.keras` file, or a checkpoint of a task.

    It does what `keras.saving.load_model` does, and says so clearly when the file is no such file. The
    checkpoints of `keras_ldm.callbacks.Checkpoints`, `.safetensors`, have their `task.keras` beside
    them.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is truncated, damaged, or not a Keras model.
    """
    name = os.fspath(path)
    if not name.endswith(SUFFIX):
        return _load(name)
    check_whole(Path(name))
    task = _load(os.fspath(shell_of(name)))
    check_configuration(task, Path(name))
    restore(task, Path(name))
    return task


def _load(name: str) -> Any:
    if not os.path.isfile(name):
        raise FileNotFoundError(f"Expected a saved model. Received: {name!r}, which does not exist")
    try:
        with zipfile.ZipFile(name) as archive:
            broken = archive.testzip()
            missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"Expected a .keras file. Received: {name!r}, which is truncated or something else ({error})"
        ) from error
    if broken or missing:
        raise ValueError(
            f"Expected a .keras file. Received: {name!r}, in which "
            + (f"{broken!r} is damaged" if broken else f"{sorted(missing)} are missing")
        )
    try:
        return keras.saving.load_model(name)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a .keras file of a model. Received: {name!r}, which cannot be loaded "
            f"({type(error).__name__}: {error})"
        ) from error
