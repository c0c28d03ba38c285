"""What Keras's loops call for each step of a task."""

from typing import Any

import keras

from keras_ldm.backend import num_processes, release_after_first_call, share_of_logs


class StepFunctions(keras.Model):
    """A model whose steps give freed memory back, and run in several processes on TensorFlow too.

    With `tf.distribute.MultiWorkerMirroredStrategy` Keras's own `fit` ends with errors of TensorFlow: it
    reduces a first batch that one worker alone has, and takes means of numbers over an axis.
    """

    def make_train_function(self, force: bool = False) -> None:
        """Makes what `fit` calls for each step, or for each few."""
        several = keras.backend.backend() == "tensorflow" and num_processes(self) > 1
        if several and self.steps_per_execution > 1:  # TensorFlow cannot run what Keras makes of them
            raise ValueError(
                "Expected `steps_per_execution=1` with several processes on TensorFlow. "
                f"Received: {self.steps_per_execution}"
            )
        if force or self.train_function is None:
            super().make_train_function(force)
            self.train_function = release_after_first_call(self.train_function)

    def train_step(self, *args: Any) -> Any:
        """Keras's step of training."""
        return share_of_logs(self, super().train_step(*args))

    def test_step(self, *args: Any) -> Any:
        """Keras's step of evaluation."""
        return share_of_logs(self, super().test_step(*args))

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if num_processes(self) == 1:  # a task is built when it is made
            super()._maybe_symbolic_build(iterator, data_batch)
