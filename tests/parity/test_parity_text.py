"""Tokens and frozen BERT encodings against transformers, whose tokenizer the original used."""

import keras_nlp
import numpy as np
import pytest
import torch
import transformers

from keras_ldm.conditioning import TextEmbedder, bert_uncased_tokenizer, pack_tokens
from keras_ldm.data import load_emoji
from keras_ldm.models import TransformerTextEncoder
from tests.golden.original import deviation
from tests.parity.strict_loading import StrictLoader
from tests.parity.torch_modules import arrays_of, randomise

pytestmark = pytest.mark.parity

LENGTH = 77
TEXTS = [
    "",
    " ",
    "a",
    "A Red HEART",
    "Café Ångström naïve façade, ñandú; ÀÉÎÕÜ ç",
    "e\u0301 combining accent",
    "日本語のテキスト 漢字",
    "中文abc混合 mixed",
    "Привет мир, مرحبا بالعالم, ไทย, tiếng Việt",
    "hello,world!!! (yes) [no] {x} <y>",
    "don't it's o'clock a_b a-b a/b ~`^|=+",
    "100% $5.99 #1 A.B.C. U.S.A. @home",
    "“quotes” – dash — and «guillemets»",
    "\t tabs\nnew lines\r\n and  spaces  ",
    "emoji 😀🎉 here",
    "∑∫√ €£¥",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "x" * 100,
    "x" * 101,  # longer than a word may be
    "word " * 75,
    "word " * 76,
    "unbelievable, " * 200,
]
UNLIKE = [
    "red\u00a0heart",
    "red\u3000heart",
    "zero\u200bwidth",
    "soft\u00adhyphen",
    "null\x00byte",
    "한국어 텍스트",
    "Straße",
    "Σίσυφος",
    "dots…",
    "½ ² ③ Ⅷ",
    "ﬁ ligature",
    "ＦＵＬＬ",
    "\ufffd replacement",
]


@pytest.fixture(scope="module")
def reference():
    tokens = bert_uncased_tokenizer().get_vocabulary()
    tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    assert len(tokenizer) == 30522 and tokenizer.convert_tokens_to_ids("[CLS]") == 101

    def pack(texts: list[str], length: int) -> np.ndarray:
        packed = tokenizer(texts, padding="max_length", truncation=True, max_length=length)
        return np.array(packed["input_ids"])

    return pack


@pytest.fixture(scope="module")
def ours():
    tokenizer = bert_uncased_tokenizer()
    return lambda texts, length: pack_tokens(tokenizer, texts, length)


def test_emoji_captions(ours, reference) -> None:
    captions = np.ravel(load_emoji().captions).tolist()
    assert len(captions) == 1892
    np.testing.assert_array_equal(ours(captions, LENGTH), reference(captions, LENGTH))


@pytest.mark.parametrize("length", [77, 12, 2])
def test_all_kinds_of_text(ours, reference, length) -> None:
    np.testing.assert_array_equal(ours(TEXTS, length), reference(TEXTS, length))


@pytest.mark.parametrize("text", UNLIKE)
def test_rare_characters(ours, reference, text) -> None:
    np.testing.assert_array_equal(ours([text], LENGTH), reference([text], LENGTH))


def test_embedder_gives_the_reference_tokens(reference) -> None:
    embedder = TextEmbedder(TransformerTextEncoder(dim=8, num_layers=1, num_heads=1, head_dim=8))
    np.testing.assert_array_equal(embedder.preprocess(TEXTS), reference(TEXTS, LENGTH))
    np.testing.assert_array_equal(embedder.null(1), reference([""], LENGTH))


# === A frozen BertBackbone ===


def load_bert(model, arrays) -> None:
    """transformers' `BertModel` names in keras_nlp's `BertBackbone`."""
    loader = StrictLoader(arrays)
    heads, width = model.num_heads, model.hidden_dim // model.num_heads

    def projection(layer, name: str, kernel_shape: tuple[int, ...]) -> None:
        loader.assign(layer.kernel, loader.take(f"{name}.weight").T.reshape(kernel_shape))
        loader.assign(layer.bias, loader.take(f"{name}.bias").reshape(layer.bias.shape))

    loader.embedding(model.get_layer("token_embedding"), "embeddings.word_embeddings")
    position = model.get_layer("position_embedding").position_embeddings
    loader.assign(position, loader.take("embeddings.position_embeddings.weight"))
    loader.embedding(model.get_layer("segment_embedding"), "embeddings.token_type_embeddings")
    loader.norm(model.get_layer("embeddings_layer_norm"), "embeddings.LayerNorm")
    for i in range(model.num_layers):
        layer, name = model.get_layer(f"transformer_layer_{i}"), f"encoder.layer.{i}"
        attention = layer._self_attention_layer
        for part in ("query", "key", "value"):
            kernel_shape = (model.hidden_dim, heads, width)
            inner = getattr(attention, f"{part}_dense")
            projection(inner, f"{name}.attention.self.{part}", kernel_shape)
        out_shape = (heads, width, model.hidden_dim)
        projection(attention.output_dense, f"{name}.attention.output.dense", out_shape)
        loader.norm(layer._self_attention_layer_norm, f"{name}.attention.output.LayerNorm")
        loader.dense(layer._feedforward_intermediate_dense, f"{name}.intermediate.dense")
        loader.dense(layer._feedforward_output_dense, f"{name}.output.dense")
        loader.norm(layer._feedforward_layer_norm, f"{name}.output.LayerNorm")
    loader.dense(model.get_layer("pooled_dense"), "pooler.dense")
    loader.finish(model)


def test_frozen_bert_backbone() -> None:
    """With the padding masked; keras_nlp has the tanh GELU, whatever the checkpoint was made with."""
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 16, "intermediate_dim": 24}
    backbone = keras_nlp.models.BertBackbone(30522, max_sequence_length=LENGTH, **sizes)
    config = transformers.BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=LENGTH,
        hidden_act="gelu_pytorch_tanh",
    )
    theirs = randomise(transformers.BertModel(config))
    load_bert(backbone, arrays_of(theirs))
    embedder = TextEmbedder(backbone)
    assert not embedder.trainable_variables

    tokens = embedder.preprocess(["a red heart", "", "word " * 100])
    mask = torch.from_numpy((tokens != 0).astype("int64"))
    expected = theirs(torch.from_numpy(tokens).long(), attention_mask=mask).last_hidden_state
    assert deviation(embedder(tokens)["context"], expected) < 1e-4
