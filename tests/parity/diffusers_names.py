"""diffusers' names, in our networks: `AutoencoderKL` and `UNet2DConditionModel`."""

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
from keras_ldm.models import AutoencoderKL, UNet
from tests.parity.strict_loading import StrictLoader

Arrays = Mapping[str, np.ndarray]


def _residual(loader: StrictLoader, layer: ResidualBlock, name: str) -> None:
    for part in ("norm1", "norm2"):
        loader.norm(getattr(layer, part), f"{name}.{part}")
    for part in ("conv1", "conv2"):
        loader.conv(getattr(layer, part), f"{name}.{part}")
    if layer.embedding_projection is not None:
        loader.dense(layer.embedding_projection, f"{name}.time_emb_proj")
    if layer.skip is not None:
        loader.conv(layer.skip, f"{name}.conv_shortcut")


def _projections(loader: StrictLoader, layer: CrossAttention | SpatialSelfAttention, name: str) -> None:
    loader.dense(layer.to_query, f"{name}.to_q")
    loader.dense(layer.to_key, f"{name}.to_k")
    loader.dense(layer.to_value, f"{name}.to_v")
    loader.dense(layer.to_out, f"{name}.to_out.0")


def _attention(loader: StrictLoader, layer, name: str) -> None:
    if isinstance(layer, SpatialSelfAttention):
        loader.norm(layer.norm, f"{name}.group_norm")
        _projections(loader, layer, name)
        return
    assert isinstance(layer, SpatialTransformer)
    loader.norm(layer.norm, f"{name}.norm")
    loader.dense(layer.project_in, f"{name}.proj_in")
    for i, block in enumerate(layer.blocks):
        inside = f"{name}.transformer_blocks.{i}"
        _projections(loader, block.self_attention, f"{inside}.attn1")
        _projections(loader, block.cross_attention, f"{inside}.attn2")
        loader.dense(block.feed_forward.projection, f"{inside}.ff.net.0.proj")
        loader.dense(block.feed_forward_out, f"{inside}.ff.net.2")
        for part in ("norm1", "norm2", "norm3"):
            loader.norm(getattr(block, part), f"{inside}.{part}")
    loader.dense(layer.project_out, f"{name}.proj_out")


class _Counter:
    """Gives the layers of a level their places: `resnets.0`, `attentions.0`, `resnets.1`, ..."""

    def __init__(self, loader: StrictLoader, name: str) -> None:
        self.loader, self.name = loader, name
        self.residuals = self.attentions = 0

    def load(self, layer) -> None:
        if isinstance(layer, ResidualBlock):
            _residual(self.loader, layer, f"{self.name}.resnets.{self.residuals}")
            self.residuals += 1
        elif isinstance(layer, (SpatialSelfAttention, SpatialTransformer)):
            _attention(self.loader, layer, f"{self.name}.attentions.{self.attentions}")
            self.attentions += 1
        elif isinstance(layer, Downsample):
            self.loader.conv(layer.conv, f"{self.name}.downsamplers.0.conv")
        elif isinstance(layer, Upsample):
            self.loader.conv(layer.conv, f"{self.name}.upsamplers.0.conv")
        else:
            raise TypeError(f"no names for {layer}")


def load_autoencoder(model: AutoencoderKL, arrays: Arrays) -> None:
    loader = StrictLoader(arrays)
    encoder, decoder = list(model.encoder.layers), list(model.decoder.layers)
    middle = 3 if model.encoder.middle_attention else 2

    def blocks(layers, name: str, resampling: type) -> None:
        index, counter = 0, _Counter(loader, f"{name}.0")
        for layer in layers:
            counter.load(layer)
            if isinstance(layer, resampling):
                index += 1
                counter = _Counter(loader, f"{name}.{index}")

    def mid(layers, name: str) -> None:
        counter = _Counter(loader, name)
        for layer in layers:
            counter.load(layer)

    loader.conv(encoder[0], "encoder.conv_in")
    blocks(encoder[1:-middle], "encoder.down_blocks", Downsample)
    mid(encoder[-middle:], "encoder.mid_block")
    loader.norm(model.encoder.norm_out, "encoder.conv_norm_out")
    loader.conv(model.encoder.conv_out, "encoder.conv_out")
    loader.conv(model.to_moments, "quant_conv")

    loader.conv(model.from_latents, "post_quant_conv")
    loader.conv(decoder[0], "decoder.conv_in")
    mid(decoder[1 : 1 + middle], "decoder.mid_block")
    blocks(decoder[1 + middle :], "decoder.up_blocks", Upsample)
    loader.norm(model.decoder.norm_out, "decoder.conv_norm_out")
    loader.conv(model.decoder.conv_out, "decoder.conv_out")
    loader.finish(model)


def load_unet(model: UNet, arrays: Arrays) -> None:
    loader = StrictLoader(arrays)
    loader.dense(model.embedding_in, "time_embedding.linear_1")
    loader.dense(model.embedding_out, "time_embedding.linear_2")
    loader.conv(model.conv_in, "conv_in")

    index, counter = 0, _Counter(loader, "down_blocks.0")
    for stage in model.encoder:
        for layer in stage.layers:
            counter.load(layer)
            if isinstance(layer, Downsample):
                index += 1
                counter = _Counter(loader, f"down_blocks.{index}")
    counter = _Counter(loader, "mid_block")
    for layer in model.middle.layers:
        counter.load(layer)
    for index in range(len(model.channels)):
        counter = _Counter(loader, f"up_blocks.{index}")
        each = model.num_res_blocks + 1
        for stage in model.decoder[index * each : (index + 1) * each]:
            for layer in stage.layers:
                counter.load(layer)

    loader.norm(model.norm_out, "conv_norm_out")
    loader.conv(model.conv_out, "conv_out")
    loader.finish(model)
