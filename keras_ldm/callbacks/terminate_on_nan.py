"""What to do when a loss is no number any more."""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import num_processes, process_index
from keras_ldm.callbacks.checkpoints import Checkpoints
from keras_ldm.checks import check_int
from keras_ldm.files import atomic_write
from keras_ldm.tasks import Task
from keras_ldm.tasks.checkpoint import restore_weights, synchronize


class TerminateOnNaN(keras.callbacks.Callback):
    """Ends a training whose loss is NaN or infinite, or takes it back to before that.

    A warning says at which step, and which terms are not finite. The loss of a step is that before its
    update: where the update of the step before has spoilt the weights, the batch before is to blame, so
    that both are saved.

    Args:
        folder: where `nan_step_{step:08d}.npz` goes, with the arrays of the batch as the task takes
            them, and those of the batch before under `before/`. Made if it is missing. None saves none.
            Of several processes each saves what it has read: `nan_step_{step:08d}_process1.npz`.
        roll_back: the `Checkpoints` of the training, in all processes if there are several. Weights,
            averages and the optimizer go back to the newest one, the data and their noise go on: the
            batch does not come again. None ends the training.
        most: how often that may happen before the training is ended all the same.

    Attributes:
        steps: at which the loss was not finite.

    Raises:
        ValueError: for other arguments, outside a task's `fit`, with several steps an execution, or in
            several processes on PyTorch, each of which knows its own loss alone.
        NotADirectoryError: if `folder` is a file.

    Example:

    ```python
    checkpoints = keras_ldm.callbacks.Checkpoints("runs/mine", every_batches=1000)
    guard = keras_ldm.callbacks.TerminateOnNaN("runs/mine/nan", roll_back=checkpoints)
    task.fit(data, epochs=100, callbacks=[guard, checkpoints])
    ```
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        roll_back: Checkpoints | None = None,
        most: int = 3,
    ) -> None:
        super().__init__()
        self.folder = None if folder is None else Path(folder).expanduser()
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"Expected a folder. Received: {str(folder)!r}, a file")
        if roll_back is not None and not isinstance(roll_back, Checkpoints):
            raise ValueError(f"Expected `roll_back` as Checkpoints, or None. Received: {roll_back!r}")
        check_int("most", most, 1)
        self.roll_back, self.most = roll_back, most
        self.steps: list[int] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Asks the data to keep the last batches."""
        if not isinstance(self.model, Task) or self.model.training_data is None:
            raise ValueError(f"Expected a task of keras_ldm that is in `fit`. Received: {self.model!r}")
        if self.roll_back is not None and self.roll_back.model is not self.model:
            raise ValueError(
                "Expected `roll_back` among the callbacks of this `fit`. "
                "Received: Checkpoints of another training, or of none"
            )
        if self.model.steps_per_execution > 1:  # the loss is then seen after several
            raise ValueError(
                "Expected `steps_per_execution=1`, to know which step it is. "
                f"Received: {self.model.steps_per_execution}"
            )
        if keras.backend.backend() == "torch" and num_processes(self.model) > 1:
            raise ValueError(
                "Expected one process, or JAX: on PyTorch each process knows its own loss alone. "
                f"Received: {num_processes(self.model)} processes"
            )
        self.model.training_data.keeps_batches = self.folder is not None
        self.steps = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers which epoch it is."""
        self._epoch = epoch
        self._not_finite: set[str] = set()
        self._measured_nothing = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Where the epoch's last batch was such a one, its measures are NaN: none came behind it."""
        if self._measured_nothing and logs is not None:
            logs.update({name: float("nan") for name in logs if not name.startswith("val_")})

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss."""
        self._measured_nothing = False
        numbers = {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}
        not_finite = {name for name, value in numbers.items() if not np.isfinite(value)}
        if "loss" in not_finite:
            self._found(batch, sorted(not_finite - self._not_finite))
            not_finite = set()
        self._not_finite = not_finite
        self.model.training_data.forget_batches_before(batch)

    def _found(self, batch: int, names: list[str]) -> None:
        task = self.model
        synchronize(task)
        step = int(ops.convert_to_numpy(task.batches))
        self.steps.append(step)
        number = task.training_data.first_batch + batch + 1
        place = f"step {step}, batch {number} of epoch {self._epoch + 1}"
        saved = self._save(batch, step)
        said = f"Expected a finite loss. Received: {', '.join(names)} not finite at {place}{saved}"
        checkpoint = None if self.roll_back is None else self.roll_back.newest_of_first_process()
        if checkpoint is None or len(self.steps) > self.most:
            task.stop_training = True
            warnings.warn(f"{said}. The training ends", stacklevel=2)
            return
        restore_weights(task, checkpoint)
        task.reset_metrics()
        if task.gradient_norm is not None:
            task.gradient_norm.restart()
        self._measured_nothing = True
        warnings.warn(
            f"{said}. The training goes on with the weights of {checkpoint.name!r}", stacklevel=2
        )

    def _save(self, batch: int, step: int) -> str:
        if self.folder is None:
            return ""
        kept = self.model.training_data.kept_batches
        arrays: dict[str, Any] = {
            f"{before}{name}": value
            for index, before in ((batch, ""), (batch - 1, "before/"))
            for name, value in kept.get(index, {}).items()
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        process = process_index(self.model)
        path = self.folder / f"nan_step_{step:08d}{f'_process{process}' if process else ''}.npz"
        with atomic_write(path) as file:
            np.savez(file, **arrays)
        return f", whose batch is in {str(path)!r}"
