"""The published weights of the Inception-v3 of FID, from a file of PyTorch or the graph of 2015."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from keras_ldm.files.graph_def import read_graph_def
from keras_ldm.layers.resizing import ResizeMode
from keras_ldm.models.inception_v3 import InceptionV3
from keras_ldm.models.torch_weights import assign_torch_file, unit_places

_DOWNLOADED = (
    "pt_inception-2015-12-05-6726825d.pth",  # by pytorch-fid
    "weights-inception-2015-12-05-6726825d.pth",  # by torch-fidelity
)


def pretrained_inception(
    weights: str | os.PathLike[str] | None = None, resize_mode: ResizeMode = "bilinear_legacy"
) -> InceptionV3:
    """An `InceptionV3` with published weights.

    Args:
        weights: a file that `torch.save` or safetensors wrote, with the weights of 2015 under the names
            that pytorch-fid and torch-fidelity have for them, such as
            `weights-inception-2015-12-05-6726825d.pth` or `pt_inception-2015-12-05-6726825d.pth`; or,
            ending in `.pb`, the graph that TensorFlow published, `classify_image_graph_def.pb` of
            `inception-2015-12-05.tgz`. None takes the file that either package has left in PyTorch's
            cache, `$TORCH_HOME/hub/checkpoints` or `~/.cache/torch/hub/checkpoints`.
        resize_mode: see `InceptionV3`.

    Raises:
        FileNotFoundError: if there is no such file, or None is given and neither is in the cache.
        ValueError: if the file lacks a weight, or one has another shape, as those of torchvision's
            network of 1,000 classes have.
    """
    path = _downloaded() if weights is None else Path(weights)
    network = InceptionV3(resize_mode)
    if path.suffix == ".pb":
        _assign_graph(path, network)
    else:
        assign_torch_file(path, _places(network), "Inception-v3 as pytorch-fid names them")
    return network


def _downloaded() -> Path:
    """The file in PyTorch's cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(os.environ.get("TORCH_HOME") or Path(caches) / "torch").expanduser()
    folder = home / "hub" / "checkpoints"
    for name in _DOWNLOADED:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"Expected a file of weights, or one of {', '.join(_DOWNLOADED)}, which pytorch-fid and "
        f"torch-fidelity download, in {folder}. Received: weights=None, and neither is there"
    )


def _places(network: InceptionV3) -> Iterator[tuple[str, keras.Variable]]:
    for name, unit in network.units.items():
        yield from unit_places(unit, f"{name}.conv", f"{name}.bn")
    yield "fc.weight", network.fc.kernel


# === The graph ===


def _assign_graph(path: Path, network: InceptionV3) -> None:
    """Assigns the constants of TensorFlow's graph, in which, as here, outputs come last."""
    with read_graph_def(path) as file:
        for name, variable in _graph_places(network):
            if name not in file:
                raise ValueError(
                    f"Expected the graph of Inception-v3 of 2015, with a constant {name!r}. "
                    f"Received: {path}, which lacks it"
                )
            value = np.asarray(file[name], np.float32)
            if value.shape != tuple(variable.shape):
                raise ValueError(
                    f"Expected {name!r} of shape {tuple(variable.shape)}. "
                    f"Received: {path}, with shape {value.shape}"
                )
            variable.assign(value)


def _graph_places(network: InceptionV3) -> Iterator[tuple[str, keras.Variable]]:
    names = _scopes(network.units)
    for name, unit in zip(names, network.units.values(), strict=True):
        yield f"{name}/conv2d_params", unit.conv.kernel
        yield f"{name}/batchnorm/gamma", unit.norm.gamma
        yield f"{name}/batchnorm/beta", unit.norm.beta
        yield f"{name}/batchnorm/moving_mean", unit.norm.moving_mean
        yield f"{name}/batchnorm/moving_variance", unit.norm.moving_variance
    yield "softmax/weights", network.fc.kernel


def _scopes(units: Iterable[str]) -> Iterator[str]:
    """The graph's names of the units.

    TensorFlow has numbered them as they were made: the blocks are mixed, mixed_1 …; in each, a branch of
    one convolution is conv, those of several, or of one behind a pool, are tower, tower_1 … with
    convolutions conv, conv_1 … in them. Two beside each other at the end of a tower are a block again.
    """
    stem, blocks, towers = 0, list[str](), list[str]()
    for name in units:
        block, _, unit = name.rpartition(".")
        if not block:
            yield _numbered("conv", stem)
            stem += 1
            continue
        if block not in blocks:
            blocks.append(block)
            towers = []
        scope = _numbered("mixed", len(blocks) - 1)
        branch, _, place = unit.rpartition("_")
        if not branch:
            yield f"{scope}/conv"
            continue
        if branch not in towers:
            towers.append(branch)
        scope = f"{scope}/{_numbered('tower', towers.index(branch))}"
        if place[-1] in "ab":
            yield f"{scope}/mixed/{_numbered('conv', 'ab'.index(place[-1]))}"
        else:
            yield f"{scope}/{_numbered('conv', 0 if place == 'pool' else int(place) - 1)}"


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name
