"""The original latent-diffusion code's names, in our networks.

Each function takes arrays by the name that they have within their network (no `first_stage_model.`,
`model.diffusion_model.` or `cond_stage_model.transformer.`).
"""

from collections.abc import Mapping

import numpy as np

from keras_ldm.layers import (
    CrossAttention,
    Downsample,
    ResidualBlock,
    SpatialSelfAttention,
    SpatialTransformer,
    Upsample,
)
from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet
from tests.golden.strict_loading import StrictLoader

Arrays = Mapping[str, np.ndarray]


# === Autoencoder ===


def load_autoencoder(model: AutoencoderKL, arrays: Arrays) -> None:
    loader = StrictLoader(arrays)
    last = len(model.channels) - 1

    def residual(layer: ResidualBlock, name: str) -> None:
        for part in ("norm1", "norm2"):
            loader.norm(getattr(layer, part), f"{name}.{part}")
        for part in ("conv1", "conv2"):
            loader.conv(getattr(layer, part), f"{name}.{part}")
        if layer.skip is not None:
            loader.conv(layer.skip, f"{name}.nin_shortcut")

    def attention(layer: SpatialSelfAttention, name: str) -> None:
        loader.norm(layer.norm, f"{name}.norm")
        loader.dense(layer.to_query, f"{name}.q")
        loader.dense(layer.to_key, f"{name}.k")
        loader.dense(layer.to_value, f"{name}.v")
        loader.dense(layer.to_out, f"{name}.proj_out")

    encoder = iter(model.encoder_layers)
    decoder = iter(model.decoder_layers)

    def level(layers, name: str, index: int, num_blocks: int) -> None:
        for i in range(num_blocks):
            residual(next(layers), f"{name}.{index}.block.{i}")
            if index in model.attention_levels:
                attention(next(layers), f"{name}.{index}.attn.{i}")

    def middle(layers, name: str) -> None:
        residual(next(layers), f"{name}.block_1")
        attention(next(layers), f"{name}.attn_1")
        residual(next(layers), f"{name}.block_2")

    loader.conv(next(encoder), "encoder.conv_in")
    for index in range(last + 1):
        level(encoder, "encoder.down", index, model.num_res_blocks)
        if index < last:
            loader.conv(next(encoder).conv, f"encoder.down.{index}.downsample.conv")
    middle(encoder, "encoder.mid")
    loader.norm(model.encoder_norm, "encoder.norm_out")
    loader.conv(model.encoder_out, "encoder.conv_out")
    loader.conv(model.to_moments, "quant_conv")

    loader.conv(model.from_latents, "post_quant_conv")
    loader.conv(next(decoder), "decoder.conv_in")
    middle(decoder, "decoder.mid")
    for index in reversed(range(last + 1)):
        level(decoder, "decoder.up", index, model.num_res_blocks + 1)
        if index:
            loader.conv(next(decoder).conv, f"decoder.up.{index}.upsample.conv")
    loader.norm(model.decoder_norm, "decoder.norm_out")
    loader.conv(model.decoder_out, "decoder.conv_out")
    loader.finish(model)


# === U-Net ===


def _cross_attention(loader: StrictLoader, layer: CrossAttention, name: str, out: str) -> None:
    loader.dense(layer.to_query, f"{name}.to_q")
    loader.dense(layer.to_key, f"{name}.to_k")
    loader.dense(layer.to_value, f"{name}.to_v")
    loader.dense(layer.to_out, f"{name}.{out}")


def _transformer(loader: StrictLoader, layer: SpatialTransformer, name: str) -> None:
    loader.norm(layer.norm, f"{name}.norm")
    loader.dense(layer.project_in, f"{name}.proj_in")
    for i, block in enumerate(layer.blocks):
        inside = f"{name}.transformer_blocks.{i}"
        _cross_attention(loader, block.self_attention, f"{inside}.attn1", "to_out.0")
        _cross_attention(loader, block.cross_attention, f"{inside}.attn2", "to_out.0")
        loader.dense(block.feed_forward.projection, f"{inside}.ff.net.0.proj")
        loader.dense(block.feed_forward_out, f"{inside}.ff.net.2")
        for part in ("norm1", "norm2", "norm3"):
            loader.norm(getattr(block, part), f"{inside}.{part}")
    loader.dense(layer.project_out, f"{name}.proj_out")


