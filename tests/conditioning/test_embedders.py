"""Conditions other than text: what they become, what stands for none, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.conditioning import (
    ClassEmbedder,
    Conditioner,
    ImageEmbedder,
    LatentEmbedder,
    MaskEmbedder,
    SegmentationEmbedder,
    TokenEmbedder,
)
from keras_ldm.models import AutoencoderKL
from tests.contract import array, numpy

pytestmark = pytest.mark.backend


def embedded(embedder, raw, **kwargs) -> np.ndarray:
    (value,) = embedder(ops.convert_to_tensor(embedder.preprocess(raw)), **kwargs).values()
    return numpy(value)


def test_class_is_a_row_of_the_table() -> None:
    embedder = ClassEmbedder(4, 3)
    table = numpy(embedder.table.embeddings)
    np.testing.assert_array_equal(embedded(embedder, [2, 0]), table[[2, 0]][:, None])
    assert embedder.null(2).tolist() == [3, 3]
    assert ClassEmbedder(4, 3, null_class=1).null(1).tolist() == [1]


def test_class_as_it_is() -> None:
    embedder = ClassEmbedder(4, None, dropout=0.5, seed=0)
    (key,) = embedder(ops.convert_to_tensor([2, 0]))
    assert key == "class_label"
    assert not embedder.weights
    np.testing.assert_array_equal(embedded(embedder, [2, 0]), [2, 0])
    seen = embedded(embedder, np.zeros(100, int), training=True)
    assert set(seen) == {0, 3}


def test_classes_are_dropped_as_often_as_asked() -> None:
    embedder = ClassEmbedder(4, 3, dropout=0.25, seed=0)
    table = numpy(embedder.table.embeddings)
    labels = np.zeros(2000, int)
    values = embedded(embedder, labels, training=True)[:, 0]
    dropped = np.isclose(values, table[3]).all(axis=1)
    assert (dropped | np.isclose(values, table[0]).all(axis=1)).all()
    assert dropped.mean() == pytest.approx(0.25, abs=0.04)
    np.testing.assert_allclose(embedded(embedder, labels)[:, 0], np.tile(table[0], (2000, 1)))


def test_segmentation_is_the_share_of_each_class() -> None:
    embedder = SegmentationEmbedder(3, channels=None, num_halvings=2)
    maps = np.zeros((1, 8, 4), int)
    maps[0, :4, :2] = 1
    maps[0, 0, 0] = 2
    shares = embedded(embedder, maps)
    np.testing.assert_allclose(shares[0, :, 0], [[8 / 16, 7 / 16, 1 / 16], [1, 0, 0]])
    mixed = SegmentationEmbedder(3, channels=2, num_halvings=2, use_bias=True)
    kernel, bias = (numpy(w) for w in mixed.mix.weights)
    np.testing.assert_allclose(embedded(mixed, maps), shares @ kernel[0, 0] + bias, atol=1e-6)


def test_images_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    np.testing.assert_allclose(embedded(ImageEmbedder(3), images), images / 127.5 - 1, atol=1e-6)
    floats = (images / 127.5 - 1).astype("float32")
    np.testing.assert_allclose(embedded(ImageEmbedder(3), floats), floats)


def test_mask_takes_every_so_manieth_pixel() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (2, 8, 12)).astype(bool)
    expected = np.where(masks[:, ::4, ::4, None], 1.0, -1.0)
    for form in (masks, masks[..., None], masks.astype("float32"), masks.astype("uint8")):
        np.testing.assert_array_equal(embedded(MaskEmbedder(4), form), expected)


def test_latents_are_the_mode_and_train_nothing() -> None:
    autoencoder = AutoencoderKL((4, 4), 2, num_res_blocks=1, groups=2, middle_attention=False)
    embedder = LatentEmbedder(autoencoder)
    images = np.clip(array(2, 8, 8, 3), -1, 1)
    np.testing.assert_allclose(
        embedded(embedder, images), numpy(autoencoder.encode(images).mode()), atol=1e-5
    )
    assert not embedder.trainable_variables


def test_tokens_as_they_are() -> None:
    tokens = array(2, 5, 4)
    np.testing.assert_array_equal(embedded(TokenEmbedder(4), tokens), tokens)
    np.testing.assert_array_equal(embedded(TokenEmbedder(4), tokens[:, 0]), tokens[:, :1])
    assert not TokenEmbedder(4).null(2).any()


def test_maps_lie_side_by_side_in_order() -> None:
    conditioner = Conditioner({"b": ImageEmbedder(3, name="b"), "a": MaskEmbedder(2, name="a")})
    arrays = conditioner.preprocess(
        {"a": np.ones((1, 4, 4)), "b": np.zeros((1, 2, 2, 3), "float32"), "c": 0}
    )
    (concat,) = conditioner(arrays).values()
    np.testing.assert_array_equal(numpy(concat)[0, 0, 0], [0, 0, 0, 1])
    assert not conditioner.drops
    assert not conditioner.null_known


@pytest.mark.parametrize(
    ("embedder", "raw", "match"),
    [
        (lambda: ClassEmbedder(4, 3), [4], "from 0 to 3. Received: 4 to 4"),
        (lambda: ClassEmbedder(4, 3), [-1], "from 0 to 3. Received: -1"),
        (lambda: ClassEmbedder(4, 3), [1.0], "class labels as integers.*float64"),
        (lambda: ClassEmbedder(4, 3), [[1]], r"1 dimensions.*\(1, 1\)"),
        (lambda: SegmentationEmbedder(3), np.zeros((1, 6, 8), int), "divide by 4.*6"),
        (lambda: SegmentationEmbedder(3), np.full((1, 8, 8), 3), "from 0 to 2"),
        (lambda: ImageEmbedder(3), np.zeros((1, 8, 8, 4), "uint8"), r"\(batch, height, width, 3\)"),
        (lambda: ImageEmbedder(3), np.full((1, 8, 8, 3), 2.0), "float images in"),
        (lambda: MaskEmbedder(4), np.zeros((1, 6, 8)), "divide by 4"),
        (lambda: MaskEmbedder(4), np.full((1, 8, 8), 255), "0 and 1.*255"),
        (lambda: MaskEmbedder(4), np.full((1, 8, 8), "a"), "0 and 1"),
        (lambda: TokenEmbedder(4), np.zeros((2, 3)), r"\(batch, tokens, 4\).*\(2, 1, 3\)"),
        (lambda: TokenEmbedder(4), np.full((2, 4), np.nan), "finite embeddings"),
    ],
)
def test_bad_conditions(embedder, raw, match) -> None:
    with pytest.raises(ValueError, match=match):
        embedder().preprocess(raw)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\). Received: 1"):
        ClassEmbedder(4, 3, dropout=1)
    with pytest.raises(ValueError, match="null class from 0 to 3. Received: 4"):
        ClassEmbedder(4, 3, null_class=4)
    with pytest.raises(ValueError, match="no map stands for none"):
        MaskEmbedder(4).null(1)


@pytest.mark.parametrize(
    ("make", "raw"),
    [
        (lambda: ClassEmbedder(4, 3, null_class=1, dropout=0.3, seed=2), [1, 3]),
        (lambda: SegmentationEmbedder(3, 2, 1, use_bias=True), np.ones((1, 2, 2), int)),
        (lambda: MaskEmbedder(2), np.ones((1, 4, 4))),
        (lambda: TokenEmbedder(4, dropout=0.2), np.ones((1, 2, 4))),
        (lambda: ImageEmbedder(1), np.zeros((1, 2, 2, 1))),
    ],
)
def test_from_its_configuration(make, raw) -> None:
    embedder = make()
    config = keras.saving.serialize_keras_object(embedder)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == embedder.get_config()
    again.set_weights(embedder.get_weights())
    np.testing.assert_array_equal(embedded(again, raw), embedded(embedder, raw))
