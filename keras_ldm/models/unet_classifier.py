"""A classifier of noisy latents: the encoder and middle of the U-Net, and a vector out of them.

Reference: Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4; `EncoderUNetModel`
(openaimodel.py) of the original code.
"""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_ldm.layers import AttentionPool, GroupNorm
from keras_ldm.models.unet_encoder import UNetEncoder, image_shape
from keras_ldm.types import Conditions, Config, Tensor


@keras.saving.register_keras_serializable("keras_ldm")
class UNetClassifier(UNetEncoder):
    """Logits of the classes of noisy latents at a timestep.

    Args:
        num_classes: number of classes.
        channels: width of each level, from the highest resolution; one halving after each level but
            the last.
        in_channels: channels of the latents.
        num_res_blocks: residual blocks a level.
        attention_levels: levels with attention after each residual block; the middle always has it.
        num_heads: heads of each attention, their width following the level's; or None.
        head_dim: width of each head, their number following the level's, where `num_heads` is None.
        pooling: "average" of all pixels, for latents of any size, or "attention", for one size.
        latent_size: height and width of the latents, for "attention".
        scale_shift: whether the embedding scales and shifts the residual blocks' second
            normalization (it is added before it otherwise).
        residual_resampling: whether residual blocks do the halving (convolutions otherwise).
        dropout: rate in the residual blocks.
        groups: of the group normalizations.
        seed: of the dropout.
        rematerialize: whether training keeps the inputs of each block alone and computes the rest once
            more: less memory, more time.
        **kwargs: see `keras.Model`.

    Call arguments:
        inputs: a dictionary of
            `latents`: `(batch, height, width, in_channels)`, sides that divide by 2^(levels - 1);
            `timesteps`: `(batch,)`, integers or floats.

    Output shape: `(batch, num_classes)`, float32.

    Raises:
        ValueError: for levels, heads or pooling that do not fit together.

    Example:

    ```python
    network = keras_ldm.models.UNetClassifier(num_classes=10, channels=(64, 128))
    logits = network({"latents": x, "timesteps": t})
    ```
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256),
        in_channels: int = 4,
        *,
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] | None = None,
        num_heads: int | None = 8,
        head_dim: int | None = None,
        pooling: Literal["average", "attention"] = "average",
        latent_size: tuple[int, int] | None = None,
        scale_shift: bool = False,
        residual_resampling: bool = False,
        dropout: float = 0.0,
        groups: int = 32,
        seed: int | None = None,
        rematerialize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            channels,
            in_channels,
            num_res_blocks=num_res_blocks,
            attention_levels=attention_levels,
            context_dim=None,
            num_heads=num_heads,
            head_dim=head_dim,
            transformer_depth=1,
            scale_shift=scale_shift,
            residual_resampling=residual_resampling,
            dropout=dropout,
            groups=groups,
            seed=seed,
            rematerialize=rematerialize,
            **kwargs,
        )
        if num_classes < 2:
            raise ValueError(f"Expected at least 2 classes. Received: num_classes={num_classes}")
        if pooling not in ("average", "attention"):
            raise ValueError(f"Expected `pooling` 'average' or 'attention'. Received: {pooling!r}")
        if (pooling == "attention") != (latent_size is not None):
            raise ValueError(
                "Expected `latent_size` with pooling='attention', and with it alone. "
                f"Received: pooling={pooling!r}, latent_size={latent_size}"
            )
        self.num_classes = num_classes
        self.pooling = pooling
        self.latent_size = None if latent_size is None else tuple(latent_size)
        self._make_layers()
        self.build({"latents": (None, None, None, in_channels)})

    def _make_layers(self) -> None:
        super()._make_layers()
        policy = self.dtype_policy
        self.norm_out = GroupNorm(self.groups, 1e-5, "silu", dtype=policy, name="norm_out")
        self.head: keras.layers.Layer
        if self.pooling == "attention":
            heads = self._num_heads(self.channels[-1])
            self.head = AttentionPool(self.num_classes, heads, dtype=policy, name="attention_pool")
        else:
            self.head = keras.layers.Dense(
                self.num_classes, kernel_initializer="zeros", dtype=policy, name="logits"
            )

    def build(self, input_shape: Any) -> None:
        """Builds every layer; the constructor has done it."""
        if self.built:
            return
        self._build_encoder()
        last = self.channels[-1]
        self.norm_out.build(image_shape(last))
        if self.latent_size is None:
            self.head.build((None, last))
        else:
            factor = 2 ** (len(self.channels) - 1)
            self.head.build((None, *(side // factor for side in self.latent_size), last))
        self.built = True

    def call(self, inputs: Conditions, training: bool = False) -> Tensor:
        """Classifies."""
        self._check(inputs)
        x, _ = self.encode(inputs["latents"], self.embed(inputs), None, training=training)
        x = self.norm_out(x)
        if self.pooling == "average":
            x = ops.mean(x, axis=(1, 2))
        return ops.cast(self.head(x), "float32")

    def get_config(self) -> Config:
        """The constructor's arguments."""
        config = super().get_config()
        for name in ("context_dim", "transformer_depth"):
            del config[name]
        return {
            **config,
            "num_classes": self.num_classes,
            "pooling": self.pooling,
            "latent_size": self.latent_size,
        }
