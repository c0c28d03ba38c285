"""The text encoder that is trained together with the U-Net.

Token and position embeddings, then pre-norm layers of self-attention and a GELU feed-forward layer of
four times the width, then a last normalization. Nothing is masked: padding is read like any token.

Reference: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E.2.1; `BERTEmbedder`
(modules.py) and `TransformerWrapper` (x_transformer.py) of the original code.
"""

from typing import Any

import keras
from keras import ops

from keras_ldm.layers import CrossAttention
from keras_ldm.layers.dense import Dense
from keras_ldm.layers.layer_norm import LayerNormalization
from keras_ldm.types import Config, Shape, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class TransformerTextEncoder(keras.Model):
    """A transformer encoder over token ids.

    Args:
        vocabulary_size: number of token ids.
        dim: width of the tokens' embeddings.
        num_layers: number of layers.
        max_length: longest row of tokens.
        num_heads: heads of each attention.
        head_dim: width of each head, which does not follow `dim`.
        dropout: rate in attentions' outputs and feed-forward layers.
        embedding_dim: width of the token embedding table, projected up to `dim` where it is smaller.
        unused_logits: whether it carries a projection to the vocabulary that nothing uses: the
            original's encoder has one, and so do its checkpoints.
        seed: of the dropout.
        **kwargs: see `keras.Model`.

    Input shape: `(batch, tokens)`, integers. Output shape: `(batch, tokens, dim)`.

    Example:

    ```python
    encoder = keras_ldm.models.TransformerTextEncoder(30522, dim=128, num_layers=2)
    context = encoder(token_ids)
    ```
    """

    def __init__(
        self,
        vocabulary_size: int = 30522,
        dim: int = 512,
        num_layers: int = 4,
        max_length: int = 77,
        *,
        num_heads: int = 8,
        head_dim: int = 64,
        dropout: float = 0.0,
        embedding_dim: int | None = None,
        unused_logits: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.dim = dim
        self.num_layers = num_layers
        self.max_length = max_length
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.dropout_rate = dropout
        self.embedding_dim = embedding_dim
        self.unused_logits = unused_logits
        self.seed = seed

        policy = self.dtype_policy
        table = {"embeddings_initializer": keras.initializers.RandomNormal(stddev=0.02)}
        self.token_embedding = keras.layers.Embedding(
            vocabulary_size, embedding_dim or dim, dtype=policy, name="token_embedding", **table
        )
        self.embedding_projection = (
            None if embedding_dim is None else Dense(dim, dtype=policy, name="embedding_projection")
        )
        self.position_embedding = keras.layers.Embedding(
            max_length, dim, dtype=policy, name="position_embedding", **table
        )
        self.attention_norms = [self._norm(f"attention_norm{i}") for i in range(num_layers)]
        self.attentions = [
            CrossAttention(
                num_heads,
                head_dim,
                dropout,
                seed=None if seed is None else seed + i,
                dtype=policy,
                name=f"attention{i}",
            )
            for i in range(num_layers)
        ]
        self.feed_forward_norms = [self._norm(f"feed_forward_norm{i}") for i in range(num_layers)]
        self.feed_forward_in = [
            Dense(4 * dim, dtype=policy, name=f"feed_forward_in{i}") for i in range(num_layers)
        ]
        self.feed_forward_out = [
            Dense(dim, dtype=policy, name=f"feed_forward_out{i}") for i in range(num_layers)
        ]
        self.dropouts = [
            keras.layers.Dropout(
                dropout, seed=None if seed is None else seed + num_layers + i, dtype=policy
            )
            for i in range(num_layers if dropout else 0)
        ]
        self.norm = self._norm("norm")
        self.to_logits = (
            Dense(vocabulary_size, trainable=False, dtype=policy, name="to_logits")
            if unused_logits
            else None
        )
        self.build((None, None))

    def _norm(self, name: str) -> LayerNormalization:
        return LayerNormalization(epsilon=1e-5, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Shape) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return
        tokens = (None, None, self.dim)
        self.token_embedding.build((None, None))
        if self.embedding_projection is not None:
            self.embedding_projection.build((None, None, self.embedding_dim))
        self.position_embedding.build((None,))
        for i in range(self.num_layers):
            self.attention_norms[i].build(tokens)
            self.attentions[i].build(tokens)
            self.feed_forward_norms[i].build(tokens)
            self.feed_forward_in[i].build(tokens)
            self.feed_forward_out[i].build((None, None, 4 * self.dim))
        self.norm.build(tokens)
        if self.to_logits is not None:
            self.to_logits.build(tokens)
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Encodes the tokens."""
        length = inputs.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"Expected at most {self.max_length} tokens. Received: shape {tuple(inputs.shape)}"
            )
        x = self.token_embedding(inputs)
        if self.embedding_projection is not None:
            x = self.embedding_projection(x)
        x = x + self.position_embedding(ops.arange(ops.shape(inputs)[1]))
        for i in range(self.num_layers):
            x = x + self.attentions[i](self.attention_norms[i](x), training=training)
            hidden = self.feed_forward_in[i](self.feed_forward_norms[i](x))
            hidden = ops.gelu(hidden, approximate=False)
            if self.dropouts:
                hidden = self.dropouts[i](hidden, training=training)
            x = x + self.feed_forward_out[i](hidden)
        return self.norm(x)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.dim,
            "num_layers": self.num_layers,
            "max_length": self.max_length,
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "dropout": self.dropout_rate,
            "embedding_dim": self.embedding_dim,
            "unused_logits": self.unused_logits,
            "seed": self.seed,
        }
