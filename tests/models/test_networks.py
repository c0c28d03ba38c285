"""What the networks compute: scales, dependence on conditions, errors."""

import re

import numpy as np
import pytest

from keras_ldm.models import AutoencoderKL, TransformerTextEncoder, UNet, VQModel
from tests.contract import array, numpy, randomize

SMALL = {"in_channels": 2, "out_channels": 2, "num_res_blocks": 1, "groups": 2, "num_heads": 2}
LATENTS = {"latents": array(2, 4, 6, 2), "timesteps": np.array([7, 950], "int32")}


@pytest.mark.parametrize("context_dim", [None, 5])
def test_a_fresh_unet_gives_zeros(context_dim: int | None) -> None:
    unet = UNet((4,), context_dim=context_dim, **SMALL)
    inputs = LATENTS if context_dim is None else {**LATENTS, "context": array(2, 3, 5)}
    np.testing.assert_array_equal(numpy(unet(inputs)), 0.0)
    randomize(unet)
    assert np.std(numpy(unet(inputs))) > 0.01


def test_the_parts_that_a_fresh_unet_zeroes() -> None:
    unet = UNet((4,), context_dim=5, **SMALL)
    zeros = {w.path.split("/", 1)[1] for w in unet.weights if not w.numpy().any()}
    kernels = {path for path in zeros if path.endswith("kernel")}
    blocks = {"encoder_level0_0", "middle", "decoder_level0_0", "decoder_level0_1"}
    expected = {"conv_out/kernel"} | {f"{b}/transformer/project_out/kernel" for b in blocks}
    expected |= {f"{b}/residual/conv2/kernel" for b in blocks}
    assert {re.sub(r"residual\d", "residual", path) for path in kernels} == expected
    assert len(kernels) == len(expected) + 1  # two residual blocks in the middle


def test_every_condition_counts() -> None:
    unet = UNet((4,), **{**SMALL, "in_channels": 3}, context_dim=5, vector_dim=7)
    randomize(unet)
    inputs = {
        **LATENTS,
        "context": array(2, 3, 5, seed=1),
        "vector": array(2, 7, seed=2),
        "concat": array(2, 4, 6, 1, seed=3),
    }
    out = numpy(unet(inputs))
    for name, value in inputs.items():
        changed = value.copy()
        changed[1] += 1
        new = numpy(unet({**inputs, name: changed}))
        np.testing.assert_allclose(new[0], out[0], atol=2e-5, err_msg=name)
        assert np.abs(new[1] - out[1]).max() > 1e-3, name


def test_unet_runs_on_other_sizes_than_the_first() -> None:
    unet = UNet((4, 4), **SMALL)
    randomize(unet)
    for height, width in [(4, 4), (2, 6)]:
        inputs = {"latents": array(1, height, width, 2), "timesteps": np.ones(1, "int32")}
        assert numpy(unet(inputs)).shape == (1, height, width, 2)


@pytest.mark.parametrize(
    "options, extra, message",
    [
        ({"context_dim": 5}, {}, "Expected a `context` .context_dim=5."),
        ({}, {"context": array(2, 3, 5)}, "Expected no `context` .context_dim=None."),
        ({"vector_dim": 5}, {}, "Expected a `vector`"),
        ({}, {"vector": array(2, 5)}, "Expected no `vector`"),
        ({"channels": (4, 4)}, {"latents": array(2, 3, 4, 2)}, "sides that divide by 2"),
    ],
)
def test_unet_refuses_wrong_inputs(options: dict, extra: dict, message: str) -> None:
    unet = UNet(**{"channels": (4,), **SMALL, **options})
    with pytest.raises(ValueError, match=message):
        unet({**LATENTS, **extra})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channels": ()}, "at least one level"),
        ({"channels": (4,), "attention_levels": (1,)}, "attention levels among them"),
        ({"channels": (4,), "head_dim": 2, "num_heads": 2}, "`num_heads` or `head_dim`"),
        ({"channels": (4,), "num_heads": 3}, "divide into heads"),
        ({"channels": (4,), "num_heads": None, "head_dim": 8}, "divide into heads"),
        ({"channels": (6,), "groups": 4}, "divides by 4 groups"),
    ],
)
def test_unet_refuses_wrong_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**{**SMALL, **options})


def test_unet_heads() -> None:
    by_number = UNet((4, 8), **{**SMALL, "num_heads": 2})
    by_width = UNet((4, 8), **{**SMALL, "num_heads": None}, head_dim=2)
    heads = [
        [stage.layers[1].num_heads for stage in unet.encoder if len(stage.layers) > 1]
        for unet in (by_number, by_width)
    ]
    assert heads == [[2, 2], [2, 4]]


