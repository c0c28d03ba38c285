"""Class labels to one cross-attention token each, or as they are."""

from typing import Any

import keras
import numpy as np

from keras_ldm.conditioning.embedder import Embedder, check_integers
from keras_ldm.types import Array, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class ClassEmbedder(Embedder):
    """A trained vector for each class, the one token of the U-Net's `context`; or the label itself.

    Args:
        num_classes: number of classes, the one that stands for none included.
        dim: width of the token; None passes the labels on, to a U-Net with `num_classes`.
        null_class: the class that stands for none, by default the last one.
        dropout: how often a label is replaced by that class in training.
        **kwargs: see `Embedder`.

    Call arguments:
        inputs: integers, `(batch,)`.

    Output: `{"context": (batch, 1, dim)}`, or `{"class_label": (batch,)}`.

    Reference: `ClassEmbedder` (encoders/modules.py) of the original code.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int | None,
        *,
        null_class: int | None = None,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(dropout=dropout, **kwargs)
        self.num_classes = num_classes
        self.dim = dim
        self.null_class = num_classes - 1 if null_class is None else null_class
        if not 0 <= self.null_class < num_classes:
            raise ValueError(
                f"Expected a null class from 0 to {num_classes - 1}. Received: {null_class}"
            )
        self.table = None
        if dim is not None:
            self.table = keras.layers.Embedding(num_classes, dim, dtype=self.dtype_policy, name="table")
            self.table.build((None,))
        self.built = True

    def preprocess(self, raw: Any) -> Array:
        """Labels, integers `(batch,)`, to int32.

        Raises:
            ValueError: if they are not integers, or beyond the classes.
        """
        return check_integers(raw, 1, self.num_classes, "class labels")

    def null(self, batch_size: int) -> Array:
        """The class that stands for none, int32 `(batch_size,)`."""
        return np.full(batch_size, self.null_class, np.int32)

    def embed(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """Looks the vectors up."""
        if self.table is None:
            return {"class_label": inputs}
        return {"context": self.table(inputs)[:, None]}

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dim": self.dim,
            "null_class": self.null_class,
        }
