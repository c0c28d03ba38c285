"""The checkpoints of a training: which there are, which is the last whole one, which may go."""

import math
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Literal

from keras_ldm.tasks.checkpoint import (
    SUFFIX,
    DamagedCheckpointError,
    Progress,
    Snapshot,
    check_whole,
    read_progress,
    shell_of,
)
from keras_ldm.tasks.task import Task

_NAME = re.compile(rf"checkpoint-(\d{{8,}}){re.escape(SUFFIX)}")


class CheckpointFolder:
    """A folder of files `checkpoint-{batches:08d}.safetensors`, and nothing half-written among them.

    Files of other names are left alone.

    Args:
        path: of the folder.
        keep: how many of the newest stay.
        keep_best: how many of those stay whose `monitor` is best, of the ones at the end of an epoch.
        monitor: what is compared.
        mode: whether "min" or "max" is best.
    """

    def __init__(
        self, path: Path, keep: int, keep_best: int, monitor: str, mode: Literal["min", "max"]
    ) -> None:
        self.path = path
        self.keep, self.keep_best = keep, keep_best
        self.monitor, self.mode = monitor, mode
        self._unfinished = path / ".unfinished"

    def prepare(self, task: Task) -> None:
        """Makes the folder, clears away what a process that was killed left unfinished, saves the task.

        Raises:
            OSError: if nothing can be written there.
        """
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True, exist_ok=True)
        probe = self._unfinished / "probe"
        probe.write_bytes(b"can be written")
        probe.replace(self.path / ".probe")
        (self.path / ".probe").unlink()
        shell = shell_of(self.path / "of it")
        if not shell.exists() or not self.paths():
            task.save(self._unfinished / shell.name)
            (self._unfinished / shell.name).replace(shell)

    def write(self, snapshot: Snapshot, progress: Progress) -> None:
        """Adds a checkpoint, then removes those that need not stay.

        Raises:
            OSError: if it cannot be written; those that were there are there still.
        """
        name = self.path_of(progress.batches).name
        snapshot.write(self._unfinished / name, progress)
        (self._unfinished / name).replace(self.path / name)
        _names_to_disk(self.path)
        staying = set(self.paths()[-self.keep :]) | set(self.best()[: self.keep_best])
        for path in self.paths():
            if path not in staying:
                path.unlink()

    def path_of(self, batches: int) -> Path:
        """The name of the checkpoint after so many batches."""
        return self.path / f"checkpoint-{batches:08d}{SUFFIX}"

    def batches_of(self, path: Path) -> int:
        """After how many batches a checkpoint was written, as its name says; -1 for another file."""
        match = _NAME.fullmatch(path.name)
        return int(match[1]) if match else -1

    def paths(self) -> list[Path]:
        """All checkpoints, the newest last."""
        numbers = {path: self.batches_of(path) for path in self.path.glob(f"*{SUFFIX}")}
        return sorted((path for path, number in numbers.items() if number >= 0), key=numbers.__getitem__)

    def best(self) -> list[Path]:
        """Those at the end of an epoch that measured `monitor`, the best first."""
        found = []
        for path in self.paths():
            try:
                value = read_progress(path).logs.get(self.monitor)
            except (DamagedCheckpointError, FileNotFoundError):
                continue
            if value is not None and not math.isnan(value):
                found.append((value if self.mode == "min" else -value, path))
        return [path for _, path in sorted(found)]

    def newest(self) -> Path | None:
        """The last whole checkpoint; None if there are none at all.

        Raises:
            ValueError: if none is whole.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                check_whole(path)
            except (DamagedCheckpointError, FileNotFoundError):  # another process may take one away
                continue
            return path
        if paths:
            raise ValueError(
                f"Expected a whole checkpoint in {str(self.path)!r}. Received: {len(paths)}, all of "
                "them damaged; an empty folder has room for a new training"
            )
        return None

    def put_aside_after(self, newest: Path) -> None:
        """Gives the damaged ones behind the last whole one another name, with a warning of each."""
        paths = self.paths()
        for path in paths[paths.index(newest) + 1 :]:
            aside = path.with_name(path.name + ".damaged")
            path.replace(aside)
            warnings.warn(
                f"Expected a whole checkpoint. Received: {str(path)!r}, which is damaged and is "
                f"{aside.name!r} now; {newest.name!r} counts",
                stacklevel=2,
            )


def _names_to_disk(folder: Path) -> None:
    """Waits until the names in a folder would outlive the machine, where the system can say so."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
