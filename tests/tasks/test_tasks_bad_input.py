"""What a task is given and cannot take, and what it says then."""

import numpy as np
import pytest

from keras_ldm.images import check_images, to_uint8
from keras_ldm.models import AutoencoderKL
from keras_ldm.tasks import AutoencoderTask, LatentDiffusion, TextToImage
from tests.tasks.tiny import (
    TinyAutoencoder,
    TinyUNet,
    autoencoder_task,
    captions,
    images,
    latent_diffusion,
    numpy,
    text_encoder,
    text_to_image,
)

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]


@pytest.fixture(scope="module")
def tasks():
    return {
        "autoencoder": autoencoder_task(),
        "diffusion": latent_diffusion(latent_scale=1.0),
        "words": text_to_image(tokenizer="bert_uncased"),
    }


def with_value(value):
    x = images(2).astype("float32") / 127.5 - 1.0
    x[1, 3, 4, 2] = value
    return x


BAD_IMAGES = {
    "one image": (images()[0], r"\(batch, height, width, 3\).*shape \(16, 16, 3\)"),
    "video": (images()[None], r"\(batch, height, width, 3\).*shape \(1, 10, 16, 16, 3\)"),
    "grey": (images()[..., :1], r"\(batch, height, width, 3\).*shape \(10, 16, 16, 1\)"),
    "alpha": (np.zeros((2, 16, 16, 4), "uint8"), r"width, 3\).*shape \(2, 16, 16, 4\)"),
    "channels first": (np.zeros((2, 3, 16, 16), "uint8"), r"width, 3\).*shape \(2, 3, 16, 16\)"),
    "odd side": (images(size=15), r"sides that divide by 2.*\(10, 15, 15, 3\)"),
    "no pixels": (images(size=0), r"sides that divide by 2.*\(10, 0, 0, 3\)"),
    "integers": (images().astype("int32"), r"uint8, or as floats in \[-1, 1\].*int32"),
    "booleans": (images() > 3, r"uint8, or as floats in \[-1, 1\].*bool"),
    "objects": (images().astype(object), r"uint8, or as floats in \[-1, 1\].*object"),
    "strings": (np.full((2, 16, 16, 3), "a"), r"uint8, or as floats in \[-1, 1\].*U1"),
    "0 to 255": (images().astype("float32"), r"floats? .*in \[-1, 1\].*from 0 to 255"),
    "above 1": (with_value(1.01), r"in \[-1, 1\].* to 1\.01"),
    "below -1": (with_value(-1.01), r"in \[-1, 1\].*from -1\.01"),
    "NaN": (with_value(np.nan), "finite images.*NaN"),
    "infinite": (with_value(np.inf), "finite images.*infinite"),
}


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_images_from_0_to_1_are_worth_a_warning(kind, tasks, recwarn) -> None:
    task = tasks[kind]
    with pytest.warns(
        UserWarning, match=r"in \[-1, 1\]. Received: values from 0 to 1, .*2 \* images - 1"
    ):
        task.preprocess({"image": images().astype("float32") / 255})
    recwarn.clear()
    dark = np.full((2, 16, 16, 3), 0.5, "float32")  # of one colour: nobody can tell
    for values in (images(), images().astype("float32") / 127.5 - 1, dark):
        task.preprocess({"image": values})
    assert not recwarn.list


@pytest.mark.parametrize("kind", list(BAD_IMAGES))
def test_bad_images(kind, tasks) -> None:
    data, match = BAD_IMAGES[kind]
    for task in (tasks["autoencoder"], tasks["diffusion"]):
        for method in (task.fit, task.evaluate):
            with pytest.raises(ValueError, match=match):
                method({"image": data}, verbose=0)
    with pytest.raises(ValueError, match=match):
        tasks["autoencoder"].predict(data, verbose=0)
    with pytest.raises(ValueError, match=match):
        tasks["diffusion"].encode_moments(data)


def test_images_at_the_edge_pass() -> None:
    for values in (with_value(1.0), with_value(-1.0).astype("float64"), with_value(0).astype("float16")):
        assert check_images(values, 3, 2).dtype == np.float32
    assert check_images(images(0), 3, 2).shape == (0, 16, 16, 3)
    assert to_uint8(np.array([-9.0, -1.0, 0.0, 1.0, 9.0])).tolist() == [0, 0, 128, 255, 255]


