"""Captions to cross-attention tokens."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import freeze
from keras_ldm.conditioning.embedder import Embedder, check_integers
from keras_ldm.conditioning.tokenizers import (
    BertUncasedTokenizer,
    bert_uncased_tokenizer,
    pack_tokens,
)
from keras_ldm.types import Array, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class TextEmbedder(Embedder):
    """A tokenizer in front of a text encoder; its output is the U-Net's `context`.

    Args:
        encoder: `keras_ldm.models.TransformerTextEncoder`, trained together with the U-Net, or a
            `keras_nlp.models.BertBackbone`, which is frozen; or any model from token ids
            `(batch, tokens)` to `(batch, tokens, dim)`.
        tokenizer: "bert_uncased", a keras_nlp tokenizer with start, end and padding tokens, or None
            if only token ids will be given.
        length: tokens a caption is cut or padded to; by default the encoder's `max_length`, or 77.
        dropout: how often, in training, a caption is replaced by the empty one, so that the model
            also learns to do without (classifier-free guidance).
        null_tokens: the token ids that stand for no caption; by default those of "", or zeros
            without a tokenizer.
        seed: of that dropout.
        **kwargs: see `keras.layers.Layer`.

    Call arguments:
        inputs: token ids, `(batch, length)`.

    Output: `{"context": (batch, length, dim)}`.

    Raises:
        ValueError: for a tokenizer of an unknown name, a dropout outside [0, 1), or null tokens of
            the wrong length.
    """

    other_names = ("tokens",)

    def __init__(
        self,
        encoder: keras.Model,
        tokenizer: Any = "bert_uncased",
        *,
        length: int | None = None,
        dropout: float = 0.1,
        null_tokens: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dropout=dropout, seed=seed, **kwargs)
        if isinstance(tokenizer, str) and tokenizer != "bert_uncased":
            raise ValueError(
                "Expected `tokenizer` to be 'bert_uncased', a keras_nlp tokenizer or None. "
                f"Received: {tokenizer!r}"
            )
        self.encoder = encoder
        if isinstance(tokenizer, str):
            tokenizer = bert_uncased_tokenizer()
        self.tokenizer = tokenizer
        self.tokenizer_name = "bert_uncased" if isinstance(tokenizer, BertUncasedTokenizer) else None
        self.length = int(getattr(encoder, "max_length", 77) if length is None else length)
        self.takes_bert_inputs = "padding_mask" in (getattr(encoder, "input", None) or ())
        if self.takes_bert_inputs:
            freeze(encoder)
        if null_tokens is None:
            null_tokens = (
                np.zeros(self.length, np.int32)
                if self.tokenizer is None
                else pack_tokens(self.tokenizer, [""], self.length)[0]
            )
        self.null_tokens = np.asarray(null_tokens, dtype=np.int32)
        if self.null_tokens.shape != (self.length,):
            raise ValueError(
                f"Expected {self.length} null tokens. Received: shape {self.null_tokens.shape}"
            )
        self.built = True

    def preprocess(self, captions: Any) -> Array:
        """Captions to token ids, on the host.

        Args:
            captions: strings (str or UTF-8 bytes), `(batch,)`, or token ids, `(batch, length)`.

        Returns:
            int32 `(batch, length)`.

        Raises:
            ValueError: for anything else, or ids beyond the encoder's vocabulary.
        """
        values = np.asarray(captions)
        if values.dtype.kind in "iu":
            if values.ndim != 2 or values.shape[1] != self.length:
                raise ValueError(
                    f"Expected token ids of shape (batch, {self.length}). Received: shape {values.shape}"
                )
            limit = getattr(self.encoder, "vocabulary_size", None) or np.iinfo(np.int32).max
            return check_integers(values, 2, limit, "token ids")
        texts = [c.decode("utf-8") if isinstance(c, bytes) else c for c in values.ravel().tolist()]
        wrong = [text for text in texts if not isinstance(text, str)]
        if values.ndim != 1 or wrong:
            raise ValueError(
                "Expected captions to be a one-dimensional array of strings, or token ids. "
                f"Received: shape {values.shape}, dtype {values.dtype}"
                + (f", with {wrong[0]!r} of type {type(wrong[0]).__name__}" if wrong else "")
            )
        if self.tokenizer is None:
            raise ValueError(
                "Expected token ids, because this model has no tokenizer. Received: strings"
            )
        return pack_tokens(self.tokenizer, texts, self.length)

    def null(self, batch_size: int) -> Array:
        """Token ids of no caption, int32 `(batch_size, length)`."""
        return np.tile(self.null_tokens[None], (batch_size, 1))

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """Encodes."""
        if not self.takes_bert_inputs:
            return {"context": self.encoder(inputs, training=training)}
        pad = 0 if self.tokenizer is None else self.tokenizer.pad_token_id
        outputs = self.encoder(
            {
                "token_ids": inputs,
                "segment_ids": ops.zeros_like(inputs),
                "padding_mask": ops.cast(ops.not_equal(inputs, pad), "int32"),
            },
            training=False,
        )
        return {"context": outputs["sequence_output"]}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "tokenizer": self.tokenizer_name or (self.tokenizer and serialize(self.tokenizer)),
            "length": self.length,
            "null_tokens": self.null_tokens.tolist(),
        }

    @classmethod
    def from_config(cls, config: Config) -> "TextEmbedder":
        """An embedder from `get_config()`'s value."""
        deserialize = keras.saving.deserialize_keras_object
        config = {**config, "encoder": deserialize(config["encoder"])}
        if isinstance(config["tokenizer"], dict):
            config["tokenizer"] = deserialize(config["tokenizer"])
        return cls(**config)