def _self_attention(loader: StrictLoader, layer: SpatialSelfAttention, name: str) -> None:
    """`AttentionBlock`: one matrix, the heads outermost, in each its queries, keys and values."""
    loader.norm(layer.norm, f"{name}.norm")
    kernel, bias = loader.take(f"{name}.qkv.weight"), loader.take(f"{name}.qkv.bias")
    channels = kernel.shape[1]
    split = (layer.num_heads, 3, channels // layer.num_heads)
    kernel, bias = kernel.reshape(*split, channels), bias.reshape(split)
    for i, projection in enumerate((layer.to_query, layer.to_key, layer.to_value)):
        loader.assign(projection.kernel, kernel[:, i].reshape(channels, channels).T)
        loader.assign(projection.bias, bias[:, i].reshape(channels))
    loader.dense(layer.to_out, f"{name}.proj_out")


def _unet_layer(loader: StrictLoader, layer, name: str) -> None:
    if isinstance(layer, ResidualBlock):
        loader.norm(layer.norm1, f"{name}.in_layers.0")
        loader.conv(layer.conv1, f"{name}.in_layers.2")
        loader.dense(layer.embedding_projection, f"{name}.emb_layers.1")
        loader.norm(layer.norm2, f"{name}.out_layers.0")
        loader.conv(layer.conv2, f"{name}.out_layers.3")
        if layer.skip is not None:
            loader.conv(layer.skip, f"{name}.skip_connection")
    elif isinstance(layer, SpatialTransformer):
        _transformer(loader, layer, name)
    elif isinstance(layer, SpatialSelfAttention):
        _self_attention(loader, layer, name)
    elif isinstance(layer, Downsample):
        loader.conv(layer.conv, f"{name}.op")
    elif isinstance(layer, Upsample):
        loader.conv(layer.conv, f"{name}.conv")
    else:
        raise TypeError(f"no names for {layer}")


def load_unet(model: UNet, arrays: Arrays) -> None:
    loader = StrictLoader(arrays)
    loader.dense(model.embedding_in, "time_embed.0")
    loader.dense(model.embedding_out, "time_embed.2")
    loader.conv(model.conv_in, "input_blocks.0.0")
    stages = [
        *((stage, f"input_blocks.{i}") for i, stage in enumerate(model.encoder, 1)),
        (model.middle, "middle_block"),
        *((stage, f"output_blocks.{i}") for i, stage in enumerate(model.decoder)),
    ]
    for stage, name in stages:
        for i, layer in enumerate(stage.layers):
            _unet_layer(loader, layer, f"{name}.{i}")
    loader.norm(model.norm_out, "out.0")
    loader.conv(model.conv_out, "out.2")
    loader.finish(model)


# === Text encoder ===


def load_text_encoder(model: TransformerTextEncoder, arrays: Arrays) -> None:
    """Without `to_logits`, which the original has and never calls."""
    loader = StrictLoader({k: v for k, v in arrays.items() if not k.startswith("to_logits.")})
    loader.embedding(model.token_embedding, "token_emb")
    loader.embedding(model.position_embedding, "pos_emb.emb")
    for i in range(model.num_layers):
        attention, feed_forward = (f"attn_layers.layers.{2 * i + j}" for j in (0, 1))
        loader.norm(model.attention_norms[i], f"{attention}.0")
        _cross_attention(loader, model.attentions[i], f"{attention}.1", "to_out")
        loader.norm(model.feed_forward_norms[i], f"{feed_forward}.0")
        loader.dense(model.feed_forward_in[i], f"{feed_forward}.1.net.0.0")
        loader.dense(model.feed_forward_out[i], f"{feed_forward}.1.net.2")
    loader.norm(model.norm, "norm")
    loader.finish(model)
