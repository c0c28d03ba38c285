"""Weights of feature networks from PyTorch's files, in which outputs come first."""

import os
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from keras_ldm.files import read_tensors
from keras_ldm.layers import ConvUnit

Places = Iterable[tuple[str, keras.Variable]]
"""Names in a file, each with the variable that it is for."""


def unit_places(unit: ConvUnit, conv: str, norm: str) -> Iterator[tuple[str, keras.Variable]]:
    """The places of a unit's weights, of whose parts PyTorch has these names."""
    yield f"{conv}.weight", unit.conv.kernel
    yield f"{norm}.weight", unit.norm.gamma
    yield f"{norm}.bias", unit.norm.beta
    yield f"{norm}.running_mean", unit.norm.moving_mean
    yield f"{norm}.running_var", unit.norm.moving_variance


def assign_torch_file(path: str | os.PathLike[str], places: Places, what: str) -> None:
    """Assigns weights from a file that `torch.save` or safetensors wrote.

    Args:
        path: the file.
        places: which weight is for which variable; others in the file do not matter.
        what: whose weights they are, for the error message.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file lacks a weight, or one has another shape.
    """
    with read_tensors(path) as file:
        names = set(file)
        for name, variable in places:
            if name not in names:
                raise ValueError(
                    f"Expected weights of {what}, such as {name!r}. "
                    f"Received: {os.fspath(path)}, which lacks it"
                )
            value = np.asarray(file[name], np.float32)
            if value.ndim > 1:  # of a depthwise convolution (channels, 1, h, w), to (h, w, channels, 1)
                depthwise = value.shape[1] == 1 and variable.shape[-1] == 1
                value = value.transpose(*range(2, value.ndim), *((0, 1) if depthwise else (1, 0)))
            if value.shape != tuple(variable.shape):
                raise ValueError(
                    f"Expected {name!r} of shape {tuple(variable.shape)}, outputs last. "
                    f"Received: {os.fspath(path)}, with shape {value.shape}"
                )
            variable.assign(value)
