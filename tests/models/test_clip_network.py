"""Both networks of CLIP against their definition in float64, and the score of images and captions."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import erf, expit

from keras_ldm.layers import resize_images
from keras_ldm.metrics.clip_score import CLIPScore
from keras_ldm.models.clip import CLIP, clip_tokenizer
from keras_ldm.models.clip_image_network import CLIP_MEAN, CLIP_STD, CLIPImageNetwork
from keras_ldm.models.clip_text_network import CLIPTextNetwork
from keras_ldm.models.clip_weights import pretrained_clip
from tests.contract import numpy

pytestmark = pytest.mark.backend

SIZES = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2, "intermediate_dim": 12, "projection_dim": 6}
IMAGES = {**SIZES, "patch_size": 4, "image_size": 12}
TEXTS = {**SIZES, "vocabulary_size": 30, "max_length": 9, "end_token_id": 25}
ACTIVATIONS = {
    "quick_gelu": lambda x: x * expit(1.702 * x),
    "gelu": lambda x: x * (1 + erf(x / 2**0.5)) / 2,
}


def drawn(network: keras.Model) -> keras.Model:
    """New weights, so that none is 0 or 1; the numbers of the positions stay."""
    rng = np.random.default_rng(0)
    for variable in network.variables:
        if "float" in variable.dtype:
            variable.assign(variable.numpy() + 0.3 * rng.standard_normal(variable.shape))
    return network


# === The definition ===


def value(variable: keras.Variable) -> np.ndarray:
    return ops.convert_to_numpy(variable).astype("float64")


def normalized(x: np.ndarray, norm: keras.layers.Layer, epsilon: float) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon)
    return x * value(norm.gamma) + value(norm.beta)


def transformed(x, network, causal: bool) -> np.ndarray:
    epsilon, activation = network.sizes["epsilon"], ACTIVATIONS[network.sizes["activation"]]
    tokens = x.shape[1]
    hidden = np.triu(np.full((tokens, tokens), -np.inf), 1) if causal else np.zeros((tokens, tokens))
    for layer in network.encoder.encoder_layers:
        y, attention = normalized(x, layer.layer_norm_1, epsilon), layer.attention
        query, key, values = (
            np.einsum("btc,chd->bhtd", y, value(dense.kernel)) + value(dense.bias)[:, None]
            for dense in (attention.query_dense, attention.key_dense, attention.value_dense)
        )
        scores = np.einsum("bhsd,bhtd->bhst", query, key) / query.shape[-1] ** 0.5 + hidden
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = attention.output_dense
        x = x + np.einsum("bhst,bhtd,hdc->bsc", weights, values, value(out.kernel)) + value(out.bias)
        y = normalized(x, layer.layer_norm_2, epsilon)
        y = activation(y @ value(layer.dense_1.kernel) + value(layer.dense_1.bias))
        x = x + y @ value(layer.dense_2.kernel) + value(layer.dense_2.bias)
    return normalized(x, network.encoder.layer_norm, epsilon)


def images_by_definition(network: CLIPImageNetwork, pixels: np.ndarray) -> np.ndarray:
    encoder, size = network.encoder, network.sizes["patch_size"]
    x = (pixels / 255 - np.array(network.mean)) / np.array(network.std)
    batch, side = len(x), x.shape[1] // size
    patches = x.reshape(batch, side, size, side, size, 3).transpose(0, 1, 3, 2, 4, 5)
    kernel = value(encoder.embedding.patch_embedding.kernel)
    tokens = np.einsum("bijuvc,uvcd->bijd", patches, kernel).reshape(batch, side**2, -1)
    first = np.tile(value(encoder.embedding.class_embedding), (batch, 1, 1))
    tokens = np.concatenate([first, tokens], axis=1)
    tokens += value(encoder.embedding.position_embedding.embeddings)
    tokens = normalized(tokens, encoder.pre_layer_norm, network.sizes["epsilon"])
    return transformed(tokens, network, causal=False)[:, 0]


def texts_by_definition(network: CLIPTextNetwork, ids: np.ndarray) -> np.ndarray:
    embedding = network.encoder.embedding
    x = value(embedding.token_embedding.embeddings)[ids]
    x = x + value(embedding.position_embedding.position_embeddings)[: ids.shape[1]]
    x = transformed(x, network, causal=True)
    ends = [row.tolist().index(network.end_token_id) for row in ids]
    return x[np.arange(len(ids)), ends] @ value(network.projection.kernel)


def close(found, expected: np.ndarray) -> None:
    assert expected.std() > 0.1
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-4)


# === The networks ===


@pytest.mark.parametrize("options", [{}, {"activation": "gelu", "epsilon": 0.1, "mean": (0, 0.5, 1)}])
def test_images(options, tmp_path) -> None:
    network = drawn(CLIPImageNetwork(**IMAGES, **options))
    images = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3)).astype("uint8")
    hidden = images_by_definition(network, images.astype("float64"))
    found = network(ops.convert_to_tensor(images))
    close(found["hidden"], hidden)
    close(found["pooled"], hidden @ value(network.projection.kernel))
    close(network(ops.convert_to_tensor((images / 127.5 - 1).astype("float32")))["hidden"], hidden)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert not again.trainable_variables and again.get_config() == network.get_config()
    np.testing.assert_array_equal(numpy(again(images)["pooled"]), numpy(found["pooled"]))


def test_images_of_other_sizes() -> None:
    network = drawn(CLIPImageNetwork(**IMAGES, resize_mode="bilinear"))
    assert (network.mean, network.std) == (CLIP_MEAN, CLIP_STD)
    images = np.random.default_rng(2).integers(0, 256, (2, 40, 23, 3)).astype("uint8")
    square = images[:, 8:31].astype("float32")
    pixels = numpy(resize_images(ops.convert_to_tensor(square), 12, "bilinear"))
    expected = images_by_definition(network, pixels.astype("float64"))
    close(network(ops.convert_to_tensor(images))["hidden"], expected)
    sideways = ops.convert_to_tensor(images.transpose(0, 2, 1, 3))
    found = numpy(network.pixels(sideways))
    np.testing.assert_allclose(found, pixels.transpose(0, 2, 1, 3), atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"activation": "gelu", "epsilon": 0.1}])
def test_texts(options, tmp_path) -> None:
    network = drawn(CLIPTextNetwork(**TEXTS, **options))
    ids = np.array([[24, 3, 4, 25, 25, 25], [24, 29, 1, 2, 25, 7], [24, 25, 25, 25, 0, 29]], "int32")
    found = network(ids)
    close(found, texts_by_definition(network, ids))
    close(network(ids[:1, :4]), numpy(found)[:1])
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert not again.trainable_variables and again.get_config() == network.get_config()
    np.testing.assert_array_equal(numpy(again(ids)), numpy(found))


def test_networks_that_cannot_be_are_refused() -> None:
    for make, sizes in ((CLIPImageNetwork, IMAGES), (CLIPTextNetwork, TEXTS)):
        with pytest.raises(ValueError, match="'quick_gelu', 'gelu'. Received: 'relu'"):
            make(**sizes, activation="relu")
        with pytest.raises(ValueError, match="num_heads=3"):
            make(**{**sizes, "num_heads": 3})
    with pytest.raises(ValueError, match="a way to resize"):
        CLIPImageNetwork(**IMAGES, resize_mode="area")
    with pytest.raises(ValueError, match=r"width, 3\). Received: shape \(2, 12, 12, 1\)"):
        CLIPImageNetwork(**IMAGES)(ops.ones((2, 12, 12, 1)))


# === Captions ===

LETTERS = "abcdefghijkl"
TOKENS = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>", "ab"]
VOCABULARY = {token: index for index, token in enumerate(TOKENS)}


@pytest.fixture(scope="module")
def clip() -> CLIP:
    keras.utils.set_random_seed(0)
    tokenizer = clip_tokenizer(VOCABULARY, ["a b"])
    return CLIP(drawn(CLIPImageNetwork(**IMAGES)), drawn(CLIPTextNetwork(**TEXTS)), tokenizer)


def test_tokens(clip) -> None:
    texts = ["abc d", "", "A  L", "abcdefghijkl" * 3]
    rows = [[26, 14, 15], [], [12, 23], [26, *range(2, 8)]]
    expected = [[24, *row, 25] + [25] * (7 - len(row)) for row in rows]
    for given in (texts, np.array(texts), [text.encode() for text in texts]):
        np.testing.assert_array_equal(clip.tokens(given), expected)
    for wrong in ("abc", [["abc"]], [1, 2], [], [None]):
        with pytest.raises(ValueError, match="a one-dimensional array of strings"):
            clip.tokens(wrong)
    lacking = {token: index for token, index in VOCABULARY.items() if "end" not in token}
    for vocabulary, merges in (
        (lacking, ["a b"]),
        (VOCABULARY, ["a b", "a z"]),
        (VOCABULARY, ["a c"]),
        (VOCABULARY, ["a b", "ab"]),
    ):
        with pytest.raises(ValueError, match="vocabulary"):
            clip_tokenizer(vocabulary, merges)


def test_score(clip) -> None:
    rng, texts = np.random.default_rng(3), ["a", "bcd e", "ab", "l k", "", "cd"]
    images = rng.integers(0, 256, (6, 12, 12, 3)).astype("uint8")
    a = images_by_definition(clip.image_network, images.astype("float64"))
    a = a @ value(clip.image_network.projection.kernel)
    b = texts_by_definition(clip.text_network, clip.tokens(texts))
    cosines = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    each = np.maximum(100 * cosines, 0)
    assert (each == 0).any() and (each > 5).any()
    metric = CLIPScore(clip)
    metric.update_state(images[:3], texts[:3])
    metric.update_state(images[3:], np.array(texts[3:]))
    assert metric.name == "clip_score" and float(metric.result()) == pytest.approx(each.mean(), rel=1e-4)
    metric.reset_state()
    weights = np.arange(6, dtype="float32")
    for rows in (slice(0, 3), slice(3, 6)):
        floats = (images[rows] / 127.5 - 1).astype("float32")
        metric.update_state(floats, texts[rows], sample_weight=weights[rows])
    assert float(metric.result()) == pytest.approx((weights * each).sum() / 15, rel=1e-4)
    with pytest.raises(ValueError, match=r"a caption for each image.*\(6, 12, 12, 3\), 5 captions"):
        metric.update_state(images, texts[:5])


# === Files ===


def test_files_that_are_missing_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="config.json; model.safetensors or pytorch_model.bin"):
        pretrained_clip(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_text("")
    (tmp_path / "merges.txt").write_text("a b")
    with pytest.raises(FileNotFoundError, match="lacks vocab.json and merges.txt, or tokenizer.json$"):
        CLIPScore.from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text("[]")
    with pytest.raises(ValueError, match="a file of JSON. Received: .*config.json"):
        pretrained_clip(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    with pytest.raises(ValueError, match="`model_type` 'clip'. Received: 'siglip'"):
        pretrained_clip(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match="a dictionary. Received: .*vocab.json, a list"):
        pretrained_clip(tmp_path)
    (tmp_path / "vocab.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json, without"):
        pretrained_clip(tmp_path)
