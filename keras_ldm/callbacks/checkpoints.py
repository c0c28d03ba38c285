"""Checkpoints that a training goes on from, to the same weights as one that was never interrupted."""

import signal
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
from keras import ops

from keras_ldm.callbacks.background import Background
from keras_ldm.callbacks.checkpoint_folder import CheckpointFolder
from keras_ldm.tasks import Task
from keras_ldm.tasks.checkpoint import (
    Progress,
    Snapshot,
    check_configuration,
    read_progress,
    restore,
)
from keras_ldm.tasks.continuing import ContinuingCallback
from keras_ldm.types import Array


class Checkpoints(ContinuingCallback):
    """Saves a training at the end of each epoch and in between, and goes on from there.

    To go on, run the same program again: `fit` with this callback brings the task back to the newest
    checkpoint in the folder and trains what is left. That is weights, optimizer and averages, the states
    of all seeds, the learning rate, the epoch, the running measures and the history, and the place in
    the data: on TensorFlow's CPU the weights come out the same to the bit, whenever the process was
    killed.

    Each file is written beside its name by a thread of its own, and takes the name when it is on the
    disk. Files are read in full before they count: a damaged one is put aside with a warning, and the
    one before it counts. A state with NaN or infinity in it is not saved. Where the disk is full, the
    training goes on with a warning, and what was saved before stays.

    Arrays and a `PyDataset` go on at once. Of a `tf.data.Dataset`, a `DataLoader` or another iterable,
    only reading finds the place: all that was trained on is read again, which takes time but no
    training. For the same weights it must give the same batches in each process. Other callbacks begin
    anew, such as the patience of `EarlyStopping`.

    In `fit`'s list of callbacks this one runs behind all others, so that it sees what they have done.

    Args:
        folder: of the files `checkpoint-{batches:08d}.safetensors`, and of `task.keras`, which
            `keras_ldm.tasks.load` needs to make a task of one. Made if it is missing. One for each
            training.
        every_batches: saves after so many batches, besides; None for not.
        every_minutes: saves after so much time, besides; None for not.
        keep: how many of the newest stay; a second one is there in case that one is damaged.
        keep_best: how many of those at the end of an epoch stay whose `monitor` is best.
        monitor: a name in the logs, such as "val_loss" or a measure of `SampleEvaluation`.
        mode: whether "min" or "max" is best.
        stop_signals: at one of these the process saves and ends with status 128 + its number, as
            machines that are taken away ask for; empty for none. On the main thread only.
        verbose: whether to say where the training goes on.

    Raises:
        ValueError: for numbers out of range; when training begins, if the newest checkpoint is of
            another task or of other data, is behind the task, or none is whole.
        NotADirectoryError: if `folder` is a file.
        OSError: when training begins, if nothing can be written there.

    Example:

    ```python
    checkpoints = keras_ldm.callbacks.Checkpoints("runs/mine/checkpoints")
    task.fit(data, epochs=100, callbacks=[checkpoints])   # again after an interruption: goes on
    ```
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_batches: int | None = None,
        every_minutes: float | None = 10.0,
        keep: int = 2,
        keep_best: int = 0,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        verbose: bool = True,
    ) -> None:
        super().__init__()
        if Path(folder).exists() and not Path(folder).is_dir():
            raise NotADirectoryError(f"Expected a folder. Received: {str(folder)!r}, a file")
        for name, number, least in (
            ("every_batches", every_batches, 1),
            ("keep", keep, 1),
            ("keep_best", keep_best, 0),
        ):
            if number is not None and (not isinstance(number, (int, np.integer)) or number < least):
                raise ValueError(f"Expected `{name}` >= {least}. Received: {number!r}")
        if every_minutes is not None and not every_minutes > 0:
            raise ValueError(f"Expected `every_minutes` > 0, or None. Received: {every_minutes!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"Expected `mode` to be 'min' or 'max'. Received: {mode!r}")
        self.every_batches, self.every_minutes = every_batches, every_minutes
        self.stop_signals, self.verbose = tuple(stop_signals), verbose
        self._folder = CheckpointFolder(Path(folder), keep, keep_best, monitor, mode)
        self._background = Background()

    @property
    def newest(self) -> Path | None:
        """The newest checkpoint, or None."""
        self._wait()
        return self._folder.newest()

    @property
    def best(self) -> Path | None:
        """That with the best `monitor` of those that are there, or None."""
        self._wait()
        return next(iter(self._folder.best()), None)

    # === Going on ===

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Brings the newest checkpoint back, if there is one."""
        task = self.model
        if not isinstance(task, Task) or task.training_data is None:
            raise ValueError(f"Expected a task of keras_ldm that is in `fit`. Received: {task!r}")
        self._progress: Progress | None = None
        self._first_epoch: int | None = None
        self._metrics: list[Array] = []
        self._first_batch = 0
        newest = self._folder.newest()
        if newest is not None:
            self._continue_from(task, newest)
        self._folder.prepare(task)
        self._stop: int | None = None
        self._batches_since, self._time = 0, time.monotonic()
        self._listen()

    def _continue_from(self, task: Task, path: Path) -> None:
        progress = read_progress(path)
        trained = int(ops.convert_to_numpy(task.batches))
        if trained > progress.batches:
            raise ValueError(
                f"Expected a task that is not ahead of the checkpoints in {str(path.parent)!r}, which "
                f"have {progress.batches} batches. Received: one that was trained on {trained}"
            )
        length = task.training_data.batches_an_epoch if task.training_data is not None else 0
        if progress.batch and length != progress.batches_an_epoch:
            raise ValueError(
                f"Expected data with {progress.batches_an_epoch} batches an epoch, in the middle of "
                f"which {str(path)!r} was written. Received: {length}"
            )
        check_configuration(task, path)
        metrics = restore(task, path)
        self._metrics = metrics if progress.batch else []
        self._progress, self._first_epoch = progress, progress.first_epoch
        self._first_batch = progress.batch
        if self.verbose:
            print(f"Going on from {path}, at {progress}.", flush=True)
        task.continue_at(progress.epoch, progress.batch, progress.epoch - progress.first_epoch)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Brings back what Keras has just set to zero."""
        if self._first_epoch is None:
            self._first_epoch = epoch
        self._epoch, self._done = epoch, self._first_batch
        self._restore_history()
        if self._metrics:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = []

    def _restore_history(self) -> None:
        if self._progress is not None:
            self.model.history.epoch = list(self._progress.epochs)
            self.model.history.history = {k: list(v) for k, v in self._progress.history.items()}
            self._progress = None

    # === Saving ===

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if it is time to."""
        before, self._done = self._done, self._first_batch + batch + 1
        self._batches_since += self._done - before  # more than one with `steps_per_execution`
        due = self._stop is not None
        due |= self.every_batches is not None and self._batches_since >= self.every_batches
        due |= (
            self.every_minutes is not None and time.monotonic() - self._time >= 60 * self.every_minutes
        )
        if due and self._done < self.model.training_data.batches_an_epoch:  # else the epoch's end does
            history = self.model.history
            self._save(self._epoch, self._done, {}, history.epoch, history.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves."""
        self._first_batch = 0
        numbers = {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}
        before = self.model.history
        history = {name: [*before.history.get(name, []), value] for name, value in numbers.items()}
        self._save(epoch + 1, 0, numbers, [*before.epoch, epoch], {**before.history, **history})
        if self._folder.keep_best and self._folder.monitor not in numbers:
            raise ValueError(
                f"Expected `monitor` to be in the logs of an epoch, {sorted(numbers)}. "
                f"Received: {self._folder.monitor!r}"
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for the last file."""
        self._restore_history()
        self._unlisten()
        self._wait()

    def _save(
        self,
        epoch: int,
        batch: int,
        logs: dict[str, float],
        epochs: list[int],
        history: dict[str, list[float]],
    ) -> None:
        self._batches_since, self._time = 0, time.monotonic()
        snapshot = Snapshot(self.model)
        progress = Progress(
            epoch,
            batch,
            int(ops.convert_to_numpy(self.model.batches)),
            self.model.training_data.batches_an_epoch,
            self._first_epoch or 0,
            logs,
            list(epochs),
            {name: [float(x) for x in values] for name, values in history.items()},
        )

        def write() -> None:
            if snapshot.is_finite:
                self._folder.write(snapshot, progress)
            else:
                warnings.warn(
                    f"No checkpoint of {progress}: there is NaN or infinity in the weights. The last "
                    "good one stays",
                    stacklevel=2,
                )

        self._wait()
        self._background.start(write)
        if self._stop is not None:
            self._unlisten()
            self._wait()
            raise SystemExit(128 + self._stop)

    def _wait(self) -> None:
        """Waits for the file that is being written; one that cannot be is worth a warning, no more."""
        try:
            self._background.wait()
        except OSError as error:
            warnings.warn(
                f"Expected to write a checkpoint in {str(self._folder.path)!r}. Received: {error!r}. "
                "The training goes on; those that were there are there still",
                stacklevel=2,
            )

    # === Signals ===

    def _listen(self) -> None:
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():
            self._handlers = {s: signal.signal(s, self._on_signal) for s in self.stop_signals}

    def _unlisten(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.model.training_data is not None:
            self._stop = number
        else:  # `fit` has ended with an error, and nobody would ask
            self._unlisten()
            signal.raise_signal(number)
