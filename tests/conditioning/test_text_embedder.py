"""Captions to tokens to context: what is taken, what is refused, what is dropped."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_ldm.conditioning import (
    Conditioner,
    Embedder,
    TextEmbedder,
    bert_uncased_tokenizer,
    pack_tokens,
)
from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from keras_ldm.tasks import TextToImage, load
from tests.contract import numpy, randomize

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "heart", "##s"]
LENGTH = 5


def encoder(vocabulary: int = 20, dim: int = 4) -> TransformerTextEncoder:
    model = TransformerTextEncoder(vocabulary, dim, 1, LENGTH, num_heads=1, head_dim=4)
    randomize(model)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    import keras_nlp

    return keras_nlp.tokenizers.BertTokenizer(vocabulary=WORDS, lowercase=True)


@pytest.fixture
def embedder(tokenizer: Any) -> TextEmbedder:
    return TextEmbedder(encoder(), tokenizer, dropout=0.3, seed=1)


ROWS = [[2, 5, 7, 3, 0], [2, 6, 7, 8, 3], [2, 3, 0, 0, 0]]


@pytest.mark.parametrize(
    "captions",
    [
        ["red heart", "Blue hearts", ""],
        ("red heart", "blue hearts", ""),
        np.array(["red heart", "blue hearts", ""]),
        np.array(["red heart", "blue hearts", ""], dtype=object),
        np.array([b"red heart", b"blue hearts", b""]),
        np.array([b"red heart", "BLUE hearts", ""], dtype=object),
        np.array(ROWS, "int64"),
        np.array(ROWS, "uint8"),
        ROWS,
    ],
    ids=["list", "tuple", "str", "object", "bytes", "mixed", "int64", "uint8", "lists"],
)
def test_preprocess_takes_strings_and_token_ids(embedder: TextEmbedder, captions: Any) -> None:
    tokens = embedder.preprocess(captions)
    np.testing.assert_array_equal(tokens, ROWS)
    assert tokens.dtype == np.int32


def test_long_captions_are_cut_between_start_and_end(embedder: TextEmbedder) -> None:
    tokens = embedder.preprocess(["red blue red blue heart", "unheard of"])
    np.testing.assert_array_equal(tokens, [[2, 5, 6, 5, 3], [2, 1, 1, 3, 0]])


def test_utf8_bytes_are_decoded() -> None:
    tokenizer = bert_uncased_tokenizer()
    text = "une fée à la plage ☀"
    a, b = (pack_tokens(tokenizer, [t], 12) for t in (text, "UNE FEE A LA PLAGE ☀"))
    np.testing.assert_array_equal(a, b)
    small = TextEmbedder(encoder(30522), tokenizer)
    np.testing.assert_array_equal(small.preprocess(np.array([text.encode()])), small.preprocess([text]))


@pytest.mark.parametrize(
    "captions, message",
    [
        (None, "None of type NoneType"),
        (["red", None], "None of type NoneType"),
        ([1, 2, 3, 4, 5], r"shape \(batch, 5\). Received: shape \(5,\)"),
        (np.ones((2, 4), int), r"shape \(batch, 5\). Received: shape \(2, 4\)"),
        (np.ones((2, 6), int), r"Received: shape \(2, 6\)"),
        ([[2, 5, 7, 3, 20]], "token ids from 0 to 19. Received: 2 to 20"),
        ([[2, 5, -1, 3, 0]], "token ids from 0 to 19. Received: -1 to 5"),
        (np.ones((2, 5)), "1.0 of type float"),
        ([["red"], ["blue"]], r"one-dimensional array of strings.*shape \(2, 1\)"),
        ([["red"], ["blue", "heart"]], "inhomogeneous"),
        ("red heart", r"one-dimensional array of strings.*shape \(\)"),
        (np.array([True]), "True of type bool"),
        (np.array([np.nan, "red"], dtype=object), "nan of type float"),
    ],
)
def test_preprocess_refuses(embedder: TextEmbedder, captions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedder.preprocess(captions)


def test_without_a_tokenizer_only_token_ids_are_taken() -> None:
    embedder = TextEmbedder(encoder(), None)
    np.testing.assert_array_equal(embedder.preprocess(ROWS), ROWS)
    np.testing.assert_array_equal(embedder.null(2), np.zeros((2, LENGTH)))
    with pytest.raises(ValueError, match="no tokenizer. Received: strings"):
        embedder.preprocess(["red"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tokenizer": "bert"}, "'bert_uncased', a keras_nlp tokenizer or None. Received: 'bert'"),
        ({"tokenizer": None, "dropout": 1.0}, r"\[0, 1\). Received: 1.0"),
        ({"tokenizer": None, "dropout": -0.1}, r"\[0, 1\). Received: -0.1"),
        ({"tokenizer": None, "null_tokens": [0, 0]}, r"5 null tokens. Received: shape \(2,\)"),
    ],
)
def test_embedder_refuses_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextEmbedder(encoder(), **options)


def test_no_caption_is_the_empty_one(embedder: TextEmbedder) -> None:
    np.testing.assert_array_equal(embedder.null(2), embedder.preprocess(["", ""]))
    assert embedder.null(2).dtype == np.int32


@pytest.mark.backend
def test_captions_are_dropped_at_the_rate_in_training_only() -> None:
    embedder = TextEmbedder(encoder(), None, dropout=0.3, null_tokens=[2, 3, 0, 0, 0], seed=1)
    tokens = np.tile(np.array([[2, 5, 7, 3, 0]], "int32"), (2000, 1))
    given, null = (numpy(embedder(t)["context"])[0] for t in (tokens[:1], embedder.null(1)))
    assert np.abs(given - null).max() > 0.01
    np.testing.assert_allclose(
        numpy(embedder(tokens)["context"]), np.broadcast_to(given, (2000, 5, 4)), atol=1e-5
    )
    rates = []
    for _ in range(2):
        out = numpy(embedder(tokens, training=True)["context"])
        dropped = np.abs(out - null).max(axis=(1, 2)) < 1e-5
        kept = np.abs(out - given).max(axis=(1, 2)) < 1e-5
        assert np.all(dropped ^ kept)  # whole captions, one or the other
        rates.append(dropped)
    assert not np.array_equal(*rates)  # a new draw each time
    assert abs(np.mean(rates) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def test_an_embedder_comes_back_from_its_configuration() -> None:
    embedder = TextEmbedder(encoder(), None, dropout=0.2, null_tokens=[1, 2, 3, 4, 5], seed=3)
    config = embedder.get_config()
    other = TextEmbedder.from_config(config)
    other.set_weights(embedder.get_weights())
    np.testing.assert_array_equal(other.null(1), [[1, 2, 3, 4, 5]])
    assert (other.dropout_rate, other.length, other.seed, other.tokenizer) == (0.2, 5, 3, None)
    tokens = np.array(ROWS, "int32")
    np.testing.assert_allclose(
        numpy(other(tokens)["context"]), numpy(embedder(tokens)["context"]), atol=1e-6
    )


def test_a_tokenizer_of_ones_own_survives_a_file(tokenizer: Any, tmp_path: Path) -> None:
    task = TextToImage(
        AutoencoderKL((4,), 2, num_res_blocks=1, groups=2),
        UNet(
            (4,), in_channels=2, out_channels=2, num_res_blocks=1, groups=2, context_dim=4, num_heads=1
        ),
        encoder(),
        tokenizer=tokenizer,
        image_size=4,
        latent_scale=1.0,
    )
    task.save(tmp_path / "task.keras")
    other = load(tmp_path / "task.keras")
    embedder = other.conditioner.embedders["caption"]
    np.testing.assert_array_equal(embedder.preprocess(["red heart", "Blue hearts", ""]), ROWS)
    np.testing.assert_array_equal(embedder.null(1), [ROWS[2]])


@keras.saving.register_keras_serializable("tests")
class Table(Embedder):
    """An embedder that gives all three kinds of conditions, made from its numbers."""

    def __init__(self, factor: float = 1.0, *, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(dropout=dropout, **kwargs)
        self.factor = factor
        self.built = True

    def preprocess(self, values: Any) -> np.ndarray:
        return np.asarray(values, "float32")

    def null(self, batch_size: int) -> np.ndarray:
        return np.zeros((batch_size, 2), "float32")

    def embed(self, inputs: Any, training: bool) -> dict[str, Any]:
        x = inputs * self.factor
        return {"context": x[:, None, :], "vector": x, "concat": x[:, None, None, :]}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@pytest.mark.backend
def test_conditioner_joins_what_its_embedders_give() -> None:
    conditioner = Conditioner({"a": Table(), "b": Table(10.0)})
    raw = {"b": [[5, 6], [7, 8]], "a": [[1, 2], [3, 4]], "other": None}
    arrays = conditioner.preprocess(raw)
    assert sorted(arrays) == ["a", "b"]
    out = {key: numpy(value) for key, value in conditioner(arrays).items()}
    np.testing.assert_array_equal(out["context"], [[[1, 2], [50, 60]], [[3, 4], [70, 80]]])
    np.testing.assert_array_equal(out["vector"], [[1, 2, 50, 60], [3, 4, 70, 80]])
    np.testing.assert_array_equal(out["concat"], out["vector"][:, None, None])
    assert {k: v.shape for k, v in conditioner.null(3).items()} == {"a": (3, 2), "b": (3, 2)}


def test_conditioner_comes_back_from_its_configuration() -> None:
    conditioner = Conditioner({"a": Table(), "b": Table(10.0)})
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(conditioner))
    assert {name: e.factor for name, e in other.embedders.items()} == {"a": 1.0, "b": 10.0}


def test_conditioner_misses_conditions() -> None:
    with pytest.raises(ValueError, match=r"conditions \['b'\]. Received: \['a', 'image'\]"):
        Conditioner({"a": Table(), "b": Table()}).preprocess({"a": [[1, 2]], "image": 0})


def test_guidance_needs_every_condition_to_be_droppable() -> None:
    never = Table(dropout=0.0)
    assert Conditioner({"a": Table()}).drops
    assert Conditioner({"a": Table()}).null_known
    assert not Conditioner({"a": Table(), "b": never}).drops
    assert not Conditioner({"a": Table(), "b": never}).null_known


def test_tokenizer_has_bert_s_numbers() -> None:
    tokenizer = bert_uncased_tokenizer()
    assert tokenizer.vocabulary_size() == 30522
    # The numbers that every description of bert-base-uncased shows.
    np.testing.assert_array_equal(
        pack_tokens(tokenizer, ["Hello, world!"], 8), [[101, 7592, 1010, 2088, 999, 102, 0, 0]]
    )
