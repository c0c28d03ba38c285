"""What a training would take: parameters, memory, time."""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ldm.tasks import Task
from keras_ldm.tasks.inputs import TaskDataset


class Trial:
    """Trains two steps, of which the first compiles.

    Args:
        task: compiled or not; it is trained by that.
        data: what its `fit` takes.
        fit: further arguments of `fit`.

    Raises:
        ValueError: if the task does not take the data.
    """

    def __init__(self, task: Task, data: Any, fit: dict[str, Any]) -> None:
        self.task = task
        size, steps = fit.get("batch_size"), fit.get("steps_per_epoch")
        whole = TaskDataset(data, task.preprocess, batch_size=size, steps=steps, restart=False)
        self.batches, self.epochs = whole.batches_an_epoch, fit.get("epochs", 1)
        self.shapes = {name: value.shape for name, value in whole.examples(1)[0].items()}
        self._clock = _Clock()
        few = {**fit, "epochs": 1, "steps_per_epoch": min(2, self.batches), "verbose": 0}
        task.fit(data, callbacks=[self._clock], **few)

    def report(self) -> str:
        """A table."""
        task, optimizer = self.task, self.task.optimizer.variables
        lines = [("task", type(task).__name__)]
        for layer in task.layers:
            if (count := layer.count_params()) and not isinstance(layer, keras.metrics.Metric):
                trained = sum(int(np.prod(v.shape)) for v in layer.trainable_variables)
                lines.append((f"  {layer.name}", f"{count:,} parameters, {trained:,} trained"))
        gradients = _bytes(task.trainable_variables)
        for name, size in (
            ("weights and averages", _bytes(task.variables)),
            ("optimizer", _bytes(optimizer)),
            ("gradients", gradients),
        ):
            lines.append((name, f"{size / 2**20:,.1f} MiB"))
        if (peak := _peak_memory()) is not None:
            lines.append(("largest the process was", f"{peak:,.0f} MiB"))
        lines += [(f"batch: {name}", str(shape)) for name, shape in self.shapes.items()]
        seconds = self._clock.seconds
        lines.append(("first step, with compiling", f"{seconds[0]:.2f} s"))
        if len(seconds) > 1:
            lines.append(("second step", f"{seconds[1]:.2f} s"))
            total = seconds[1] * self.batches
            lines.append(("an epoch", f"{self.batches:,} batches, about {_duration(total)}"))
            lines.append((f"{self.epochs} epochs", f"about {_duration(total * self.epochs)}"))
        loss = self._clock.loss
        lines.append(("loss", f"{loss:.6g}" + ("" if np.isfinite(loss) else ": not a finite number")))
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


class _Clock(keras.callbacks.Callback):
    """Seconds of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.loss = float("nan")

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.loss = float((logs or {})["loss"])
        self.seconds.append(time.perf_counter() - self._start)


def _bytes(variables: Any) -> int:
    return sum(int(np.prod(v.shape)) * _width(v.dtype) for v in variables)


def _width(dtype: str) -> int:
    """Bytes of a number."""
    digits = "".join(c for c in keras.backend.standardize_dtype(dtype) if c.isdigit())
    return max(1, int(digits or 8) // 8)


def _peak_memory() -> float | None:
    """The most memory the process had, in MiB; None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else None


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
