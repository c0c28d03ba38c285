"""`UNet` against diffusers' `UNet2DConditionModel`, with the same random weights.

What diffusers calls `attention_head_dim` is the number of heads there (huggingface/diffusers#2011).
"""

import diffusers
import numpy as np
import pytest
import torch

from keras_ldm.models import UNet
from tests.golden.original import deviation
from tests.parity.diffusers_names import load_unet
from tests.parity.torch_modules import arrays_of, from_torch, randomise, shrink, to_torch

pytestmark = pytest.mark.parity

CONFIGS = {
    "two levels": {"channels": (16, 32), "context_dim": 12, "num_heads": 4},
    "one head": {"channels": (16, 32), "context_dim": 12, "num_heads": 1, "num_res_blocks": 1},
    "heads of 8": {
        "channels": (16, 24),
        "context_dim": 12,
        "num_heads": None,
        "head_dim": 8,
        "num_res_blocks": 1,
    },
    "depth 2": {"channels": (16,), "context_dim": 20, "num_heads": 2, "transformer_depth": 2},
    "attention below the top": {
        "channels": (8, 16, 24),
        "context_dim": 12,
        "num_heads": 8,
        "attention_levels": (1, 2),
    },
    "attention above the bottom": {
        "channels": (16, 16, 32),
        "context_dim": 12,
        "num_heads": 2,
        "attention_levels": (0, 1),
        "num_res_blocks": 1,
    },
    "more channels in than out": {
        "channels": (8, 16),
        "context_dim": 12,
        "num_heads": 2,
        "in_channels": 9,
        "out_channels": 3,
        "num_res_blocks": 3,
    },
}
GROUPS = 4


def reference(model: UNet, linear: bool) -> diffusers.UNet2DConditionModel:
    attends = [i in model.attention_levels for i in range(len(model.channels))]
    heads = [model.num_heads or c // model.head_dim for c in model.channels]
    return diffusers.UNet2DConditionModel(
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        block_out_channels=model.channels,
        layers_per_block=model.num_res_blocks,
        norm_num_groups=GROUPS,
        cross_attention_dim=model.context_dim,
        attention_head_dim=tuple(heads),
        transformer_layers_per_block=model.transformer_depth,
        use_linear_projection=linear,
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_prediction(config) -> None:
    ours = UNet(groups=GROUPS, **config)
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2, 8, 12, ours.in_channels), "float32")
    context = rng.standard_normal((2, 5, ours.context_dim), "float32")
    timesteps = np.array([3, 801])
    for linear in (False, True):
        theirs = randomise(reference(ours, linear))
        load_unet(ours, arrays_of(theirs))
        inputs = (to_torch(latents), torch.from_numpy(timesteps), torch.from_numpy(context))
        actual = ours({"latents": latents, "timesteps": timesteps, "context": context})
        assert deviation(actual, from_torch(theirs(*inputs).sample)) < 1e-4


def test_context_matters() -> None:
    """The comparison above would be worth little if the condition hardly reached the output."""
    ours = UNet(groups=GROUPS, **CONFIGS["one head"])
    load_unet(ours, arrays_of(randomise(reference(ours, True))))
    rng = np.random.default_rng(0)
    latents = np.repeat(rng.standard_normal((1, 8, 8, 4), "float32"), 2, axis=0)
    context = rng.standard_normal((2, 5, ours.context_dim), "float32")
    timesteps = np.array([100, 100])
    first, second = ours({"latents": latents, "timesteps": timesteps, "context": context})
    assert deviation(first, second) > 0.03
    first, second = ours(
        {"latents": latents, "timesteps": np.array([100, 900]), "context": context[[0, 0]]}
    )
    assert deviation(first, second) > 0.03


def test_epsilons_of_the_normalizations() -> None:
    """1e-6 before the spatial transformer, 1e-5 everywhere else."""
    ours = UNet(groups=GROUPS, **CONFIGS["one head"])
    theirs = shrink(randomise(reference(ours, True)))
    load_unet(ours, arrays_of(theirs))
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2, 8, 8, 4), "float32")
    context = rng.standard_normal((2, 5, ours.context_dim), "float32")
    timesteps = np.array([3, 801])
    expected = theirs(to_torch(latents), torch.from_numpy(timesteps), torch.from_numpy(context))
    actual = ours({"latents": latents, "timesteps": timesteps, "context": context})
    assert deviation(actual, from_torch(expected.sample)) < 1e-4
