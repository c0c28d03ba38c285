"""From token ids to images, the whole text-to-image model does what the original's does."""

import pytest
from keras import ops

from keras_ldm.diffusion import scaled_linear_schedule
from keras_ldm.tasks import TextToImage
from tests.golden import networks
from tests.golden.original import Original, deviation

pytestmark = pytest.mark.backend

SCALE_FACTOR = 0.18215


@pytest.fixture(scope="module")
def golden():
    return Original("txt2img-1p4B")


@pytest.fixture(scope="module")
def task(golden):
    return TextToImage(
        networks.autoencoder(golden, "first_stage_model."),
        networks.unet(golden),
        networks.text_encoder(golden),
        tokenizer=None,
        schedule=scaled_linear_schedule(1000, *networks.BETAS["txt2img-1p4B"]),
        latent_scale=SCALE_FACTOR,
        ema_decay=None,
    )


def test_text_encoder(task, golden) -> None:
    embedder = task.conditioner.embedders["caption"]
    context = embedder(embedder.preprocess(golden["cond_in_tokens"]))["context"]
    assert deviation(context, golden["cond_out"]) < 1e-4


def test_training_loss(task, golden) -> None:
    names = ("x0", "t", "noise", "cond_in_tokens")
    latents, timesteps, noise, tokens = (ops.convert_to_tensor(golden[name]) for name in names)
    predicted = task.predict_noised(latents, timesteps, noise, {"caption": tokens})
    assert deviation(task.compute_loss(y_pred=predicted), golden["training_loss"]) < 1e-4


def test_generated_latents(task, golden) -> None:
    latents = task.generate(
        golden["cond_in_tokens"],
        negative_prompts=golden["cond_in_null_tokens"],
        num_steps=int(golden["steps"]),
        guidance_scale=float(golden["guidance_scale"]),
        sampler="ddim",
        initial_latents=golden["x"],
        output="latents",
        progress=False,
    )
    assert deviation(latents, golden["sampled"]) < 1e-4


def test_decoded_images(task, golden) -> None:
    assert deviation(task.decode_latents(golden["sampled"]), golden["decoded"]) < 1e-4
