"""The Inception-v3 of FID against torch-fidelity's, from files of random weights, theirs and
TensorFlow's; resizing against torch-fidelity, PyTorch and Pillow."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import ops
from PIL import Image

from keras_ldm.files.graph_def import read_graph_def
from keras_ldm.layers import resize_images
from keras_ldm.models import inception_weights, pretrained_inception
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


@pytest.fixture(scope="module")
def ours(theirs):
    return pretrained_inception(theirs[1])


def pictures(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 12, 9, 3)).astype("uint8")
    return np.stack([np.asarray(Image.fromarray(x).resize((width, height), 3)) for x in small])


@pytest.mark.parametrize("sides", [(32, 32), (299, 299), (340, 410)])
def test_features_are_torch_fidelitys(theirs, ours, sides) -> None:
    network, _ = theirs
    images = pictures(2, *sides)
    block = {}
    network.Mixed_6d.branch1x1.register_forward_hook(lambda *x: block.update(spatial=x[-1]))
    with torch.no_grad():
        pooled, logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    spatial = block["spatial"][:, :7].permute(0, 2, 3, 1).reshape(2, -1)
    found = ours(ops.convert_to_tensor(images))
    expected = {"pooled": pooled, "spatial": spatial, "logits": logits}
    for name, value in expected.items():
        value = value.numpy()
        assert value.std() > 1e-3
        np.testing.assert_allclose(numpy(found[name]), value, rtol=1e-4, atol=1e-4 * value.std())


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


# === TensorFlow's graph of 2015 ===


def several(branch: str, count: int) -> list[str]:
    return [f"{branch}_{i + 1}" for i in range(count)]


# Each block in the order in which TensorFlow made it: a convolution, or a tower, with two beside each
# other at the end of some.
STEM = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
POOL = ["branch_pool"]
A = ["branch1x1", several("branch5x5", 2), several("branch3x3dbl", 3), POOL]
B = ["branch3x3", several("branch3x3dbl", 3)]
C = ["branch1x1", several("branch7x7", 3), several("branch7x7dbl", 5), POOL]
D = [several("branch3x3", 2), several("branch7x7x3", 4)]
SHORT = ["branch3x3_1", ["branch3x3_2a", "branch3x3_2b"]]
LONG = [*several("branch3x3dbl", 2), ["branch3x3dbl_3a", "branch3x3dbl_3b"]]
E = ["branch1x1", SHORT, LONG, POOL]
BLOCKS = {
    "5b": A,
    "5c": A,
    "5d": A,
    "6a": B,
    "6b": C,
    "6c": C,
    "6d": C,
    "6e": C,
    "7a": D,
    "7b": E,
    "7c": E,
}
NORMALIZATION = {
    "beta": "bias",
    "gamma": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def graph_of(state: dict[str, torch.Tensor]) -> tf.Graph:
    """The constants of the graph, in scopes that TensorFlow itself numbers."""

    def make(name: str) -> None:
        with tf.name_scope("conv"):
            kernel = state[f"{name}.conv.weight"].permute(2, 3, 1, 0)
            tf.constant(kernel.numpy(), name="conv2d_params")
            with tf.name_scope("batchnorm"):
                for here, there in NORMALIZATION.items():
                    tf.constant(state[f"{name}.bn.{there}"].numpy(), name=here)

    def make_all(block: str, parts: list, scope: str, *inner: str) -> None:
        with tf.name_scope(scope):
            for part in parts:
                if isinstance(part, str):
                    make(f"Mixed_{block}.{part}")
                else:
                    make_all(block, part, *inner)

    graph = tf.Graph()
    with graph.as_default():
        tf.constant(b"\xff\xd8\xff" * 1000, name="DecodeJpeg/contents")
        for name in STEM:
            make(name)
        for block, parts in BLOCKS.items():
            make_all(block, parts, "mixed", "tower", "mixed")
        with tf.name_scope("softmax"):
            tf.constant(state["fc.weight"].T.numpy(), name="weights")
            tf.constant(state["fc.bias"].numpy(), name="biases")
    return graph


def test_the_graph_of_tensorflow_gives_the_same_network(theirs, ours, tmp_path) -> None:
    graph = graph_of(theirs[0].state_dict())
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    with read_graph_def(path) as constants:
        assert len(constants) == 94 * 5 + 2 and "DecodeJpeg/contents" not in constants
        for name in (  # as the published file has them
            "conv_4/conv2d_params",
            "mixed/tower_2/conv/batchnorm/moving_variance",
            "mixed_3/tower/conv_2/conv2d_params",
            "mixed_7/tower_1/conv_4/batchnorm/beta",
            "mixed_8/tower_1/conv_3/conv2d_params",
            "mixed_9/tower/mixed/conv_1/conv2d_params",
            "mixed_10/tower_1/mixed/conv/batchnorm/gamma",
            "softmax/weights",
        ):
            np.testing.assert_array_equal(
                constants[name], tf.make_ndarray(graph.get_operation_by_name(name).get_attr("value"))
            )
    found = pretrained_inception(path)
    for variable, expected in zip(found.variables, ours.variables, strict=True):
        np.testing.assert_array_equal(numpy(variable), numpy(expected), err_msg=variable.path)
    images = ops.convert_to_tensor(pictures(1, 64, 64))
    for name, value in ours(images).items():
        np.testing.assert_array_equal(numpy(found(images)[name]), numpy(value))


def test_other_graphs_are_refused(tmp_path) -> None:
    def written(name: str, **constants: np.ndarray) -> Path:
        graph = tf.Graph()
        with graph.as_default(), tf.name_scope("conv"):
            for key, value in constants.items():
                tf.constant(value, name=key)
        (tmp_path / name).write_bytes(graph.as_graph_def().SerializeToString())
        return tmp_path / name

    with pytest.raises(ValueError, match="a constant 'conv/conv2d_params'.*other.pb, which lacks it"):
        pretrained_inception(written("other.pb", weights=np.ones((3, 3, 3, 32), "float32")))
    with pytest.raises(ValueError, match=r"of shape \(3, 3, 3, 32\).*\(3, 3, 32, 3\)"):
        pretrained_inception(written("turned.pb", conv2d_params=np.ones((3, 3, 32, 3), "float32")))


def test_downloaded_weights_are_found(theirs, ours, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "there"))
    folder = tmp_path / "there" / "hub" / "checkpoints"
    names = "pt_inception-2015-12-05-6726825d.pth.*weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(FileNotFoundError, match=f"{names}.* in {folder}"):
        pretrained_inception()
    folder.mkdir(parents=True)
    (folder / "weights-inception-2015-12-05-6726825d.pth").symlink_to(theirs[1])
    network = pretrained_inception()
    for variable, expected in zip(network.variables, ours.variables, strict=True):
        np.testing.assert_array_equal(numpy(variable), numpy(expected))
    (folder / "pt_inception-2015-12-05-6726825d.pth").symlink_to(theirs[1])
    assert inception_weights._downloaded().name.startswith("pt_")
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "cache/torch/hub/checkpoints")):
        pretrained_inception()
