"""The original latent-diffusion code's names for the parameters of our networks."""

from collections.abc import Iterator

import keras
import numpy as np

from keras_ldm.layers import (
    ConditionalSequential,
    CrossAttention,
    Downsample,
    LinearSpatialAttention,
    ResidualBlock,
    SpatialSelfAttention,
    SpatialTransformer,
    Upsample,
)
from keras_ldm.models import (
    Autoencoder,
    AutoencoderHalf,
    TransformerTextEncoder,
    UNet,
    UNetEncoder,
    VQModel,
)
from keras_ldm.types import Array
from keras_ldm.weights.table import NameTable, Parameter

# === Autoencoders ===


def autoencoder_names(model: Autoencoder, prefix: str = "") -> NameTable:
    """Of `AutoencoderKL` and `VQModel` (autoencoder.py)."""
    table = NameTable(prefix)
    last = len(model.encoder.channels) - 1

    encoder = iter(model.encoder.layers)
    table.convolution(next(encoder), "encoder.conv_in")
    for index in range(last + 1):
        _level(table, encoder, model.encoder, index, model.encoder.num_res_blocks, "encoder.down")
        if index < last:
            table.convolution(next(encoder).conv, f"encoder.down.{index}.downsample.conv")
    _middle(table, encoder, model.encoder, "encoder.mid")
    table.norm(model.encoder.norm_out, "encoder.norm_out")
    table.convolution(model.encoder.conv_out, "encoder.conv_out")

    decoder = iter(model.decoder.layers)
    table.convolution(next(decoder), "decoder.conv_in")
    _middle(table, decoder, model.decoder, "decoder.mid")
    for index in reversed(range(last + 1)):
        _level(table, decoder, model.decoder, index, model.decoder.num_res_blocks + 1, "decoder.up")
        if index:
            table.convolution(next(decoder).conv, f"decoder.up.{index}.upsample.conv")
    table.norm(model.decoder.norm_out, "decoder.norm_out")
    table.convolution(model.decoder.conv_out, "decoder.conv_out")

    table.convolution(model.to_moments, "quant_conv")
    table.convolution(model.from_latents, "post_quant_conv")
    if isinstance(model, VQModel):
        table.variable(model.quantizer.codebook, "quantize.embedding.weight")
    return table


def _level(
    table: NameTable,
    layers: Iterator[keras.layers.Layer],
    half: AutoencoderHalf,
    index: int,
    num_blocks: int,
    name: str,
) -> None:
    for i in range(num_blocks):
        _autoencoder_block(table, next(layers), f"{name}.{index}.block.{i}")
        if index in half.attention_levels:
            _autoencoder_attention(table, next(layers), f"{name}.{index}.attn.{i}")


def _middle(
    table: NameTable, layers: Iterator[keras.layers.Layer], half: AutoencoderHalf, name: str
) -> None:
    _autoencoder_block(table, next(layers), f"{name}.block_1")
    if half.middle_attention:
        _autoencoder_attention(table, next(layers), f"{name}.attn_1")
    _autoencoder_block(table, next(layers), f"{name}.block_2")


def _autoencoder_block(table: NameTable, layer: ResidualBlock, name: str) -> None:
    table.norm(layer.norm1, f"{name}.norm1")
    table.convolution(layer.conv1, f"{name}.conv1")
    table.norm(layer.norm2, f"{name}.norm2")
    table.convolution(layer.conv2, f"{name}.conv2")
    if layer.skip is not None:
        table.convolution(layer.skip, f"{name}.nin_shortcut")


def _autoencoder_attention(
    table: NameTable, layer: SpatialSelfAttention | LinearSpatialAttention, name: str
) -> None:
    if isinstance(layer, LinearSpatialAttention):
        _joint_projection(table, layer, f"{name}.to_qkv", heads=None, sides=2, use_bias=False)
        table.dense(layer.to_out, f"{name}.to_out", sides=2)
        return
    table.norm(layer.norm, f"{name}.norm")
    table.dense(layer.to_query, f"{name}.q", sides=2)
    table.dense(layer.to_key, f"{name}.k", sides=2)
    table.dense(layer.to_value, f"{name}.v", sides=2)
    table.dense(layer.to_out, f"{name}.proj_out", sides=2)


