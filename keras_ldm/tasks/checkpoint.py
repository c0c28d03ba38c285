"""The state of a training in one file.

A checkpoint is a safetensors file with the values of all of a task's variables, those of frozen parts
too, of its optimizer's and its metrics', in their order. Beside it lies `task.keras`, the task as it was
when the training began, which has what is no variable: configuration, vocabularies, networks of metrics.
"""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import assign_sum, values_of, whole_values
from keras_ldm.files import read_tensors, write_safetensors
from keras_ldm.files.tensor_file import TensorFile
from keras_ldm.tasks.gradient_norm import sums_of_norms

if TYPE_CHECKING:
    from keras_ldm.tasks.task import Task

SUFFIX = ".safetensors"
_FORMAT = "keras_ldm checkpoint 1"
_NOT_COMPARED = ("name", "compile_config", "build_config", "shared_object_id")


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: the epoch it is in, from 0.
        batch: batches of it that are through.
        batches: all that the task has been trained on.
        batches_an_epoch: batches of a whole epoch.
        epochs_read: how often the data were gone through, from their beginning.
        batches_read: how many batches were read from them.
        epochs: how many epochs were asked for.
        ended: whether another callback has ended the training, at the end of an epoch.
        logs: losses and metrics of the epoch that has just ended; empty in the middle of one.
        history_epochs: numbers of the epochs that `history` is of.
        history: what Keras's `History` has of them.
    """

    epoch: int
    batch: int
    batches: int
    batches_an_epoch: int
    epochs_read: int
    batches_read: int
    epochs: int
    ended: bool = False
    logs: dict[str, float] = field(default_factory=dict)
    history_epochs: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.batch:
            return f"the beginning of epoch {self.epoch + 1}"
        return f"batch {self.batch + 1} of {self.batches_an_epoch} in epoch {self.epoch + 1}"


class DamagedCheckpointError(ValueError):
    """A file that is no checkpoint, or not a whole one."""


# === Writing ===


def synchronize(task: "Task") -> None:
    """Gives a task's variables their values, which Keras's loop has for itself on JAX."""
    if keras.backend.backend() == "jax":
        task.jax_state_sync()


class Snapshot:
    """The values of everything in a task, at the time when it is made.

    All processes that train it together have to make one: on TensorFlow measures are added up over them
    when they are read, on JAX weights may be divided over them.

    Args:
        task: in `fit`, its variables brought up to date by `synchronize`.
    """

    def __init__(self, task: "Task") -> None:
        self._config = json.dumps(keras.saving.serialize_keras_object(task))
        self._optimizer = _kinds_of(task.optimizer)
        variables = _variables(task)
        with whole_values(list(variables.values()), task.metrics_variables):
            values = values_of(list(variables.values()))
            self._arrays = {  # copies: training goes on in the same memory
                name: np.array(ops.convert_to_numpy(value))
                for name, value in zip(variables, values, strict=True)
            }

    @property
    def is_finite(self) -> bool:
        """Whether it holds no NaN or infinity; measures aside."""
        return all(
            np.isfinite(array.astype("float32", copy=False)).all()
            for name, array in self._arrays.items()
            if not name.startswith("metrics")
        )

    def write(self, path: Path, progress: Progress) -> None:
        """Writes a file, whole or not at all; from another thread too, while the training goes on.

        Raises:
            OSError: if it cannot be written.
        """
        metadata = {
            "format": _FORMAT,
            "progress": json.dumps(asdict(progress)),
            "config": self._config,
            "optimizer": self._optimizer,
            "checksum": str(_checksum(self._arrays.items())),
        }
        write_safetensors(path, self._arrays, metadata)


def all_variables(task: "Task") -> list[keras.Variable]:
    """Those whose values a checkpoint has."""
    return list(_variables(task).values())


def _variables(task: "Task") -> dict[str, keras.Variable]:
    """By a name that says its place among those of its kind."""
    measures = measures_of(task)
    known = {id(variable) for variable in measures}
    kinds = {
        "weights": task.variables,
        "optimizer": [v for v in task.optimizer.variables if id(v) not in known],
        "metrics": measures,
    }
    return {f"{kind}/{i}/{v.path}": v for kind, these in kinds.items() for i, v in enumerate(these)}


def measures_of(task: "Task") -> list[keras.Variable]:
    """The variables that measure an epoch, and are no part of what is trained."""
    return [*task.metrics_variables, *sums_of_norms(task.optimizer)]


def _checksum(arrays: Any) -> int:
    """Of names and bytes."""
    checksum = 0
    for name, array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
        checksum = zlib.crc32(name.encode(), checksum)
    return checksum


# === Reading ===


def _open(path: Path) -> TensorFile:
    try:
        tensors = read_tensors(path)
    except ValueError as error:
        raise DamagedCheckpointError(str(error)) from error
    if tensors.metadata.get("format") != _FORMAT:
        tensors.close()
        raise DamagedCheckpointError(
            f"Expected a checkpoint of keras_ldm. Received: {str(path)!r}, another kind of file"
        )
    return tensors


def read_progress(path: Path) -> Progress:
    """How far the training had come.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedCheckpointError: if the file is no checkpoint.
    """
    with _open(path) as tensors:
        return Progress(**json.loads(str(tensors.metadata["progress"])))


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of a training, whole or not.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if path.suffix != SUFFIX:
        return False
    try:
        _open(path).close()
    except DamagedCheckpointError:
        return False
    return True


def check_whole(path: Path) -> None:
    """Reads all of a file.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedCheckpointError: if it is no checkpoint, or not as it was written.
    """
    with _open(path) as tensors:
        names = sorted(tensors, key=lambda name: _place(name))
        if str(_checksum((name, tensors[name]) for name in names)) != tensors.metadata.get("checksum"):
            raise DamagedCheckpointError(
                f"Expected a whole checkpoint. Received: {str(path)!r}, which is not as it was written"
            )


def _place(name: str) -> tuple[int, int]:
    kind, index, _ = name.split("/", 2)
    return ("weights", "optimizer", "metrics").index(kind), int(index)


def check_configuration(task: "Task", path: Path) -> None:
    """Checks that a checkpoint is of a task like this one, with an optimizer of the same kind.

    Names, and all else that `compile` got, are not compared.

    Raises:
        ValueError: if it is not; the message says where they differ first.
    """
    with _open(path) as tensors:
        there, optimizer = json.loads(str(tensors.metadata["config"])), tensors.metadata["optimizer"]
    here = json.loads(json.dumps(keras.saving.serialize_keras_object(task)))
    for where, theirs, ours in _differences(there, here):
        raise ValueError(
            f"Expected the task that {str(path)!r} is of, with {where} {theirs!r}. Received: {ours!r}. "
            "Another folder has room for another training; `keras_ldm.tasks.load` makes the file's task"
        )
    if optimizer != _kinds_of(task.optimizer):
        raise ValueError(
            f"Expected the optimizer that {str(path)!r} has the state of, {optimizer}. "
            f"Received: {_kinds_of(task.optimizer)}"
        )


def _kinds_of(optimizer: Any) -> str:
    """The classes of an optimizer and those inside it."""
    found = [type(optimizer).__name__]

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            module = str(value.get("module"))
            if "optimizers" in module and "schedules" not in module:
                found.append(str(value.get("class_name")))
            for nested in value.values():
                visit(nested)
        elif isinstance(value, (list, tuple)):
            for nested in value:
                visit(nested)

    visit(keras.saving.serialize_keras_object(optimizer).get("config"))
    return ", ".join(found)


def _differences(there: Any, here: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(set(there) | set(here)):
            if key not in _NOT_COMPARED:
                nested = where if key == "config" else f"{where}.{key}".lstrip(".")
                yield from _differences(there.get(key), here.get(key), nested)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, pair in enumerate(zip(there, here, strict=True)):
            yield from _differences(*pair, f"{where}[{i}]")
    elif there != here:
        yield where, there, here


def restore(task: "Task", path: Path) -> None:
    """Brings a task to the state in a checkpoint, all but what it has measured.

    Args:
        task: compiled, its optimizer built.
        path: of a whole checkpoint.

    Raises:
        DamagedCheckpointError: if the file is no checkpoint.
        ValueError: if the task has other variables.
    """
    variables = _variables(task)
    with _open(path) as tensors:
        there, here = (
            {_place(name): name for name in names if not name.startswith("metrics")}
            for names in (tensors, variables)
        )
        for place in sorted(set(there) | set(here)):
            theirs, ours = (names.get(place) for names in (there, here))
            shapes = (
                None if theirs is None else tensors.shape(theirs),
                None if ours is None else tuple(variables[ours].shape),
            )
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"Expected the weights and the optimizer that {str(path)!r} is of, there "
                    f"{theirs} of shape {shapes[0]}. Received: {ours} of shape {shapes[1]}"
                )
        for place, name in here.items():
            variables[name].assign(tensors[there[place]])


def restore_measures(task: "Task", path: Path) -> bool:
    """Brings back what a task had measured of an epoch, which Keras sets to zero when one begins.

    Returns:
        Whether it could be: a task that measures something else than before begins anew.

    Raises:
        DamagedCheckpointError: if the file is no checkpoint.
    """
    measures = measures_of(task)
    with _open(path) as tensors:
        names = sorted((name for name in tensors if name.startswith("metrics")), key=_place)
        if [tensors.shape(name) for name in names] != [tuple(v.shape) for v in measures]:
            return False
        sums = {id(variable) for variable in task.metrics_variables}
        for name, variable in zip(names, measures, strict=True):
            if id(variable) in sums:
                assign_sum(variable, tensors[name])
            else:
                variable.assign(tensors[name])
    return True


def restore_weights(task: "Task", path: Path) -> None:
    """Brings a task's weights and its optimizer to the state in its own checkpoint.

    Its batches and its random states stay: it goes on with other data, and other noise.

    Raises:
        DamagedCheckpointError: if the file is no checkpoint.
    """
    variables = _variables(task)
    staying = {id(task.batches), *(id(state) for state in task.seed_states())}
    with _open(path) as tensors:
        there = {_place(name): name for name in tensors}
        for name, variable in variables.items():
            if not name.startswith("metrics") and id(variable) not in staying:
                variable.assign(tensors[there[_place(name)]])


def shell_of(path: str | os.PathLike[str]) -> Path:
    """Where the task of a checkpoint is, without its state."""
    return Path(path).with_name("task.keras")
