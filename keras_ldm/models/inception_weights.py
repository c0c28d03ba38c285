"""The published weights of the Inception-v3 of FID, from a file of PyTorch."""

import os
from collections.abc import Iterator

import keras
import numpy as np

from keras_ldm.files import read_tensors
from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.inception_v3 import InceptionV3


def pretrained_inception(
    weights: str | os.PathLike[str], resize_mode: ResizeMode = "bilinear_legacy"
) -> InceptionV3:
    """An `InceptionV3` with published weights.

    Args:
        weights: a file that `torch.save` or safetensors wrote, with the weights of 2015 under the names
            that pytorch-fid and torch-fidelity have for them, such as
            `weights-inception-2015-12-05-6726825d.pth` or `pt_inception-2015-12-05-6726825d.pth`.
        resize_mode: see `InceptionV3`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file lacks a weight, or one has another shape, as those of torchvision's
            network of 1,000 classes have.
    """
    network = InceptionV3(resize_mode)
    with read_tensors(weights) as file:
        names = set(file)
        for name, variable in _places(network):
            if name not in names:
                raise ValueError(
                    f"Expected weights of Inception-v3 as pytorch-fid names them, such as {name!r}. "
                    f"Received: {os.fspath(weights)}, which lacks it"
                )
            value = np.asarray(file[name], np.float32)
            value = value.transpose(*range(2, value.ndim), 1, 0) if value.ndim > 1 else value
            if value.shape != tuple(variable.shape):
                raise ValueError(
                    f"Expected {name!r} of shape {tuple(variable.shape)}, outputs last. "
                    f"Received: {os.fspath(weights)}, with shape {value.shape}"
                )
            variable.assign(value)
    return network


def _places(network: InceptionV3) -> Iterator[tuple[str, keras.Variable]]:
    """Names in the file, with the variables that they are for."""
    for name, unit in network.units.items():
        yield f"{name}.conv.weight", unit.conv.kernel
        yield f"{name}.bn.weight", unit.norm.gamma
        yield f"{name}.bn.bias", unit.norm.beta
        yield f"{name}.bn.running_mean", unit.norm.moving_mean
        yield f"{name}.bn.running_var", unit.norm.moving_variance
    yield "fc.weight", network.fc.kernel
