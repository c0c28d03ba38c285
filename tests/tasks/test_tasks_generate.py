"""`generate`: what depends on what, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.samplers import ddim
from keras_ldm.tasks import load
from tests.tasks.tiny import LATENT, captions, images, latent_diffusion, numpy, pairs, text_to_image

pytestmark = pytest.mark.backend
BACKEND = keras.backend.backend()


@pytest.fixture(scope="module")
def task():
    keras.utils.set_random_seed(0)
    task = text_to_image()
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit(pairs(), batch_size=4, epochs=2, verbose=0)
    return task


def draw(task, prompts=None, **kwargs):
    arguments = {"num_steps": 3, "seed": 0, "output": "latents", "progress": False, **kwargs}
    return task.generate(captions(3) if prompts is None else prompts, **arguments)


def noise(count=3, side=8, seed=3):
    return np.random.default_rng(seed).standard_normal((count, side, side, LATENT)).astype("float32")


# === Seeds and batches ===


def test_images(task) -> None:
    images = draw(task, output="images")
    assert images.shape == (3, 16, 16, 3)
    assert images.dtype == np.uint8
    assert images.std() > 5


def test_same_seed_same_images(task) -> None:
    assert (draw(task, seed=1) == draw(task, seed=1)).all()
    assert not np.allclose(draw(task, seed=1), draw(task, seed=2), atol=0.1)
    assert not np.allclose(draw(task, seed=None), draw(task, seed=None), atol=0.1)


def test_images_of_one_seed_differ(task) -> None:
    first, second = draw(task, captions(1).repeat(2, axis=0))
    assert not np.allclose(first, second, atol=0.1)
    first, second = draw(task, captions(1).repeat(2, axis=0), seed=[5, 5])
    assert np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"eta": 1.0}, {"sampler": "ddpm"}])
def test_splitting_into_batches_changes_nothing(task, options) -> None:
    whole, split = (
        draw(task, output="images", batch_size=size, **options).astype(int) for size in (4, 1)
    )
    assert np.abs(whole - split).max() <= 1


def test_drawing_leaves_the_seeds_of_training_alone(task) -> None:
    before = [numpy(v) for v in task.variables]
    draw(task)
    assert all((numpy(v) == b).all() for v, b in zip(task.variables, before, strict=True))


# === Steps, sizes, samplers ===


def test_number_of_steps_changes_freely_without_new_traces(task) -> None:
    draw(task)
    traces, drawn, calls = task.unet.traces, {}, 0
    for num_steps in (1, 7, 3, 1000, 50, 7):
        if num_steps == 1000 and BACKEND == "torch":
            num_steps = 20
        steps = []
        latents = draw(task, num_steps=num_steps, callback=steps.append)
        calls += len(steps)
        assert np.isfinite(latents).all()
        assert np.allclose(latents, drawn.setdefault(num_steps, latents), atol=1e-4)
    assert not np.allclose(drawn[1], drawn[50], atol=1e-2)
    assert task.unet.traces - traces == (calls if BACKEND == "torch" else 0)


@pytest.mark.parametrize(("size", "expected"), [(8, (8, 8)), ((32, 16), (32, 16))])
def test_sizes_other_than_that_of_training(task, size, expected) -> None:
    assert task.image_size == (16, 16)
    assert draw(task, output="images", image_size=size).shape == (3, *expected, 3)
    assert task.image_size == (16, 16)


def test_callback_sees_every_step_of_every_batch(task) -> None:
    steps = []
    latents = draw(task, num_steps=4, batch_size=2, callback=steps.append)
    assert [step.index for step in steps] == [0, 1, 2, 3] * 2
    assert {step.num_steps for step in steps} == {4}
    sigmas = [step.sigma for step in steps[:4]]
    assert sigmas == sorted(sigmas, reverse=True)
    assert steps[3].latents.shape == (2, 8, 8, LATENT)
    assert steps[-1].latents.shape == (1, 8, 8, LATENT)
    last = np.concatenate([numpy(steps[3].latents), numpy(steps[-1].latents)])
    assert np.allclose(last / np.sqrt(1 + task.schedule.sigmas[0] ** 2), latents, atol=1e-5)


def test_initial_latents_take_the_place_of_the_seed(task) -> None:
    given = draw(task, initial_latents=noise())
    assert np.allclose(given, draw(task, initial_latents=noise(), seed=9), atol=1e-5)
    assert not np.allclose(given, draw(task), atol=0.1)
    assert draw(task, initial_latents=noise(side=4)).shape == (3, 4, 4, LATENT)


def test_latents_decode_to_the_images(task) -> None:
    decoded = task.decode_latents(draw(task))
    images = draw(task, output="images")
    expected = np.clip(np.round((decoded + 1) * 127.5), 0, 255)
    assert np.abs(images - expected).max() <= 1


def test_sampler_of_ones_own(task) -> None:
    def mine(denoise, x, sigmas, *, seed=None, callback=None, gain=1.0):
        return gain * denoise(x, float(sigmas[0]))

    single = draw(task, sampler=mine)
    assert np.allclose(draw(task, sampler=mine, gain=2.0), 2.0 * single, atol=1e-4)
    steps = []
    draw(task, sampler="euler", num_steps=3, callback=steps.append)  # the same levels and noise
    assert np.allclose(single, numpy(steps[0].denoised), atol=1e-4)
    assert np.allclose(draw(task, sampler=ddim), draw(task), atol=1e-5)
    with pytest.raises(ValueError, match=r"options of the sampler: \['gain'\]. Received: \['eta'\]"):
        draw(task, sampler=mine, eta=1.0)


def test_sampler_options(task) -> None:
    assert np.allclose(draw(task, eta=0.0), draw(task), atol=1e-5)
    assert not np.allclose(draw(task, eta=1.0), draw(task), atol=1e-2)
    assert not np.allclose(draw(task, sampler="ddpm"), draw(task), atol=1e-2)
    with pytest.raises(ValueError, match="`eta` from 0 to 1. Received: 2"):
        draw(task, eta=2)
    with pytest.raises(ValueError, match=r"options of the sampler: \['eta'\]. Received: \['zeta'\]"):
        draw(task, zeta=2)


# === Conditions ===


def test_one_string_or_several() -> None:
    task = text_to_image(tokenizer="bert_uncased", image_size=16, latent_scale=1.0)
    drawn = draw(task, "red heart")
    assert drawn.shape == (1, 8, 8, LATENT)
    both = draw(task, ["red heart", "blue"], seed=[0, 1])
    assert np.allclose(both[:1], draw(task, ["red heart"], seed=[0]), atol=1e-4)
    tokens = task.conditioner.preprocess({"caption": ["red heart", "blue"]})["caption"]
    assert np.allclose(draw(task, tokens, seed=[0, 1]), both, atol=1e-5)
    led_away = draw(task, ["red heart", "blue"], seed=[0, 1], negative_prompts="green")
    one_each = draw(task, ["red heart", "blue"], seed=[0, 1], negative_prompts=["green"] * 2)
    assert np.allclose(led_away, one_each, atol=1e-5)
    with pytest.raises(ValueError, match="Expected captions"):
        task.generate(None, progress=False)
    for prompts in (3, [], [["red"]], ["red", None], ["red", 3], [2.5], [1, 2]):
        with pytest.raises(ValueError, match="Expected"):
            draw(task, prompts)
    with pytest.raises(ValueError, match="each of the 2 prompts. Received: 3"):
        draw(task, ["a", "b"], negative_prompts=["c"] * 3)


def test_guidance_is_the_extrapolation_from_the_empty_caption(task) -> None:
    def denoised(scale, **kwargs):
        steps = []
        draw(task, guidance_scale=scale, num_steps=1, callback=steps.append, **kwargs)
        return numpy(steps[0].denoised)

    conditional, unconditional = denoised(1), denoised(0)
    assert not np.allclose(conditional, unconditional, atol=1e-3)
    assert np.allclose(denoised(3), unconditional + 3 * (conditional - unconditional), atol=1e-3)
    assert np.allclose(denoised(None), denoised(5), atol=1e-5)
    null = task.conditioner.null(3)["caption"]
    assert np.allclose(denoised(1, prompts=null), unconditional, atol=1e-4)
    assert np.allclose(denoised(3, negative_prompts=null), denoised(3), atol=1e-4)
    away = captions(3, seed=8)
    negative = denoised(1, prompts=away)
    guided = denoised(3, negative_prompts=away)
    assert np.allclose(guided, negative + 3 * (conditional - negative), atol=1e-3)


@pytest.mark.parametrize("scale", [None, 0, 1, 1.5, 30, -2])
def test_any_guidance_is_finite(task, scale) -> None:
    assert np.isfinite(draw(task, guidance_scale=scale)).all()


# === Progress ===


def test_progress_bar_goes_to_stderr(task, capsys) -> None:
    draw(task, progress=True, batch_size=2)
    printed = capsys.readouterr()
    assert "generating: 100%" in printed.err
    assert "6/6" in printed.err
    assert printed.out == ""
    draw(task, progress=False)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


# === What is refused ===


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sampler": "eular"}, r"\['ddim', 'ddpm', .*\]. Received: 'eular'"),
        ({"num_steps": 0}, "integer from 1 to 1000.*Received: 0"),
        ({"num_steps": -1}, "integer from 1 to 1000.*Received: -1"),
        ({"num_steps": 1001}, "integer from 1 to 1000.*Received: 1001"),
        ({"num_steps": 2.5}, "integer from 1 to 1000.*Received: 2.5"),
        ({"image_size": 15}, "divides by 2. Received: 15x15"),
        ({"image_size": (16, 17)}, "divides by 2. Received: 16x17"),
        ({"image_size": 0}, "image size.*Received: 0"),
        ({"image_size": -16}, "image size.*Received: -16"),
        ({"image_size": 16.0}, "image size.*Received: 16.0"),
        ({"image_size": "16"}, "image size.*Received: '16'"),
        ({"image_size": (16,)}, r"image size.*Received: \(16,\)"),
        ({"initial_latents": noise()[..., :2]}, r"\(N, height, width, 3\).*shape \(3, 8, 8, 2\)"),
        ({"initial_latents": noise()[:, 0]}, r"\(N, height, width, 3\).*shape \(3, 8, 3\)"),
        ({"initial_latents": noise(2)}, "one number of images.*'initial_latents': 2"),
        ({"initial_latents": 3.0}, r"\(N, height, width, 3\).*shape \(\)"),
        ({"initial_latents": noise(), "image_size": 32}, r"one size of images.*\(16, 16\).*\(32, 32\)"),
        ({"num_images": 2}, "one number of images.*'num_images': 2"),
        ({"output": "pictures"}, "'images' or 'latents'. Received: 'pictures'"),
        ({"guidance_scale": float("nan")}, "finite guidance scale. Received: nan"),
        ({"guidance_scale": 1, "negative_prompts": captions(3)}, "other than 1"),
        ({"seed": -1}, "seeds >= 0. Received: -1"),
        ({"seed": [1, 2]}, "each of the 3 images. Received: 2"),
        ({"batch_size": 0}, "`batch_size` >= 1. Received: 0"),
        ({"prompts": captions(3)[:, :4]}, r"token ids of shape \(batch, 6\).*\(3, 4\)"),
        ({"prompts": ["red"]}, "no tokenizer"),
    ],
)
def test_bad_arguments(task, arguments, match) -> None:
    with pytest.raises(ValueError, match=f"Expected.*{match}|{match}"):
        draw(task, **arguments)


def test_model_trained_without_dropping_captions_is_not_guided() -> None:
    task = text_to_image(caption_dropout=0.0, image_size=16, latent_scale=1.0)
    assert draw(task).shape == (3, 8, 8, LATENT)
    assert (draw(task) == draw(task, guidance_scale=1)).all()
    with pytest.raises(ValueError, match="guidance_scale=5 for a model trained without dropping"):
        draw(task, guidance_scale=5)
    led_away = draw(task, guidance_scale=5, negative_prompts=captions(3)[::-1])
    assert np.abs(led_away - draw(task)).max() > 1e-2
    with pytest.raises(ValueError, match="other than 1 with negative conditions"):
        draw(task, negative_prompts=captions(3))


def test_unconditional_model_takes_no_conditions() -> None:
    task = latent_diffusion(image_size=16, latent_scale=1.0)
    arguments = {"num_steps": 1, "progress": False}
    with pytest.raises(ValueError, match="guidance_scale=2 for an unconditional model"):
        task.generate(guidance_scale=2, **arguments)
    with pytest.raises(ValueError, match=r"no `conditions`.*Received: \['caption'\]"):
        task.generate({"caption": ["a"]}, **arguments)
    for count in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"one number of images.*{count}"):
            task.generate(num_images=count, **arguments)


def test_untrained_model_needs_a_size() -> None:
    with pytest.raises(ValueError, match="Expected `image_size`.*Received: None"):
        latent_diffusion(latent_scale=1.0).generate(num_images=1, progress=False)


def test_untrained_model_needs_a_scale(tmp_path) -> None:
    task = text_to_image(image_size=16)
    task.save(tmp_path / "fresh.keras")
    for fresh in (task, load(tmp_path / "fresh.keras")):
        for use in (
            lambda model: draw(model),
            lambda model: model.evaluate(pairs(), verbose=0),
            lambda model: model.encode_images(images(2)),
            lambda model: model.decode_latents(noise()),
        ):
            with pytest.raises(ValueError, match="known scale of the latents.*`latent_scale`"):
                use(fresh)


def test_average_is_drawn_from_what_the_network_sees(task) -> None:
    """One step by hand, from noise to the estimate of the clean latents."""
    steps = []
    draw(task, num_steps=1, guidance_scale=1, initial_latents=noise(), callback=steps.append)
    sigma = steps[0].sigma
    assert sigma == pytest.approx(task.schedule.sigmas[1])
    with task.inference.scope():
        inputs = {"caption": ops.convert_to_tensor(captions(3).astype("int32"))}
        context = task.conditioner(inputs)["context"]
        signal, spread = task.schedule.signal_rates[1], task.schedule.noise_rates[1]
        given = {
            "latents": ops.convert_to_tensor(noise()),
            "timesteps": ops.convert_to_tensor(np.ones(3, "float32")),
        }
        output = numpy(task.unet({**given, "context": context}))
    assert np.allclose((noise() - spread * output) / signal, numpy(steps[0].denoised), atol=1e-4)
