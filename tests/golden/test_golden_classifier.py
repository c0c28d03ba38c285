"""The classifier of noisy latents computes what the published one does; see `noisy_classifier.py`."""

from pathlib import Path

import numpy as np
import pytest
from keras import ops

from keras_ldm.backend import gradient
from keras_ldm.models import UNetClassifier
from keras_ldm.weights.compvis.names import unet_encoder_names
from tests.golden.original import deviation, pseudo_random

pytestmark = pytest.mark.backend
SETTINGS = {
    "adaptive": {"num_heads": 2},
    "attention": {
        "num_heads": None,
        "head_dim": 16,
        "pooling": "attention",
        "latent_size": (8, 8),
        "scale_shift": True,
        "residual_resampling": True,
    },
}


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("noisy_classifier.npz")) as archive:
        return dict(archive)


def load_head(model, pool):
    """Weights behind the middle; returns their names."""
    if pool == "adaptive":
        kernel = pseudo_random("out.3.weight", (5, 64, 1, 1))[..., 0, 0].T
        model.head.set_weights([kernel, pseudo_random("out.3.bias", (5,))])
        return ["out.3.weight", "out.3.bias"]
    head, prefix = model.head, "out.2."
    head.positions.assign(pseudo_random(prefix + "positional_embedding", (64, 17)).T)
    kernels = pseudo_random(prefix + "qkv_proj.weight", (192, 64, 1))[..., 0].reshape(3, 64, 64)
    biases = pseudo_random(prefix + "qkv_proj.bias", (192,)).reshape(3, 64)
    layers = (head.to_query, head.to_key, head.to_value)
    for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
        layer.set_weights([kernel.T, bias])
    kernel = pseudo_random(prefix + "c_proj.weight", (5, 64, 1))[..., 0].T
    head.to_out.set_weights([kernel, pseudo_random(prefix + "c_proj.bias", (5,))])
    parts = ("qkv_proj.weight", "qkv_proj.bias", "c_proj.weight", "c_proj.bias")
    return [prefix + "positional_embedding", *(prefix + part for part in parts)]


def opened(pool, names):
    """Our classifier with the published one's weights, all of which must find their place."""
    model = UNetClassifier(5, (32, 64), 3, num_res_blocks=1, attention_levels=(1,), **SETTINGS[pool])
    table = unet_encoder_names(model)
    table.norm(model.norm_out, "out.0")
    arrays = {name: pseudo_random(name, p.shape) for name, p in table.parameters.items()}
    table.read_into(arrays)
    assert sorted([*arrays, *load_head(model, pool)]) == list(names)
    return model


@pytest.mark.parametrize("pool", SETTINGS)
def test_logits_and_their_gradient(golden, pool) -> None:
    model = opened(pool, golden[f"{pool}_names"])
    x = ops.convert_to_tensor(golden["images"].transpose(0, 2, 3, 1))
    timesteps = ops.convert_to_tensor(golden["timesteps"].astype("int32"))
    places = ops.one_hot(ops.convert_to_tensor(golden["labels"].astype("int32")), 5)

    def chosen(x):
        logits = model({"latents": x, "timesteps": timesteps})
        return ops.sum(places * ops.log_softmax(logits), axis=-1)

    logits = model({"latents": x, "timesteps": timesteps})
    assert deviation(logits, golden[f"{pool}_logits"]) < 1e-5
    slope = np.asarray(golden[f"{pool}_gradient"]).transpose(0, 2, 3, 1)
    assert deviation(gradient(chosen, x), slope) < 1e-4