def _joint_projection(
    table: NameTable,
    layer: SpatialSelfAttention | LinearSpatialAttention,
    name: str,
    heads: int | None,
    sides: int,
    use_bias: bool = True,
) -> None:
    """One matrix for queries, keys and values.

    With `heads`, the heads lie outermost in it, in each its queries, keys and values; without, first
    the queries of all heads, then the keys, then the values.
    """
    parts = (layer.to_query, layer.to_key, layer.to_value)
    channels = parts[0].kernel.shape[0]

    def split(array: Array) -> list[Array]:
        rest = array.shape[1:]
        if heads is None:
            return [*array.reshape(3, channels, *rest)]
        array = array.reshape(heads, 3, channels // heads, *rest)
        return [array[:, i].reshape(channels, *rest) for i in range(3)]

    def join(arrays: list[Array]) -> Array:
        rest = arrays[0].shape[1:]
        if heads is None:
            return np.concatenate(arrays)
        split_heads = [a.reshape(heads, 1, channels // heads, *rest) for a in arrays]
        return np.concatenate(split_heads, axis=1).reshape(3 * channels, *rest)

    shape = (3 * channels, channels, *[1] * sides)
    table.add(
        f"{name}.weight",
        Parameter(
            shape,
            tuple(part.kernel for part in parts),
            lambda a: [part.T for part in split(a.reshape(3 * channels, channels))],
            lambda v: join([part.T for part in v]).reshape(shape),
        ),
    )
    if use_bias:
        table.add(
            f"{name}.bias",
            Parameter((3 * channels,), tuple(part.bias for part in parts), split, lambda v: join([*v])),
        )


# === U-Net ===


def unet_names(model: UNet, prefix: str = "") -> NameTable:
    """Of `UNetModel` (openaimodel.py)."""
    table = unet_encoder_names(model, prefix)
    if model.class_embedding is not None:
        table.embedding(model.class_embedding, "label_emb")
    for i, stage in enumerate(model.decoder):
        _unet_stage(table, stage, f"output_blocks.{i}")
    table.norm(model.norm_out, "out.0")
    table.convolution(model.conv_out, "out.2")
    return table


def unet_encoder_names(model: UNetEncoder, prefix: str = "") -> NameTable:
    """Of what `UNetModel` and `EncoderUNetModel` (openaimodel.py) have in common."""
    table = NameTable(prefix)
    table.dense(model.embedding_in, "time_embed.0")
    table.dense(model.embedding_out, "time_embed.2")
    table.convolution(model.conv_in, "input_blocks.0.0")
    for i, stage in enumerate(model.encoder, 1):
        _unet_stage(table, stage, f"input_blocks.{i}")
    _unet_stage(table, model.middle, "middle_block")
    return table


def _unet_stage(table: NameTable, stage: ConditionalSequential, name: str) -> None:
    for i, layer in enumerate(stage.layers):
        _unet_layer(table, layer, f"{name}.{i}")


def _unet_layer(table: NameTable, layer: keras.layers.Layer, name: str) -> None:
    if isinstance(layer, ResidualBlock):
        table.norm(layer.norm1, f"{name}.in_layers.0")
        table.convolution(layer.conv1, f"{name}.in_layers.2")
        table.dense(layer.embedding_projection, f"{name}.emb_layers.1")
        table.norm(layer.norm2, f"{name}.out_layers.0")
        table.convolution(layer.conv2, f"{name}.out_layers.3")
        if layer.skip is not None:
            table.convolution(layer.skip, f"{name}.skip_connection")
    elif isinstance(layer, SpatialTransformer):
        _transformer(table, layer, name)
    elif isinstance(layer, SpatialSelfAttention):
        table.norm(layer.norm, f"{name}.norm")
        _joint_projection(table, layer, f"{name}.qkv", heads=layer.num_heads, sides=1)
        table.dense(layer.to_out, f"{name}.proj_out", sides=1)
    elif isinstance(layer, Downsample):
        table.convolution(layer.conv, f"{name}.op")
    elif isinstance(layer, Upsample):
        table.convolution(layer.conv, f"{name}.conv")
    else:
        raise TypeError(f"Expected a layer of the U-Net. Received: {type(layer).__name__}")


def _transformer(table: NameTable, layer: SpatialTransformer, name: str) -> None:
    table.norm(layer.norm, f"{name}.norm")
    table.dense(layer.project_in, f"{name}.proj_in", sides=2)
    for i, block in enumerate(layer.blocks):
        inside = f"{name}.transformer_blocks.{i}"
        _cross_attention(table, block.self_attention, f"{inside}.attn1", "to_out.0")
        _cross_attention(table, block.cross_attention, f"{inside}.attn2", "to_out.0")
        table.dense(block.feed_forward.projection, f"{inside}.ff.net.0.proj")
        table.dense(block.feed_forward_out, f"{inside}.ff.net.2")
        for part in ("norm1", "norm2", "norm3"):
            table.norm(getattr(block, part), f"{inside}.{part}")
    table.dense(layer.project_out, f"{name}.proj_out", sides=2)


def _cross_attention(table: NameTable, layer: CrossAttention, name: str, out: str) -> None:
    table.dense(layer.to_query, f"{name}.to_q")
    table.dense(layer.to_key, f"{name}.to_k")
    table.dense(layer.to_value, f"{name}.to_v")
    table.dense(layer.to_out, f"{name}.{out}")


# === Text encoder ===


def text_encoder_names(model: TransformerTextEncoder, prefix: str = "") -> NameTable:
    """Of `TransformerWrapper` (x_transformer.py)."""
    table = NameTable(prefix)
    table.embedding(model.token_embedding, "token_emb")
    table.embedding(model.position_embedding, "pos_emb.emb")
    for i in range(model.num_layers):
        attention, feed_forward = (f"attn_layers.layers.{2 * i + j}" for j in (0, 1))
        table.norm(model.attention_norms[i], f"{attention}.0")
        _cross_attention(table, model.attentions[i], f"{attention}.1", "to_out")
        table.norm(model.feed_forward_norms[i], f"{feed_forward}.0")
        table.dense(model.feed_forward_in[i], f"{feed_forward}.1.net.0.0")
        table.dense(model.feed_forward_out[i], f"{feed_forward}.1.net.2")
    table.norm(model.norm, "norm")
    if model.to_logits is not None:
        table.dense(model.to_logits, "to_logits")
    return table
