"""Vector quantization: each pixel of the latents becomes the nearest entry of a codebook.

Reference: van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, equations 1 to 3, and its
appendix A.1 for codes that follow averages; `VectorQuantizer2` (quantize.py) of taming-transformers,
which the original code uses. Cosine distance: Yu et al. 2022, https://arxiv.org/abs/2110.04627,
section 3.2. Restart of dead codes: Dhariwal et al. 2020, https://arxiv.org/abs/2005.00341, section 3.1.
"""

from typing import Any, Literal, NamedTuple, get_args

import keras
from keras import ops

from keras_ldm.types import Config, Shape, Tensor

Distance = Literal["euclidean", "cosine"]

_MAX_SCORES = 1 << 24  # distances in memory at a time: 64 MiB
_SMOOTHING = 1e-5


class Quantized(NamedTuple):
    """What `VectorQuantizer` gives.

    Attributes:
        latents: the nearest codes, shaped like the input. Their gradient passes to the input as if
            nothing had been quantized.
        indices: of the codes, int32, the input's shape without the last axis.
        codebook_loss: scalar.
    """

    latents: Tensor
    indices: Tensor
    codebook_loss: Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class VectorQuantizer(keras.layers.Layer):
    """A codebook, and the loss that draws codes and latents together.

        loss = mean|sg(code) - z|² + beta · mean|code - sg(z)|²

    Here `beta` weighs the codebook's term, as in the original's released models, whose codebooks are
    so trained; the paper has it on the other one (`legacy=False`). sg stops the gradient.

    With `ema_decay` codes are not trained: in training each follows the average of the latents that
    chose it, and the loss is `beta · mean|sg(code) - z|²`. Then a code that is hardly chosen may restart
    at a latent of the batch; and so they all begin, at latents of the first one, unless they were loaded
    or assigned.

    Args:
        num_codes: entries of the codebook.
        beta: weight of one of the two terms.
        legacy: whether `beta` weighs the term that moves the codes.
        distance: what is nearest: "euclidean", or "cosine", where latents and codes have length 1.
        ema_decay: of the averages that codes follow; None trains them by the loss.
        restart_below: how often a code must be chosen in a batch, on average, not to restart; None for
            never. It needs `ema_decay`.
        seed: of the latents that codes restart at.
        **kwargs: see `keras.layers.Layer`.

    Input shape: `(batch, ..., dim)`. Output: a `Quantized`.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        num_codes: int,
        *,
        beta: float = 0.25,
        legacy: bool = True,
        distance: Distance = "euclidean",
        ema_decay: float | None = None,
        restart_below: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if not isinstance(num_codes, int) or num_codes < 1:
            raise ValueError(f"Expected `num_codes` >= 1. Received: {num_codes!r}")
        if not 0 <= beta < float("inf"):
            raise ValueError(f"Expected a finite `beta` of at least 0. Received: {beta}")
        if distance not in get_args(Distance):
            raise ValueError(
                f"Expected `distance` {' or '.join(map(repr, get_args(Distance)))}. "
                f"Received: {distance!r}"
            )
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"Expected `ema_decay` in [0, 1), or None. Received: {ema_decay}")
        if restart_below is not None and (ema_decay is None or not 0 < restart_below < float("inf")):
            raise ValueError(
                "Expected `restart_below` > 0 together with `ema_decay`, or None. "
                f"Received: restart_below={restart_below}, ema_decay={ema_decay}"
            )
        self.num_codes = num_codes
        self.beta = beta
        self.legacy = legacy
        self.distance = distance
        self.ema_decay = ema_decay
        self.restart_below = restart_below
        self.seed = seed
        if restart_below is not None:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        """Makes the codebook."""
        limit, follows = 1.0 / self.num_codes, self.ema_decay is not None
        self.codebook = self.add_weight(
            shape=(self.num_codes, input_shape[-1]),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            trainable=not follows,
            autocast=False,
            dtype="float32" if follows else None,
            name="codebook",
        )
        if follows:
            self.counts = self.add_weight(
                shape=(self.num_codes,),
                initializer="ones",
                trainable=False,
                autocast=False,
                dtype="float32",
                name="counts",
            )

    def call(self, inputs: Tensor, training: bool = False) -> Quantized:
        """Quantizes; in training, codes that follow averages move."""
        z = self._on_sphere(ops.cast(inputs, "float32"))
        codebook = self._on_sphere(ops.cast(self.codebook, "float32"))
        flat = ops.reshape(z, (-1, z.shape[-1]))
        nearest = _nearest(ops.stop_gradient(flat), ops.stop_gradient(codebook))
        indices = ops.reshape(nearest, ops.shape(z)[:-1])
        codes = ops.take(codebook, indices, axis=0)
        loss = ops.mean(ops.square(ops.stop_gradient(codes) - z))
        if self.ema_decay is not None:
            loss = self.beta * loss
            if training:
                self._follow(ops.stop_gradient(flat), nearest, self.ema_decay)
        else:
            to_codes = ops.mean(ops.square(codes - ops.stop_gradient(z)))
            loss = loss + self.beta * to_codes if self.legacy else self.beta * loss + to_codes
        return Quantized(z + ops.stop_gradient(codes - z), indices, loss)

    def _on_sphere(self, vectors: Tensor) -> Tensor:
        if self.distance == "euclidean":
            return vectors
        squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
        return vectors * ops.rsqrt(ops.maximum(squared, 1e-12))

    def _follow(self, latents: Tensor, nearest: Tensor, decay: float) -> None:
        """Moves codes towards the latents that chose them, and restarts those that few choose."""
        ones = ops.ones_like(latents[:, 0])
        before, codebook = ops.convert_to_tensor(self.counts), ops.convert_to_tensor(self.codebook)
        sums = codebook * self._smoothed(before)[:, None]
        if self.restart_below is not None:  # codes that are as they were made stand for nothing yet
            made = ops.all(ops.abs(codebook) <= 1.0 / self.num_codes)
            before, sums = (ops.where(made, 0.0, x) for x in (before, sums))
        counts = ops.segment_sum(ones, nearest, num_segments=self.num_codes)
        counts = decay * before + (1.0 - decay) * counts
        seen = ops.segment_sum(latents, nearest, num_segments=self.num_codes)
        sums = decay * sums + (1.0 - decay) * seen
        if self.restart_below is not None:
            dead = counts < self.restart_below
            last = ops.cast(ops.shape(latents)[0], "float32")
            places = keras.random.uniform((self.num_codes,), seed=self.seed_generator) * last
            chosen = ops.take(latents, ops.cast(ops.floor(places), "int32"), axis=0)
            counts = ops.where(dead, self.restart_below, counts)
            sums = ops.where(dead[:, None], self.restart_below * chosen, sums)
        self.counts.assign(counts)
        self.codebook.assign(sums / self._smoothed(counts)[:, None])

    def _smoothed(self, counts: Tensor) -> Tensor:
        """What the sums of latents are divided by: counts, none of them 0."""
        total = ops.sum(counts)
        return (counts + _SMOOTHING) / (total + self.num_codes * _SMOOTHING) * total

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "beta": self.beta,
            "legacy": self.legacy,
            "distance": self.distance,
            "ema_decay": self.ema_decay,
            "restart_below": self.restart_below,
            "seed": self.seed,
        }


def _nearest(latents: Tensor, codebook: Tensor) -> Tensor:
    """The index of each latent's nearest code, with a part of the distances in memory at a time.

    Args:
        latents: `(n, dim)`.
        codebook: `(num_codes, dim)`.

    Returns:
        int32 `(n,)`.
    """
    # |z - c|² = |z|² - 2 z·c + |c|², of which the first is the same for all codes.
    lengths, transposed = ops.sum(ops.square(codebook), axis=-1), ops.transpose(codebook)

    def nearest(rows: Tensor) -> Tensor:
        return ops.cast(ops.argmin(lengths - 2.0 * ops.matmul(rows, transposed), axis=-1), "int32")

    count = ops.shape(latents)[0]
    most = max(1, _MAX_SCORES // codebook.shape[0])
    parts = (count + most - 1) // most
    if isinstance(parts, int) and parts <= 1:
        return nearest(latents)
    rows = (count + parts - 1) // parts
    whole = ops.concatenate([latents, latents[: parts * rows - count]])  # for equal parts
    found = ops.map(nearest, ops.reshape(whole, (parts, rows, latents.shape[-1])))
    return ops.reshape(found, (-1,))[:count]
