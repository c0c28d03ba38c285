"""Checkpoints that a training goes on from, to the same weights as one that was never interrupted."""

import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from keras import ops

from keras_ldm.backend import process_index, whole_values
from keras_ldm.callbacks.agreement import Agreement
from keras_ldm.callbacks.background import Background
from keras_ldm.callbacks.checkpoint_folder import CheckpointFolder
from keras_ldm.callbacks.folder_lock import FolderLock
from keras_ldm.callbacks.stop_signals import StopSignals
from keras_ldm.checks import check_int
from keras_ldm.tasks import Task
from keras_ldm.tasks.checkpoint import (
    Progress,
    Snapshot,
    all_variables,
    check_configuration,
    read_progress,
    restore,
    restore_measures,
    synchronize,
)
from keras_ldm.tasks.continuing import ContinuingCallback


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
    training. For the same weights data must be the same in each process.

    In `fit`'s list of callbacks this one runs behind all others, so that it sees what they have done.
    Their own counts are not saved: the patience of `EarlyStopping`, the best of `ModelCheckpoint`. In an
    epoch that begins in its middle they see batches from 0. A training that one of them has ended, at
    the end of an epoch, goes on if more epochs are asked for. One that was interrupted in the same
    process goes on from the newest checkpoint, too.

    Of several processes that train together the first one saves, by its own clock, and all go on from
    what it has found, so that the folder has to be one for all. A signal to one of them ends all, after
    the same batch: they ask each other every few seconds.

    Args:
        folder: of the files `checkpoint-{batches:08d}.safetensors`, and of `task.keras`, which
            `keras_ldm.tasks.load` needs to make a task of one. Made if it is missing. One for each
            training; another process that trains into it is refused, where the system has file locks.
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
        ValueError: for arguments that make no sense; when training begins, if another process trains
            into the folder, if the newest checkpoint is of another task or optimizer, in the middle of
            an epoch of another length, or behind the task, or if none is whole; after an epoch without
            `monitor` in its logs. One that begins with "val_" may be missing, with a warning.
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
        path = Path(folder).expanduser()
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"Expected a folder. Received: {str(path)!r}, a file")
        for name, number, least in (("keep", keep, 1), ("keep_best", keep_best, 0)):
            check_int(name, number, least)
        if every_batches is not None:
            check_int("every_batches", every_batches, 1)
        if every_minutes is not None and not (
            isinstance(every_minutes, (int, float)) and every_minutes > 0
        ):
            raise ValueError(f"Expected `every_minutes` > 0, or None. Received: {every_minutes!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"Expected `mode` to be 'min' or 'max'. Received: {mode!r}")
        self.every_batches, self.every_minutes = every_batches, every_minutes
        self.verbose = verbose
        self._signals = StopSignals(stop_signals)
        self._folder = CheckpointFolder(path, keep, keep_best, monitor, mode)
        self._lock = FolderLock(path)
        self._background = Background.of(path)
        self._interrupted: tuple[Task, int] | None = None

    @property
    def newest(self) -> Path | None:
        """The newest checkpoint that is whole, or None; of several processes, ask the first."""
        self._wait()
        return self._folder.newest()

    def newest_of_first_process(self) -> Path | None:
        """In `fit`, the newest whole checkpoint, the same in all processes; all have to ask.

        Raises:
            FileNotFoundError: if this process does not see the file that the first one does.
            RuntimeError: if another process has an error.
            ValueError: if there are checkpoints, and none is whole; before any `fit`.
        """
        if not isinstance(self.model, Task):
            raise ValueError("Expected a training with this callback. Received: none that has begun")
        process, number = process_index(self.model), 0
        with self._agreement.failing_together():
            if process == 0 and (newest := self.newest) is not None:
                number = self._folder.batches_of(newest) + 1
        (number,) = self._agreement.now([number])
        if not number:
            return None
        path = self._folder.path_of(number - 1)
        with self._agreement.failing_together():
            if not path.is_file():
                raise FileNotFoundError(
                    f"Expected {str(path)!r}, which the first process has found: all need the same "
                    f"folder. Received: no such file in process {process}"
                )
        return path

    @property
    def best(self) -> Path | None:
        """That with the best `monitor` of those that are there, or None; see `newest`."""
        self._wait()
        return next(iter(self._folder.best()), None)

    # === Going on ===

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Brings the newest checkpoint back, if there is one."""
        task = self.model
        if not isinstance(task, Task) or task.training_data is None:
            raise ValueError(f"Expected a task of keras_ldm that is in `fit`. Received: {task!r}")
        self._agreement, self._signal = Agreement(task), 0
        self._last: Progress | None = None  # what was saved
        self._before: Progress | None = None  # the history, to be brought back
        self._again: Path | None = None  # where to bring everything back from once more
        self._first_batch = self._read_before = self._epochs_read = 0
        first = process_index(task) == 0
        with self._agreement.failing_together():
            if first:
                self._lock.acquire()
        newest = self.newest_of_first_process()
        if newest is not None:
            self._continue_from(task, newest)
        with whole_values(all_variables(task)), self._agreement.failing_together():
            if first:
                self._folder.prepare(task)
        self._start = int(ops.convert_to_numpy(task.batches))
        self._batches_since, self._time = 0, time.monotonic()
        self._signals.listen()

    def _continue_from(self, task: Task, path: Path) -> None:
        with self._agreement.failing_together():
            progress = self._checked(task, path)
        restore(task, path)
        first = process_index(task) == 0
        if first:
            self._folder.put_aside_after(path)
        self._before, self._again = progress, path if progress.batch else None
        self._first_batch = progress.batch
        self._read_before, self._epochs_read = progress.batches_read, progress.epochs_read
        epochs = self.params["epochs"]
        over = progress.epoch >= epochs or (progress.ended and epochs <= progress.epochs)
        if self.verbose and first:
            print(
                f"Going on from {path}, at {progress}" + (": it is over." if over else "."), flush=True
            )
        if over:
            task.continue_at(max(epochs, progress.epoch))
        else:
            task.continue_at(
                progress.epoch,
                progress.batch,
                epochs_read=progress.epochs_read,
                batches_read=progress.batches_read,
            )

    def _checked(self, task: Task, path: Path) -> Progress:
        """How far a checkpoint is that a task can go on from.

        Raises:
            ValueError: if it cannot.
        """
        progress = read_progress(path)
        trained = int(ops.convert_to_numpy(task.batches))
        if trained > progress.batches and self._interrupted != (task, trained):
            raise ValueError(
                f"Expected a task that is not ahead of the checkpoints in {str(path.parent)!r}, which "
                f"have {progress.batches} batches. Received: one that was trained on {trained}. Make it "
                "anew to go on from there, or take another folder"
            )
        length = task.training_data.batches_an_epoch if task.training_data is not None else 0
        if progress.batch and length != progress.batches_an_epoch:
            raise ValueError(
                f"Expected data with {progress.batches_an_epoch} batches an epoch, in the middle of "
                f"which {str(path)!r} was written. Received: {length}"
            )
        check_configuration(task, path)
        return progress

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Brings back what Keras has set to zero, and what others do when an epoch begins."""
        self._epoch, self._done = epoch, self._first_batch
        self._restore_history()
        if self._again is not None:
            restore(self.model, self._again)
            if not restore_measures(self.model, self._again):
                warnings.warn(
                    f"Expected the metrics and diagnostics that {str(self._again)!r} is of. "
                    f"Received: others. Those of epoch {epoch + 1} begin behind it",
                    stacklevel=2,
                )
            self._again = None

    def _restore_history(self) -> None:
        if self._before is not None:
            self.model.history.epoch = list(self._before.history_epochs)
            self.model.history.history = {k: list(v) for k, v in self._before.history.items()}
            self._before = None

    # === Saving ===

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if it is time to."""
        before, self._done = self._done, self._first_batch + batch + 1
        self._batches_since += self._done - before  # more than one with `steps_per_execution`
        minutes = (time.monotonic() - self._time) / 60
        by_time = self.every_minutes is not None and minutes >= self.every_minutes
        first = process_index(self.model) == 0
        numbers = [self._signals.received or 0, int(by_time and first)]
        self._signal, late = self._agreement.after(self._done - before, numbers)
        due = bool(self._signal or late or self.model.stop_training)
        due |= self.every_batches is not None and self._batches_since >= self.every_batches
        if due and self._done < self.model.training_data.batches_an_epoch:  # else the epoch's end does
            self._save(self._epoch, self._done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves."""
        self._first_batch = 0
        if self._done < self.model.training_data.batches_an_epoch:
            return  # another callback has stopped it, and its state was saved then
        self._epochs_read += 1
        numbers = {name: float(value) for name, value in (logs or {}).items() if _is_number(value)}
        self._save(epoch + 1, 0, numbers, ended=bool(self.model.stop_training))
        monitor = self._folder.monitor
        with self._agreement.failing_together():
            if self._folder.keep_best and monitor not in numbers and process_index(self.model) == 0:
                message = (
                    f"Expected `monitor` to be in the logs of an epoch, {sorted(numbers)}. "
                    f"Received: {monitor!r}"
                )
                if not monitor.startswith("val_"):
                    raise ValueError(message)
                warnings.warn(f"{message}. Epoch {epoch + 1} can be no best one", stacklevel=2)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for the last file; of a training that was ended, saves what is left at the end."""
        self._restore_history()
        if self._last is not None and self._last.ended:  # `EarlyStopping` brings back the best weights
            self._write(self._last)
        self._wait()
        self._leave_if_asked_to()

    def on_fit_end(self) -> None:
        """Leaves signals and the folder to others again."""
        self._signals.ignore()
        self._wait()
        self._lock.release()
        if isinstance(self.model, Task):
            self._interrupted = self.model, int(ops.convert_to_numpy(self.model.batches))

    def _save(
        self, epoch: int, batch: int, logs: dict[str, float] | None = None, ended: bool = False
    ) -> None:
        task = self.model
        synchronize(task)
        epochs, history = list(task.history.epoch), {**task.history.history}
        if logs is not None and epochs[-1:] != [epoch - 1]:  # Keras's own comes behind
            epochs.append(epoch - 1)
            for name, value in logs.items():
                history[name] = [*history.get(name, []), value]
        batches = int(ops.convert_to_numpy(task.batches))
        self._last = Progress(
            epoch,
            batch,
            batches,
            task.training_data.batches_an_epoch,
            self._epochs_read,
            self._read_before + batches - self._start,
            self.params["epochs"],
            ended,
            logs or {},
            epochs,
            {k: [float(x) for x in v] for k, v in history.items() if all(map(_is_number, v))},
        )
        self._write(self._last)
        self._batches_since, self._time = 0, time.monotonic()
        self._leave_if_asked_to()

    def _write(self, progress: Progress) -> None:
        self._wait()  # for memory: not two snapshots at once
        snapshot = Snapshot(self.model)
        if process_index(self.model):
            return

        def write() -> None:
            if not snapshot.is_finite:
                raise _NotSavedError(
                    "Expected finite weights. Received: NaN or infinity after batch "
                    f"{progress.batches}, of which there is no checkpoint"
                )
            try:
                self._folder.write(snapshot, progress)
            except OSError as error:
                raise _NotSavedError(
                    f"Expected to write a checkpoint of batch {progress.batches} in "
                    f"{str(self._folder.path)!r}. Received: {error!r}"
                ) from error

        self._background.start(write)

    def _wait(self) -> None:
        """Waits for the file that is being written; one that cannot be is worth a warning, no more."""
        try:
            self._background.wait()
        except _NotSavedError as error:
            warnings.warn(
                f"{error}. The training goes on, and checkpoints that were there are there still",
                stacklevel=2,
            )

    def _leave_if_asked_to(self) -> None:
        (self._signal,) = self._agreement.now([max(self._signal, self._signals.received or 0)])
        if self._signal:
            self._wait()
            raise SystemExit(128 + self._signal)


class _NotSavedError(Exception):
    """Why there is no checkpoint."""


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiub"
