"""What all tasks share: their inputs, defaults and loops."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import (
    BatchShare,
    batch_share,
    check_outside_strategy,
    copy_from_first_process,
    input_pipeline,
    inside_step,
    is_same_in_all,
    keep_freed_memory,
    merge_over_processes,
    prepare_updates,
    process_index,
    resolve_jit_compile,
    strategy_scope,
    whole_batches,
)
from keras_ldm.data.batch_sources import is_arrays
from keras_ldm.tasks.compiled_metrics import refuse_metrics
from keras_ldm.tasks.continuing import continuing, in_order
from keras_ldm.tasks.ema import ExponentialMovingAverage
from keras_ldm.tasks.gradient_norm import GradientNorm
from keras_ldm.tasks.inputs import TaskDataset
from keras_ldm.tasks.seeds import TaskSeedGenerator
from keras_ldm.tasks.step_functions import StepFunctions
from keras_ldm.tasks.stored_task import StoredTask
from keras_ldm.types import Array, Batch


class Task(StepFunctions, StoredTask):
    """A model with its objective and its preprocessing: what `fit`, `evaluate` and `predict` run.

    A subclass gives `preprocess` (raw batch -> arrays, on the host), `call` (arrays -> what the loss
    needs, drawing its randomness from `self.seed_generator`) and `compute_loss`.

    Data may be a dictionary of arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
    `DataLoader` or any iterable of dictionaries, with raw uint8 images and raw strings.

    Args:
        seed: of everything random in training.
        **kwargs: see `keras.Model`.
    """

    measures_images = False
    """Whether each step has images and reconstructions for compiled metrics."""

    def __init__(self, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        keep_freed_memory()
        self.seed = seed
        self.seed_generator = TaskSeedGenerator(seed)
        self.evaluation_seed_generator = TaskSeedGenerator(seed)
        self.batches = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="batches"
        )
        self.ema: ExponentialMovingAverage | None = None
        self.gradient_norm: GradientNorm | None = None
        self.training_data: TaskDataset | None = None
        self._initial_epoch: int | None = None  # Keras's: where `fit` begins
        self._read: tuple[Any, int] = (None, 0)  # the last generator, and the batches at its end

    # === What a task defines ===

    def preprocess(self, batch: Batch) -> dict[str, Array]:
        """Raw values to the arrays that `call` takes, on the host."""
        return {name: np.asarray(value) for name, value in batch.items()}

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer of `compile()` without arguments."""
        return keras.optimizers.AdamW(
            learning_rate=1e-4, weight_decay=1e-2, epsilon=1e-8, global_clipnorm=1.0
        )

    # === Training ===

    def compile(
        self,
        optimizer: Any = None,
        *,
        jit_compile: bool | str = "auto",
        diagnostics: bool = False,
        **kwargs: Any,
    ) -> None:
        """Prepares training; without arguments, with defaults that work.

        Args:
            optimizer: by default AdamW at a learning rate of 1e-4, with global-norm clipping.
            jit_compile: whether to use XLA; "auto" does where it is faster.
            diagnostics: whether the logs say more of each epoch: `gradient_norm`, the mean norm of all
                gradients before they are clipped, and what the task adds.
            **kwargs: see `keras.Model.compile`; a `loss` is not among them, the task has its own, and
                `metrics` are for tasks that have images and reconstructions at each step.

        Raises:
            ValueError: if a loss is given, or metrics that the task has no use for.
        """
        if kwargs.get("loss") is not None:
            raise ValueError(
                f"Expected no `loss`: {type(self).__name__} has its own. Received: {kwargs['loss']!r}"
            )
        if not self.measures_images:
            given = {name: kwargs.get(name) for name in ("metrics", "weighted_metrics")}
            refuse_metrics(type(self).__name__, **given)
        self.finish_average()
        if self.ema is not None:
            self.ema.pending.assign(0)
        super().compile(
            optimizer=self.default_optimizer() if optimizer is None else optimizer,
            jit_compile=resolve_jit_compile(jit_compile),
            **kwargs,
        )
        self.gradient_norm = GradientNorm(self.optimizer) if diagnostics else None
        prepare_updates(self.optimizer, self.gradient_norm)
        if self._compile_metrics is not None:  # now: files, and trainings that fail, need it
            images = keras.KerasTensor((None, None, None, 3))
            self._compile_metrics.build(images, images)

    def _dataset(
        self,
        data: Any,
        batch_size: int | None = None,
        steps: int | None = None,
        share: BatchShare | None = None,
        **kwargs: Any,
    ) -> TaskDataset:
        share = share or batch_share(self)
        dataset = TaskDataset(
            data, self.preprocess, batch_size=batch_size, steps=steps, share=share, **kwargs
        )
        dataset.examples(1)  # wrong data are refused here, before anything has started
        return dataset

    def _run(self, loop: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a loop of Keras, which on JAX empties the variables; an error leaves them so."""
        if process_index(self):  # one progress bar for all
            kwargs.setdefault("verbose", 0)
        if keras.backend.backend() != "jax":
            return loop(*args, **kwargs)
        optimizer = getattr(self, "optimizer", None)
        variables = [*self.variables, *self.metrics_variables, *getattr(optimizer, "variables", ())]
        values = [variable.value for variable in variables]
        try:
            return loop(*args, **kwargs)
        except BaseException:
            self.jax_state_sync()  # as after the last step, if there was one
            for variable, value in zip(variables, values, strict=True):
                if variable._value is None:
                    variable.assign(value)
            raise

    def build_optimizer(self) -> None:
        """Makes the optimizer's state, if it has none yet."""
        with strategy_scope(self):
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            if self.gradient_norm is not None:
                self.gradient_norm.build()

    def _prepare(self, dataset: TaskDataset) -> None:
        """Called with each of the data before training; a task may measure or check something."""

    def _begin_batch(self) -> None:
        """Called by `call` in training: counts, and takes the last update into the average."""
        if self.ema is not None:
            self.ema.before_batch(self._accumulation_steps)
        self.batches.assign(self.batches + 1)

    def finish_average(self) -> None:
        """Takes the last update into the average, which training does at its next step."""
        if self.ema is None:
            return
        if int(ops.convert_to_numpy(self.batches)):
            self.ema.finish(self._accumulation_steps)
        else:
            self.ema.restart()

    def fit(
        self,
        x: Any = None,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        validation_data: Any = None,
        validation_batch_size: int | None = None,
        validation_steps: int | None = None,
        callbacks: Any = None,
        shuffle: bool = True,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains.

        Args:
            x: the data, see the class.
            batch_size: for arrays only; 32 by default.
            epochs: number of the last epoch.
            validation_data: evaluated after each epoch, with the same noise each time.
            validation_batch_size: for arrays; `batch_size` by default.
            validation_steps: batches of validation, all by default.
            callbacks: a list of them; `keras_ldm.callbacks.Checkpoints` runs behind the others.
            shuffle: whether arrays get a new order each epoch.
            steps_per_epoch: batches an epoch; needed for data without an end.
            **kwargs: see `keras.Model.fit`.

        Returns:
            The history of losses and metrics.

        Raises:
            ValueError: if the data are empty or not of the form that the task takes; with several
                processes, if some have `Checkpoints` and some have not. On TensorFlow also if gradients
                are accumulated on several replicas; and with several processes, within the scope of
                their strategy, or for several steps an execution.
        """
        check_outside_strategy(self, "fit")
        if not self.compiled:
            self.compile()
        replicas = batch_share(self).devices if keras.backend.backend() == "tensorflow" else 1
        if replicas > 1 and self._accumulation_steps > 1:  # Keras updates within a condition
            raise ValueError(
                "Expected an optimizer without `gradient_accumulation_steps`, which TensorFlow cannot "
                f"run on several replicas. Received: {self._accumulation_steps} on {replicas} replicas"
            )
        copy_from_first_process(self.variables)
        dataset = self._dataset(
            x,
            batch_size,
            steps_per_epoch,
            restart=False,
            seed=self.seed if shuffle else None,
            batches_done=lambda: int(ops.convert_to_numpy(self.batches)),
        )
        if self.ema is not None and not int(ops.convert_to_numpy(self.batches)):
            self.ema.restart()
        self._prepare(dataset)
        if validation_data is not None:
            size = (validation_batch_size or batch_size) if is_arrays(validation_data) else None
            validation = self._dataset(validation_data, size, validation_steps)
            self._prepare(validation)
            validation_data = input_pipeline(validation)
        self.build_optimizer()
        callbacks = in_order(callbacks, self.gradient_norm)
        if not is_same_in_all(self, len(continuing(callbacks))):
            raise ValueError(
                "Expected `Checkpoints` among the callbacks of all processes that train together, or of "
                f"none. Received: {len(continuing(callbacks))} in process {process_index(self)}"
            )
        self.training_data, self._first_epoch = dataset, kwargs.get("initial_epoch", 0)
        try:
            return self._run(
                super().fit,
                input_pipeline(dataset),
                epochs=epochs,
                validation_data=validation_data,
                callbacks=callbacks,
                shuffle=False,
                **kwargs,
            )
        finally:
            if dataset.goes_on_by_itself:
                self._read = dataset.data, int(ops.convert_to_numpy(self.batches))
            self.training_data = self._initial_epoch = None
            for callback in continuing(callbacks):
                callback.on_fit_end()

    def continue_at(
        self, epoch: int, batch: int = 0, *, epochs_read: int = 0, batches_read: int = 0
    ) -> None:
        """Goes on in the middle of a training; for a callback that has brought back its state.

        What was read from the data is passed over, unless they are a generator or a `PyDataset` that
        this task has just read.

        Args:
            epoch: to begin with, from 0.
            batch: of that epoch to begin with, from 0.
            epochs_read: how often these data were gone through before.
            batches_read: how many batches were read from them.

        Raises:
            ValueError: outside `fit`, for an epoch before its `initial_epoch`, or for a generator that
                has been read further.
        """
        if self.training_data is None:
            raise ValueError(
                "Expected to be called while `fit` begins. Received: a task that is not in it"
            )
        data, read = self._read
        if data is not None and data is self.training_data.data:
            batches = int(ops.convert_to_numpy(self.batches))
            if read != batches and not self.training_data.can_be_read_again:
                raise ValueError(
                    "Expected a new generator, to go on from an earlier batch. "
                    f"Received: one that has been read up to batch {read}"
                )
            epochs_read = batches_read = 0
        if epoch < self._first_epoch:
            raise ValueError(
                f"Expected `initial_epoch` <= {epoch}, where the training goes on. "
                f"Received: {self._first_epoch}"
            )
        self._initial_epoch = epoch
        self.training_data.continue_at(batch, epochs_read, batches_read)

    def evaluate(
        self, x: Any = None, *, batch_size: int | None = None, steps: int | None = None, **kwargs: Any
    ) -> Any:
        """Measures the loss, with the same noise each time.

        Args:
            x: the data, see the class.
            batch_size: for arrays only; 32 by default.
            steps: batches to use, all by default.
            **kwargs: see `keras.Model.evaluate`.
        """
        if not self.compiled:
            self.compile()
        for unused in ("y", "sample_weight"):
            kwargs.pop(unused, None)
        if not kwargs.get("_use_cached_eval_dataset"):  # as `fit` does, with what it has prepared
            x = input_pipeline(self._dataset(x, batch_size, steps))
        self.finish_average()
        generator = self.evaluation_seed_generator
        generator.state.assign(ops.convert_to_tensor([self.seed, 0], dtype=generator.state.dtype))
        return self._run(super().evaluate, x, **kwargs)

    def predict(
        self, x: Any, *, batch_size: int | None = None, steps: int | None = None, **kwargs: Any
    ) -> Any:
        """Runs the model on data of the same form as `fit` takes."""
        dataset = self._dataset(x, batch_size, steps, share=whole_batches(self))
        return dataset.given(self._run(super().predict, input_pipeline(dataset), **kwargs))

    def compute_metrics(
        self, x: Any, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Takes `y` and `y_pred` into the compiled metrics, and gives all running measures."""
        with inside_step():
            return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        """All running measures; when the epoch is over, those of all processes."""
        merge_over_processes(self.metrics_variables)
        return super().get_metrics_result()

    @property
    def _accumulation_steps(self) -> int:
        optimizer = getattr(self, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        return getattr(optimizer, "gradient_accumulation_steps", None) or 1