def test_autoencoder_scales_and_parts() -> None:
    model = AutoencoderKL((4, 4, 4), latent_channels=3, num_res_blocks=1, groups=2)
    images = array(1, 8, 12, 3)
    assert model.downsampling_factor == 4
    randomize(model)
    posterior = model.encode(images)
    assert posterior.mean.shape == (1, 2, 3, 3)
    moments = numpy(model.moments(images))
    np.testing.assert_array_equal(numpy(posterior.mean), moments[..., :3])
    reconstruction = numpy(model.decode(posterior.mode()))
    np.testing.assert_allclose(numpy(model(images)), reconstruction, atol=1e-5)
    assert sum("attention" in layer.name for layer in model.encoder.layers) == 1


def test_autoencoder_without_middle_attention_has_none() -> None:
    model = AutoencoderKL((4, 4), latent_channels=2, num_res_blocks=1, groups=2, middle_attention=False)
    assert not any("attention" in layer.name for layer in model._flatten_layers())


@pytest.mark.parametrize("model", [AutoencoderKL, VQModel])
def test_autoencoder_takes_uint8_images(model: type) -> None:
    autoencoder = model(channels=(8, 8), latent_channels=2, groups=4, num_res_blocks=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    floats = images.astype("float32") / 127.5 - 1.0
    np.testing.assert_allclose(
        numpy(autoencoder.moments(images)), numpy(autoencoder.moments(floats)), atol=1e-6
    )
    np.testing.assert_allclose(numpy(autoencoder(images)), numpy(autoencoder(floats)), atol=1e-6)


@pytest.mark.parametrize("options", [{"channels": ()}, {"channels": (4,), "attention_levels": [1]}])
def test_autoencoder_refuses_levels_that_are_not_there(options: dict) -> None:
    with pytest.raises(ValueError, match="attention levels among them"):
        AutoencoderKL(groups=2, **options)


def make_text_encoder(**options: object) -> TransformerTextEncoder:
    encoder = TransformerTextEncoder(11, 6, 2, 7, num_heads=2, head_dim=4, **options)
    randomize(encoder)
    return encoder


def test_text_encoder_reads_every_token_and_its_place() -> None:
    encoder = make_text_encoder()
    tokens = np.array([[1, 2, 3, 0, 0]], "int32")
    out = numpy(encoder(tokens))
    assert np.abs(numpy(encoder(tokens[:, [1, 0, 2, 3, 4]]))[:, [1, 0, 2, 3, 4]] - out).max() > 0.01
    changed = tokens.copy()
    changed[0, 4] = 5  # nothing is masked, neither the future nor padding
    assert np.abs(numpy(encoder(changed))[0, 0] - out[0, 0]).max() > 1e-4


def test_text_encoder_normalizes_its_output() -> None:
    encoder = TransformerTextEncoder(11, 6, 1, 7, num_heads=2, head_dim=4)
    # Embeddings as small as the fresh ones are not yet much larger than epsilon.
    encoder.set_weights([10 * w for w in encoder.get_weights()])
    gamma, beta = encoder.norm.get_weights()
    out = (numpy(encoder(np.array([[1, 2, 3]], "int32"))) - beta) / gamma
    np.testing.assert_allclose(out.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=-1), 1, atol=1e-2)


def test_text_encoder_refuses_too_many_tokens() -> None:
    with pytest.raises(ValueError, match="at most 7 tokens"):
        make_text_encoder()(np.zeros((1, 8), "int32"))


def test_text_encoder_drops_in_training_only() -> None:
    encoder = make_text_encoder(dropout=0.5, seed=0)
    tokens = np.array([[1, 2, 3]], "int32")
    out = numpy(encoder(tokens))
    np.testing.assert_array_equal(numpy(encoder(tokens, training=False)), out)
    assert np.abs(numpy(encoder(tokens, training=True)) - out).max() > 0.01


def test_text_encoder_drops_in_its_feed_forward_layers_too() -> None:
    encoder = make_text_encoder(dropout=0.5, seed=0)
    for attention in encoder.attentions:
        attention.to_out.set_weights([0 * w for w in attention.to_out.get_weights()])
    tokens = np.array([[1, 2, 3]], "int32")
    difference = numpy(encoder(tokens, training=True)) - numpy(encoder(tokens))
    assert np.abs(difference).max() > 0.01
