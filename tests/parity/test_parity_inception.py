"""The Inception-v3 of FID against torch-fidelity's, from a file of random weights; resizing against
torch-fidelity, PyTorch and Pillow."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from PIL import Image

from keras_ldm.layers import resize_images
from keras_ldm.models import pretrained_inception
from tests.contract import numpy
from tests.parity import fidelity

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """torch-fidelity's network, which writes its weights as it reads them."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        names = ["2048", "logits_unbiased"]
        network = fidelity.FeatureExtractorInceptionV3("inception", names, str(path))
    for name, value in network.state_dict().items():
        if name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("bn.bias", "running_mean")):
            value.normal_(0, 0.2)
        elif name.endswith("conv.weight"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
    torch.save(network.state_dict(), path)
    return network, path


def pictures(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 12, 9, 3)).astype("uint8")
    return np.stack([np.asarray(Image.fromarray(x).resize((width, height), 3)) for x in small])


@pytest.mark.parametrize("sides", [(32, 32), (299, 299), (340, 410)])
def test_features_are_torch_fidelitys(theirs, sides) -> None:
    network, path = theirs
    images = pictures(2, *sides)
    block = {}
    network.Mixed_6d.branch1x1.register_forward_hook(lambda *x: block.update(spatial=x[-1]))
    with torch.no_grad():
        pooled, logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    spatial = block["spatial"][:, :7].permute(0, 2, 3, 1).reshape(2, -1)
    ours = pretrained_inception(path)(ops.convert_to_tensor(images))
    expected = {"pooled": pooled, "spatial": spatial, "logits": logits}
    for name, value in expected.items():
        value = value.numpy()
        assert value.std() > 1e-3
        np.testing.assert_allclose(numpy(ours[name]), value, rtol=1e-4, atol=1e-4 * value.std())


@pytest.mark.parametrize("sides", [(20, 27), (64, 64), (299, 299), (512, 341)])
def test_resizing(sides) -> None:
    images = pictures(2, *sides)
    nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).astype("float32"))
    legacy = fidelity.interpolate_bilinear_2d_like_tensorflow1x(
        nchw, size=(299, 299), align_corners=False
    )
    plain = torch.nn.functional.interpolate(nchw, size=(299, 299), mode="bilinear")

    def pillow(filter: Image.Resampling) -> np.ndarray:
        return np.stack(
            [
                np.stack(
                    [
                        np.asarray(Image.fromarray(channel.numpy()).resize((299, 299), filter))
                        for channel in image
                    ],
                    axis=-1,
                )
                for image in nchw
            ]
        )

    expected = {
        "bilinear_legacy": legacy.permute(0, 2, 3, 1).numpy(),
        "bilinear": plain.permute(0, 2, 3, 1).numpy(),
        "bilinear_antialias": pillow(Image.Resampling.BILINEAR),
        "bicubic_antialias": pillow(Image.Resampling.BICUBIC),
    }
    for mode, value in expected.items():
        found = numpy(resize_images(ops.convert_to_tensor(images), 299, mode))
        np.testing.assert_allclose(found, value, atol=0.01, err_msg=mode)


def test_other_weights_are_refused(theirs, tmp_path) -> None:
    state = theirs[0].state_dict()
    torch.save({**state, "fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.pth")
    with pytest.raises(ValueError, match=r"'fc.weight' of shape \(2048, 1008\).*\(2048, 1000\)"):
        pretrained_inception(tmp_path / "torchvision.pth")
    del state["Mixed_7c.branch_pool.conv.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ValueError, match="less.pth, which lacks it"):
        pretrained_inception(tmp_path / "less.pth")
    with pytest.raises(FileNotFoundError):
        pretrained_inception(tmp_path / "nothing.pth")


def test_a_network_comes_back_from_a_file(theirs, tmp_path) -> None:
    network = pretrained_inception(theirs[1], "bicubic_antialias")
    network.save(tmp_path / "inception.keras")
    again = keras.saving.load_model(tmp_path / "inception.keras")
    images = ops.convert_to_tensor(pictures(1, 40, 40))
    assert again.resize_mode == "bicubic_antialias" and not again.trainable_variables
    for name, value in network(images).items():
        np.testing.assert_array_equal(numpy(again(images)[name]), numpy(value))
