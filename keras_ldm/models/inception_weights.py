"""The published weights of the Inception-v3 of FID, from a file of PyTorch."""

import os
from collections.abc import Iterator

import keras

from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.inception_v3 import InceptionV3
from keras_ldm.models.torch_weights import assign_torch_file, unit_places


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
    assign_torch_file(weights, _places(network), "Inception-v3 as pytorch-fid names them")
    return network


def _places(network: InceptionV3) -> Iterator[tuple[str, keras.Variable]]:
    for name, unit in network.units.items():
        yield from unit_places(unit, f"{name}.conv", f"{name}.bn")
    yield "fc.weight", network.fc.kernel
