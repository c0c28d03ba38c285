"""What of a task goes into files, and how it comes back."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

import keras

from keras_ldm.backend import check_outside_strategy, process_index, whole_values
from keras_ldm.files import atomic_path
from keras_ldm.tasks.compiled_metrics import PREFIX, load_networks, save_networks
from keras_ldm.tasks.gradient_norm import GradientNorm
from keras_ldm.tasks.loading import ENDINGS, load
from keras_ldm.tasks.registry import get_preset
from keras_ldm.types import Config


class StoredTask(keras.Model):
    """A model that a `.keras` file holds with everything that its training needs to go on."""

    gradient_norm: GradientNorm | None

    @abstractmethod
    def build_optimizer(self) -> None:
        """Makes the optimizer's state, if it has none yet."""

    def get_compile_config(self) -> Config | None:
        """What `compile` was given, as far as a file can hold it."""
        config: Config | None = super().get_compile_config()
        if config and self.gradient_norm is not None:
            config["diagnostics"] = True
        return config

    def compile_from_config(self, config: Config) -> None:
        """Compiles as a saved task was compiled, and makes the optimizer's state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.build_optimizer()

    def seed_states(self) -> list[keras.Variable]:
        """The states of all that draws random numbers in training."""
        return [v for v in self.variables if v.name == "seed_generator_state"]

    def save_own_variables(self, store: Any) -> None:
        """Saves the task's own state, with the states of all seeds in it, which Keras leaves out."""
        super().save_own_variables(store)
        save_networks(self, store)
        for i, state in enumerate(self.seed_states()):
            store[f"seed{i}"] = state

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables(
            {key: store[key] for key in list(store.keys()) if not key.startswith(("seed", PREFIX))}
        )
        for i, state in enumerate(self.seed_states()):
            state.assign(store[f"seed{i}"])
        load_networks(self, store)

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True, **kwargs: Any) -> None:
        """Saves everything to a `.keras` file: weights, optimizer, EMA, seeds, configuration.

        It is written beside and renamed, so that a file of that name is never half-written. Of several
        processes that train together the first one writes; where weights are divided over them, on JAX,
        all have to call this.

        Args:
            filepath: path ending in `.keras`.
            overwrite: whether to replace a file of that name.
            **kwargs: see `keras.Model.save`.

        Raises:
            ValueError: if the path does not end in `.keras`; with several processes on TensorFlow,
                within the scope of their strategy.
            FileExistsError: if there is such a file and `overwrite` is False.
            IsADirectoryError: if there is a folder of that name.
        """
        path = Path(filepath)
        if path.suffix != ".keras":
            raise ValueError(f"Expected a path that ends in '.keras'. Received: {str(path)!r}")
        check_outside_strategy(self, "save")
        optimizer = getattr(self, "optimizer", None)
        with whole_values([*self.variables, *getattr(optimizer, "variables", ())]):
            if process_index(self):
                return
            if path.exists() and not overwrite:
                raise FileExistsError(f"Expected no file of that name. Received: {str(path)!r}")
            with atomic_path(path) as temporary:
                super().save(temporary, overwrite=True, **kwargs)

    @classmethod
    def from_preset(cls, handle: str | os.PathLike[str]) -> Any:
        """A task from the name of a preset or the path of a saved `.keras` file or a checkpoint.

        Args:
            handle: name or path.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if there is no such preset (the message lists those there are), or the file
                is damaged or holds something else.
        """
        name = os.fspath(handle)
        task = load(name) if name.endswith(ENDINGS) else get_preset(name)()
        if not isinstance(task, cls):
            raise ValueError(f"Expected a {cls.__name__}. Received: {name!r}, {type(task).__name__}")
        return task