def test_sides_must_suit_both_networks() -> None:
    task = LatentDiffusion(TinyAutoencoder(), TinyUNet(channels=(4, 4, 4)))
    with pytest.raises(ValueError, match="divide by 8"):
        task.fit(images(size=20), verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_bad_batch_leaves_the_weights(method, place) -> None:
    # Keras empties the variables while it trains on JAX.
    task = autoencoder_task()
    task.compile("sgd")
    before = [numpy(v) for v in task.autoencoder.variables]
    batches = [images(4), images(4), images(4)]
    batches[place] = with_value(np.nan)
    # TensorFlow passes errors of later batches on as its own.
    with pytest.raises(Exception, match="finite images"):
        getattr(task, method)(batches, verbose=0)
    if method != "fit" or place == 0:
        assert all(
            (numpy(v) == b).all() for v, b in zip(task.autoencoder.variables, before, strict=True)
        )
    assert np.isfinite(task.predict(images(4), verbose=0)).all()
    assert np.isfinite(task.fit(images(4), verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([None, "a"], "strings.*dtype object"),
        (["a", 3], "3 of type int"),
        ([1, 2], r"token ids of shape \(batch, 6\).*shape \(2,\)"),
        ([1.0, 2.0], "strings.*float64.*1.0 of type float"),
        ([float("nan"), "a"], "nan of type float"),
        ([["a"], ["b"]], r"one-dimensional.*shape \(2, 1\)"),
        (captions(2)[:, :3], r"token ids of shape \(batch, 6\).*\(2, 3\)"),
        (captions(2).astype("float32"), "strings.*float32"),
        ([True, False], "strings.*bool"),
    ],
)
def test_bad_captions(values, match, tasks) -> None:
    with pytest.raises(ValueError, match=f"Expected.*{match}"):
        tasks["words"].fit({"image": images(2), "caption": values}, verbose=0)


def test_missing_captions(tasks) -> None:
    with pytest.raises(ValueError, match=r"conditions \['caption'\]. Received: \['image'\]"):
        tasks["words"].fit({"image": images(2)}, verbose=0)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 8, 8), (8, 8, 6)])
def test_bad_moments(shape, tasks) -> None:
    with pytest.raises(ValueError, match=r"moments of shape \(batch, height, width, 6\)"):
        tasks["diffusion"].fit({"moments": np.zeros(shape)}, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"parameterization": "eps"}, r"\['epsilon', 'flow', 'v', 'x0'\]. Received: 'eps'"),
        ({"weighting": "snr"}, r"\['min_snr', 'simple'\]. Received: 'snr'"),
        ({"timesteps": "even"}, r"\['stratified', 'uniform'\]. Received: 'even'"),
        ({"loss": "huber"}, "'l1' or 'l2'. Received: 'huber'"),
        ({"latent_scale": 0.0}, "latent scale > 0.*Received: 0.0"),
        ({"latent_scale": -1.0}, "latent scale > 0.*Received: -1.0"),
        ({"latent_scale": float("nan")}, "latent scale > 0.*Received: nan"),
        ({"image_size": (8, 8, 3)}, "image size.*Received"),
    ],
)
def test_bad_arguments(arguments, match) -> None:
    with pytest.raises(ValueError, match=f"Expected.*{match}"):
        latent_diffusion(**arguments)


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 output channels.*out_channels=4"):
        LatentDiffusion(TinyAutoencoder(), TinyUNet(out_channels=4))
    with pytest.raises(ValueError, match="'l1' or 'l2'. Received: 'l3'"):
        AutoencoderTask(TinyAutoencoder(), reconstruction_loss="l3")
    with pytest.raises(ValueError, match="at least one level"):
        AutoencoderKL(())
    with pytest.raises(ValueError, match=r"dropout rate in \[0, 1\). Received: 1.5"):
        text_to_image(caption_dropout=1.5)
    with pytest.raises(ValueError, match="'bert_uncased'.*Received: 'clip'"):
        text_to_image(tokenizer="clip")


def test_unet_without_context_for_captions() -> None:
    task = TextToImage(TinyAutoencoder(), TinyUNet(), text_encoder(), tokenizer=None)
    for _ in range(2):
        with pytest.raises(ValueError, match="Expected no `context`"):
            task.fit({"image": images(2), "caption": captions(2)}, verbose=0)
    assert all(np.isfinite(numpy(v)).all() for v in task.variables)
