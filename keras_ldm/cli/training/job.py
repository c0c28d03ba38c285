"""A training from the command line: begun or gone on with, or only tried out."""

import argparse
from pathlib import Path

import keras

from keras_ldm.callbacks import Checkpoints
from keras_ldm.cli.training.plan import Plan, read_plan
from keras_ldm.cli.training.trial import Trial
from keras_ldm.tasks import Task


class TrainingJob:
    """Reads the plan and makes the task.

    Args:
        arguments: of the command line.

    Raises:
        FileNotFoundError: see `read_plan`.
        ValueError: see `read_plan`; or if what the file makes is no task.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        if arguments.dtype_policy is not None:
            keras.config.set_dtype_policy(arguments.dtype_policy)
        self.plan: Plan = read_plan(arguments)
        self.task = self.plan.make_task()
        if not isinstance(self.task, Task):
            raise ValueError(f"Expected make_task() to give a keras_ldm task. Received: {self.task!r}")

    def try_out(self) -> None:
        """Trains one step, and prints what it takes."""
        print(Trial(self.task, self.plan.make_data(), self.plan.fit).report())

    def run(self) -> None:
        """Trains to the end, and saves the task."""
        arguments, output = self.arguments, Path(self.arguments.output)
        checkpoints = Checkpoints(
            output / "checkpoints",
            every_minutes=arguments.checkpoint_minutes,
            keep=arguments.keep,
            keep_best=arguments.keep_best,
            monitor=arguments.monitor,
            mode=arguments.mode,
        )
        callbacks = [*self.plan.make_callbacks(), checkpoints]
        if arguments.log_dir is not None:
            callbacks.append(keras.callbacks.TensorBoard(arguments.log_dir, write_graph=False))
        try:
            history = self.task.fit(
                self.plan.make_data(),
                validation_data=self.plan.make_validation_data(),
                callbacks=callbacks,
                **self.plan.fit,
            )
        except KeyboardInterrupt:
            print(f"\nInterrupted. The same command goes on from {checkpoints.newest}.")
            raise
        path = output / "model.keras"
        self.task.save(path)
        for name, values in history.history.items():
            print(f"{name}: {values[-1]:.6g}")
        if checkpoints.best is not None and arguments.keep_best:
            print(f"best checkpoint by {arguments.monitor}: {checkpoints.best}")
        print(path)
