"""How much of a codebook is in use."""

from abc import abstractmethod
from typing import Any

import keras
from keras import ops

from keras_ldm.types import Config, Tensor


class _CodeCounts(keras.metrics.Metric):
    """Counts how often each code is chosen.

    Args:
        num_codes: entries of the codebook.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.
    """

    def __init__(self, num_codes: int, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.num_codes = num_codes
        self.counts = self.add_variable(shape=(num_codes,), initializer="zeros", name="counts")

    def update_state(self, indices: Tensor) -> None:
        """Takes in a batch.

        Args:
            indices: of the codes, integers of any shape, as `VectorQuantizer` gives them.
        """
        flat = ops.reshape(ops.cast(indices, "int32"), (-1,))
        ones = ops.ones_like(flat, dtype=self.counts.dtype)
        self.counts.assign(self.counts + ops.segment_sum(ones, flat, num_segments=self.num_codes))

    @abstractmethod
    def result(self) -> Tensor:
        """What the counts say."""

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {**super().get_config(), "num_codes": self.num_codes}


@keras.saving.register_keras_serializable("keras_ldm")
class CodeUsage(_CodeCounts):
    """The share of a codebook's entries that were chosen at least once, from 0 to 1.

    Args:
        num_codes: entries of the codebook.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.
    """

    def __init__(self, num_codes: int, name: str = "code_usage", **kwargs: Any) -> None:
        super().__init__(num_codes, name, **kwargs)

    def result(self) -> Tensor:
        """The share."""
        return ops.mean(ops.cast(self.counts > 0, self.counts.dtype))


@keras.saving.register_keras_serializable("keras_ldm")
class CodePerplexity(_CodeCounts):
    """How many codes, all chosen as often, would be as varied: exp of the entropy of the choices.

    Args:
        num_codes: entries of the codebook.
        name: of the metric.
        **kwargs: see `keras.metrics.Metric`.
    """

    def __init__(self, num_codes: int, name: str = "code_perplexity", **kwargs: Any) -> None:
        super().__init__(num_codes, name, **kwargs)

    def result(self) -> Tensor:
        """The perplexity, from 1 to `num_codes`; 1 before anything was counted."""
        share = self.counts / ops.maximum(ops.sum(self.counts), 1.0)
        return ops.exp(-ops.sum(share * ops.log(ops.maximum(share, 1e-30))))
