"""The contract of every layer: compiled, symbolic, from its configuration, saved, mixed, trained."""

from pathlib import Path

import keras
import pytest

from keras_ldm import layers
from tests.contract import array, check_contract

IMAGE, EMBEDDING = array(2, 4, 6, 8), array(2, 12, seed=1)
TOKENS, CONTEXT = array(2, 5, 8, seed=2), array(2, 3, 6, seed=3)

CASES = {
    "group_norm": (lambda: layers.GroupNorm(4, 1e-3), [IMAGE]),
    "downsample_symmetric": (lambda: layers.Downsample(6, "symmetric"), [IMAGE]),
    "downsample_asymmetric": (lambda: layers.Downsample(6, "asymmetric"), [IMAGE]),
    "upsample": (lambda: layers.Upsample(6), [IMAGE]),
    "residual": (lambda: layers.ResidualBlock(8, groups=4), [IMAGE]),
    "residual_wider": (
        lambda: layers.ResidualBlock(4, groups=2, epsilon=1e-3, dropout=0.4, seed=3),
        [IMAGE],
    ),
    "residual_embedding": (
        lambda: layers.ResidualBlock(12, embedding_dim=12, groups=4, zero_init=True),
        [IMAGE, EMBEDDING],
    ),
    "residual_scale_shift_down": (
        lambda: layers.ResidualBlock(12, embedding_dim=12, scale_shift=True, resample="down", groups=4),
        [IMAGE, EMBEDDING],
    ),
    "residual_up": (lambda: layers.ResidualBlock(8, resample="up", groups=4), [IMAGE]),
    "linear_spatial_attention": (lambda: layers.LinearSpatialAttention(), [IMAGE]),
    "cross_attention_self": (lambda: layers.CrossAttention(2, 3), [TOKENS]),
    "cross_attention": (lambda: layers.CrossAttention(2, 3, 0.3, 4), [TOKENS, CONTEXT]),
    "geglu": (lambda: layers.GEGLU(5), [TOKENS]),
    "transformer_block_self": (lambda: layers.TransformerBlock(2, 4), [TOKENS]),
    "transformer_block": (
        lambda: layers.TransformerBlock(2, 4, dropout=0.2, seed=1),
        [TOKENS, CONTEXT],
    ),
    "spatial_transformer_self": (lambda: layers.SpatialTransformer(2, 3, groups=4), [IMAGE]),
    "spatial_transformer": (
        lambda: layers.SpatialTransformer(2, 3, depth=2, dropout=0.1, groups=4, seed=5),
        [IMAGE, CONTEXT],
    ),
    "conditional_sequential": (
        lambda: layers.ConditionalSequential(
            [
                layers.ResidualBlock(4, embedding_dim=12, groups=2),
                layers.SpatialTransformer(2, 2, groups=2),
                layers.Downsample(6),
            ]
        ),
        [IMAGE, EMBEDDING, CONTEXT],
    ),
}


TENSORFLOW_ONLY = {"residual", "cross_attention_self", "transformer_block_self"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in TENSORFLOW_ONLY else pytest.mark.backend) for n in CASES],
)
def test_layer_keeps_the_contract(name: str, tmp_path: Path) -> None:
    make, inputs = CASES[name]
    check_contract(make, inputs, tmp_path)


@pytest.mark.backend
def test_spatial_self_attention_keeps_the_contract(tmp_path: Path) -> None:
    # A bias of the keys shifts all scores of a query alike, so that softmax undoes it.
    check_contract(
        lambda: layers.SpatialSelfAttention(2, groups=4, epsilon=1e-3, zero_init=True),
        [IMAGE],
        tmp_path,
        without_gradient=["to_key/bias"],
    )


@pytest.mark.backend
def test_sinusoidal_embedding_keeps_the_contract(tmp_path: Path) -> None:
    timesteps = array(3, seed=4) * 300
    layer = check_contract(
        lambda: layers.SinusoidalEmbedding(9, max_period=50.0),
        [timesteps],
        tmp_path,
        mixed_dtype="float32",
        mixed_tolerance=1e-6,
    )
    assert isinstance(layer, keras.layers.Layer) and not layer.weights
