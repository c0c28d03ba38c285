"""The U-Net, the noise schedule and DDIM do what the original's do.

`txt2img-1p4B` has a context of tokens and 8 heads, `cin256-v2` a context of one token and 1 head,
`ffhq256` no context: plain self-attention, whose heads lie outermost in one matrix over there.
"""

from functools import cache

import numpy as np
import pytest
from keras import ops

from keras_ldm.backend import compile_function, values_of
from keras_ldm.diffusion import Denoiser, classifier_free_guidance, scaled_linear_schedule
from keras_ldm.models import AutoencoderKL
from keras_ldm.samplers import ddim, uniform_sigmas
from keras_ldm.samplers.grids import uniform_timesteps_grid
from keras_ldm.tasks import LatentDiffusion
from tests.golden import networks
from tests.golden.original import Original, deviation

pytestmark = pytest.mark.backend

NAMES = ["txt2img-1p4B", "cin256-v2", "ffhq256"]

original = cache(Original)


@cache
def unet(name):
    return networks.unet(original(name))


def schedule(name):
    return scaled_linear_schedule(1000, *networks.BETAS[name])


@pytest.mark.parametrize("name", NAMES)
def test_epsilon(name) -> None:
    golden = original(name)
    inputs = {"latents": golden["x"], "timesteps": golden["t"]}
    if "cond_out" in golden.arrays:
        inputs["context"] = golden["cond_out"]
    assert deviation(unet(name)(inputs), golden["eps"]) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_schedule(name) -> None:
    assert deviation(schedule(name).alphas_cumprod, original(name)["alphas_cumprod"]) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_timesteps_visited(name) -> None:
    golden = original(name)
    timesteps = uniform_timesteps_grid(schedule(name), int(golden["steps"]))
    np.testing.assert_array_equal(timesteps, golden["timesteps"])


def test_sampling_with_guidance() -> None:
    """From class tokens, guided away from the class that stands for none."""
    name = "cin256-v2"
    golden = original(name)
    table = golden.weights("cond_stage_model.")["embedding.weight"]
    context = np.concatenate(
        [np.tile(table[golden["cond_in_null_class"]], (2, 1))[:, None], golden["cond_out"]]
    )
    np.testing.assert_allclose(table[golden["cond_in_class"]][:, None], golden["cond_out"], 1e-6)

    model, sigmas = unet(name), uniform_sigmas(schedule(name), int(golden["steps"]))
    compiled = compile_function(
        lambda x, t: model({"latents": x, "timesteps": t, "context": context}), model.variables
    )
    values = values_of(model.variables)
    denoise = Denoiser(lambda x, t: compiled(values, x, t), schedule(name), "epsilon")
    noise = ops.convert_to_tensor(golden["x"] * np.float32(np.sqrt(1 + sigmas[0] ** 2)))
    guided = classifier_free_guidance(denoise, float(golden["guidance_scale"]))
    sampled = ddim(guided, noise, sigmas) / float(np.sqrt(1 + sigmas[-1] ** 2))
    assert deviation(sampled, golden["sampled"]) < 1e-4


@pytest.fixture(scope="module")
def unconditional():
    """The unconditional model as a task; its first stage, which these tests do not use, is random."""
    return LatentDiffusion(
        AutoencoderKL((32,), latent_channels=3, num_res_blocks=1),
        unet("ffhq256"),
        schedule=schedule("ffhq256"),
        latent_scale=1.0,
        ema_decay=None,
    )


def test_unconditional_training_loss(unconditional) -> None:
    golden = original("ffhq256")
    tensors = (ops.convert_to_tensor(golden[name]) for name in ("x0", "t", "noise"))
    predicted = unconditional.predict_noised(*tensors, {})
    loss = unconditional.compute_loss(y_pred=predicted)
    assert deviation(loss, golden["training_loss"]) < 1e-4


def test_unconditional_generation(unconditional) -> None:
    golden = original("ffhq256")
    sampled = unconditional.generate(
        num_images=2,
        num_steps=int(golden["steps"]),
        sampler="ddim",
        initial_latents=golden["x"],
        output="latents",
        progress=False,
    )
    assert deviation(sampled, golden["sampled"]) < 1e-4
