"""What a task draws with, in one small file: the averaged weights, under this package's own names.

A `.keras` file holds what training needs to go on: weights, their averages, the optimizer's moments, in
float32. To publish a model takes a tenth of that: the weights that `generate` uses, in half precision.
The file is safetensors and knows nothing of the model; whoever loads it makes a task of the same
configuration first.
"""

import os
from collections.abc import Iterator

import numpy as np

from keras_ldm.files import read_tensors, write_safetensors
from keras_ldm.tasks import LatentDiffusion
from keras_ldm.types import Array
from keras_ldm.weights.table import NameTable


def _names(task: LatentDiffusion, averaged: bool) -> NameTable:
    """Paths of the variables within each part; with the averages in place of what they follow."""
    averages = task.ema.by_source() if averaged and task.ema is not None else {}
    parts = {
        "autoencoder": task.autoencoder.weights,
        "unet": task.unet.weights,
        "conditioner": [] if task.conditioner is None else task.conditioner.weights,
        "latent_space": [task.latent_space.mean, task.latent_space.std],
    }
    table = NameTable()
    for part, variables in parts.items():
        for variable in variables:
            _, _, path = variable.path.partition("/")
            table.variable(averages.get(id(variable), variable), f"{part}/{path}")
    return table


def save(task: LatentDiffusion, path: str | os.PathLike[str], dtype: str = "float16") -> None:
    """Writes what a task draws with to a safetensors file.

    Args:
        task: a trained task.
        path: of the file; one of that name is replaced, whole or not at all.
        dtype: "float16" or "float32", of all tensors.

    Raises:
        ValueError: for another dtype, a task whose latents' scale is not known, or weights that are
            not finite in that dtype.
    """
    if dtype not in ("float16", "float32"):
        raise ValueError(f"Expected `dtype` to be 'float16' or 'float32'. Received: {dtype!r}")
    task.latent_space.require_measured()
    task.finish_average()

    def tensors() -> Iterator[tuple[str, Array]]:
        for name, array in _names(task, averaged=True).write_from():
            with np.errstate(over="ignore"):
                small = array.astype(dtype)
            if not np.isfinite(small).all():
                raise ValueError(
                    f"Expected weights that are finite in {dtype}. Received: {name} with values "
                    f"up to {np.abs(array).max():.4g}"
                )
            yield name, small

    write_safetensors(path, tensors())


def load(task: LatentDiffusion, path: str | os.PathLike[str]) -> None:
    """Gives a task the weights that `save` has written; they are also its averages then.

    Args:
        task: of the same configuration as the one that was saved.
        path: of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or names and shapes are not those of the task.
    """
    table = _names(task, averaged=False)
    with read_tensors(path) as tensors:
        table.check({name: tensors.shape(name) for name in tensors}, repr(os.fspath(path)))
        table.read_into(tensors)
    task.latent_space.measured.assign(1)
    if task.ema is not None:
        task.ema.restart()
