"""Embeddings made elsewhere, such as CLIP's, as cross-attention tokens."""

from typing import Any

import keras
import numpy as np

from keras_ldm.conditioning.embedder import Embedder
from keras_ldm.types import Array, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class TokenEmbedder(Embedder):
    """Vectors that somebody else has computed; the U-Net's `context` as they are.

    Args:
        dim: width of the vectors.
        dropout: how often they are replaced by zeros in training.
        **kwargs: see `Embedder`.

    Call arguments:
        inputs: `(batch, tokens, dim)`.

    Output: `{"context": (batch, tokens, dim)}`.
    """

    def __init__(self, dim: int, *, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(dropout=dropout, **kwargs)
        self.dim = dim
        self.built = True

    def preprocess(self, raw: Any) -> Array:
        """Floats, `(batch, tokens, dim)`, or `(batch, dim)` for one token, to float32.

        Raises:
            ValueError: if they are not that, or not finite.
        """
        values = np.asarray(raw)
        values = values[:, None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[-1] != self.dim or values.dtype.kind != "f":
            raise ValueError(
                f"Expected embeddings as floats of shape (batch, tokens, {self.dim}). "
                f"Received: shape {values.shape}, dtype {values.dtype}"
            )
        if not np.isfinite(values).all():
            raise ValueError("Expected finite embeddings. Received: NaN or infinite values")
        return values.astype(np.float32)

    def null(self, batch_size: int) -> Array:
        """One token of zeros, float32 `(batch_size, 1, dim)`."""
        return np.zeros((batch_size, 1, self.dim), np.float32)

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """Passes them on."""
        return {"context": inputs}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "dim": self.dim}
