"""Every sampler through a task, compiled loops, images to start from, interpolation, inversion."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm import samplers
from keras_ldm.diffusion import Denoiser, FlowSchedule, classifier_free_guidance, zero_terminal_snr
from keras_ldm.tasks import BlendedConditions, GenerativeTask, LatentDiffusion, load
from tests.tasks.tiny import (
    LATENT,
    TinyUNet,
    captions,
    images,
    latent_diffusion,
    numpy,
    pairs,
    pixel_autoencoder,
    text_to_image,
)

pytestmark = pytest.mark.backend
BACKEND = keras.backend.backend()
NAMES = samplers.sampler_names()
needs_xla = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch has no XLA")


@pytest.fixture(scope="module")
def task():
    keras.utils.set_random_seed(0)
    task = text_to_image()
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit(pairs(), batch_size=4, epochs=2, verbose=0)
    return task


@pytest.fixture(scope="module")
def pixels():
    """Latents that are pixels: what is drawn can be compared with what was given."""
    keras.utils.set_random_seed(0)
    task = LatentDiffusion(pixel_autoencoder(), TinyUNet(), image_size=16, latent_scale=1.0)
    task.compile(keras.optimizers.Adam(1e-2))
    task.fit({"image": images(16)}, batch_size=4, epochs=3, verbose=0)
    return task


def draw(task, prompts=None, **kwargs):
    arguments = {"num_steps": 3, "seed": 0, "output": "latents", "progress": False, **kwargs}
    return task.generate(captions(3) if prompts is None else prompts, **arguments)


def picture(count=1, seed=2, side=16):
    """Of blocks of 2x2 equal pixels, so that the pixel autoencoder keeps it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, side // 2, side // 2, 3), dtype=np.uint8)
    return small.repeat(2, axis=1).repeat(2, axis=2)


def assert_close(a, b, tolerance=2e-5):
    """Equal, compared with the largest of the values."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()))


# === Samplers ===


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_is_the_function_over_the_tasks_network(task, name) -> None:
    """By name, with guidance, against the parts put together by hand."""
    task.finish_average()
    schedule, sampler = task.schedule, samplers.get_sampler(name)
    sigmas = sampler.grid(schedule, 4)
    tokens = np.concatenate([task.conditioner.null(1).get("caption").repeat(2, 0), captions(2)])

    def network(latents, timesteps):
        with task.inference.scope():
            context = task.conditioner({"caption": ops.convert_to_tensor(tokens)})
            return task.unet({"latents": latents, "timesteps": timesteps, **context})

    denoise = classifier_free_guidance(Denoiser(network, schedule), 3.0)
    noise = samplers.ImageNoise(samplers.image_seeds(7, 2))
    unit = noise((2, 8, 8, LATENT))
    scale = np.sqrt(1 + sigmas[0] ** 2) if sampler.starts_from_unit_variance else sigmas[0]
    x = sampler.function(denoise, unit * float(scale), sigmas, seed=noise)
    expected = numpy(x) / np.sqrt(1 + sigmas[-1] ** 2)
    out = draw(task, captions(2), sampler=name, num_steps=4, guidance_scale=3.0, seed=7)
    assert_close(out, expected)


def test_nothing_but_a_shape_needs_a_new_trace(task) -> None:
    draw(task)
    traces = task.unet.traces
    if BACKEND == "torch":
        assert traces  # nothing is traced there: each call runs
        return
    for name in NAMES:
        draw(task, sampler=name, num_steps=4)
    for grid in ("karras", "trailing", [5.0, 1.0, 0.0]):
        steps = {"num_steps": None} if isinstance(grid, list) else {}
        draw(task, sampler="heun", sigmas=grid, **steps)
    for scale in (0.0, 2.0, 30.0):
        draw(task, guidance_scale=scale, seed=3, num_steps=7)
    draw(task, negative_prompts=captions(3, seed=8))
    assert task.unet.traces == traces
    draw(task, captions(7))
    assert task.unet.traces > traces  # another batch size


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(task, name) -> None:
    whole = draw(task, captions(5), sampler=name, seed=[3, 4, 5, 6, 7])
    parts = draw(task, captions(5), sampler=name, seed=[3, 4, 5, 6, 7], batch_size=2)
    assert_close(whole, parts, 1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_3m_sde", "euler_ancestral", "lcm"])
@pytest.mark.parametrize("num_steps", [1, 2])
def test_few_steps_are_finite(task, sampler, num_steps) -> None:
    for scale in (0, 1, 30):
        assert np.isfinite(draw(task, sampler=sampler, num_steps=num_steps, guidance_scale=scale)).all()


def test_a_hundred_images_in_parts(task) -> None:
    drawn = draw(task, captions(100), batch_size=32, sampler="dpmpp_2m", num_steps=2)
    assert drawn.shape[0] == 100 and np.isfinite(drawn).all()
    assert_close(drawn[:1], draw(task, captions(100)[:1], sampler="dpmpp_2m", num_steps=2))


@pytest.mark.skipif(BACKEND == "torch", reason="3,500 steps, uncompiled")
def test_more_steps_than_the_schedule_has(task) -> None:
    for sigmas in ("linspace", "karras", "exponential"):
        assert np.isfinite(draw(task, sampler="dpmpp_2m", sigmas=sigmas, num_steps=1100)).all()
    with pytest.raises(ValueError, match="integer from 1 to 1000.*Received: 1100"):
        draw(task, sigmas="trailing", num_steps=1100)


# === Guidance ===


def test_guidance_in_an_interval_and_rescaled(task) -> None:
    plain, guided = (draw(task, sampler="euler", guidance_scale=s) for s in (1.0, 6.0))
    everywhere = draw(task, sampler="euler", guidance_scale=6.0, guidance_interval=(0.0, 100.0))
    assert_close(everywhere, guided)
    nowhere = draw(task, sampler="euler", guidance_scale=6.0, guidance_interval=(50.0, 100.0))
    assert_close(nowhere, plain)
    between = draw(task, sampler="euler", guidance_scale=6.0, guidance_interval=(0.5, 3.0))
    assert min(np.abs(between - other).max() for other in (plain, guided)) > 1e-3
    rescaled = draw(task, sampler="euler", guidance_scale=6.0, guidance_rescale=1.0)
    assert np.abs(rescaled - guided).max() > 1e-3
    assert_close(draw(task, guidance_rescale=1e-9), draw(task))


# === One program ===


@needs_xla
@pytest.mark.parametrize("name", NAMES)
def test_compiled_loop_gives_the_same(task, name) -> None:
    arguments = {"sampler": name, "num_steps": 5, "guidance_scale": 2.0}
    assert_close(draw(task, **arguments, compile_loop=True), draw(task, **arguments))


@needs_xla
def test_compiled_loop_is_traced_for_shapes_alone(task) -> None:
    arguments = {"compile_loop": True, "num_steps": 6, "guidance_scale": 2.0}
    draw(task, sampler="euler", **arguments)
    traces = task.unet.traces
    # Other noise levels, another scale and even other samplers with as many slots.
    draw(task, sampler="euler", **{**arguments, "guidance_scale": 7.0})
    draw(task, sampler="euler", sigmas="karras", **arguments)
    draw(task, sampler="ddim", sigmas="exponential", **arguments)
    assert task.unet.traces == traces
    draw(task, sampler="euler", **{**arguments, "num_steps": 7})
    assert traces < task.unet.traces <= traces + 2


@needs_xla
def test_compiled_loop_refuses_what_it_cannot_do(task) -> None:
    with pytest.raises(ValueError, match="no `callback` with compile_loop=True"):
        draw(task, compile_loop=True, callback=print)

    def mine(denoise, x, sigmas, *, seed=None, callback=None):
        return denoise(x, float(sigmas[0]))

    with pytest.raises(ValueError, match="made of `keras_ldm.samplers.solve`"):
        draw(task, compile_loop=True, sampler=mine)


@pytest.mark.skipif(BACKEND != "torch", reason="the others have XLA")
def test_compiled_loop_needs_xla(task) -> None:
    with pytest.raises(ValueError, match="TensorFlow or JAX backend for compile_loop=True"):
        draw(task, compile_loop=True)


# === Starting from an image ===


def test_strength_goes_from_the_image_to_none_of_it(pixels) -> None:
    given = picture(4)
    arguments = {"image": given, "seed": 1, "num_steps": 10, "progress": False}
    np.testing.assert_array_equal(pixels.generate(strength=0, **arguments), given)
    distances = [
        np.abs(pixels.generate(strength=s, **arguments).astype(int) - given).mean()
        for s in (0.0, 0.1, 0.5, 1.0)
    ]
    assert distances == sorted(distances) and distances[1] < distances[3] / 2
    steps = []
    pixels.generate(strength=0.5, callback=steps.append, **arguments)
    assert len(steps) == 5
    steps.clear()
    pixels.generate(strength=0.01, callback=steps.append, **arguments)  # some, so at least one
    assert len(steps) == 1
    # One image for all.
    drawn = pixels.generate(num_images=3, image=given[0], seed=[1, 2, 1], num_steps=4, progress=False)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() > 3


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"])
def test_start_is_the_image_with_that_much_noise(pixels, name) -> None:
    steps, given = [], picture(2)
    pixels.generate(
        image=given,
        strength=0.5,
        sampler=name,
        num_steps=8,
        seed=3,
        callback=steps.append,
        progress=False,
    )
    sigmas = samplers.get_sampler(name).grid(pixels.schedule, 8)
    assert steps[0].sigma == pytest.approx(sigmas[4])
    noise = numpy(samplers.ImageNoise(samplers.image_seeds(3, 2))((2, 8, 8, LATENT)))
    x = pixels.encode_images(given) + sigmas[4] * noise
    seen = Denoiser(
        lambda latents, times: pixels.inference.predict(
            pixels.inference.values(), {"latents": latents, "timesteps": times}
        ),
        pixels.schedule,
    )(ops.convert_to_tensor(x.astype("float32")), sigmas[4])
    assert_close(numpy(steps[0].denoised), numpy(seen))


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "dpmpp_2m_sde", "plms"])
def test_mask_says_where_to_fill(pixels, name) -> None:
    given = picture(2)
    mask = np.zeros((16, 16), bool)
    mask[3:11, 5:16] = True
    arguments = {"image": given, "seed": 1, "num_steps": 6, "progress": False, "sampler": name}
    filled = pixels.generate(mask=mask, **arguments)
    np.testing.assert_array_equal(filled[:, ~mask], given[:, ~mask])
    assert np.abs(filled[:, mask].astype(int) - given[:, mask]).mean() > 5
    each = pixels.generate(mask=np.stack([mask, ~mask]), **arguments)
    np.testing.assert_array_equal(each[0], filled[0])
    np.testing.assert_array_equal(each[1, mask], given[1, mask])
    # Every latent that a pixel to fill lies in is drawn anew, and no other.
    latents = pixels.generate(mask=mask, output="latents", **arguments)
    kept = ~mask.reshape(8, 2, 8, 2).any(axis=(1, 3))
    assert_close(latents[:, kept], pixels.encode_images(given)[:, kept])
    assert (np.abs(latents - pixels.encode_images(given))[:, ~kept].max(axis=-1) > 1e-4).all()
    # Nothing to fill, everything to fill.
    nothing = pixels.generate(mask=np.zeros((16, 16), bool), **arguments)
    np.testing.assert_array_equal(nothing, given)
    if name == "euler":  # which starts from noise alone, and with the image from both
        everything = pixels.generate(mask=np.ones((16, 16), bool), **arguments)
        plain = pixels.generate(strength=1.0, **arguments)
        np.testing.assert_array_equal(everything, plain)


@needs_xla
def test_compiled_loop_fills_masks(pixels) -> None:
    mask = np.zeros((16, 16), bool)
    mask[:, 8:] = True
    arguments = {"image": picture(), "mask": mask, "seed": 1, "num_steps": 6, "progress": False}
    assert_close(
        pixels.generate(**arguments, output="latents", compile_loop=True),
        pixels.generate(**arguments, output="latents"),
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"strength": 0.5}, "Expected an `image` with `strength`. Received: strength=0.5"),
        ({"mask": np.ones((16, 16), bool)}, "Expected an `image` whose masked part"),
        ({"image": picture(), "strength": 1.1}, "`strength` from 0 to 1. Received: 1.1"),
        ({"image": picture(), "strength": -0.1}, "`strength` from 0 to 1. Received: -0.1"),
        ({"image": picture(), "strength": float("nan")}, "from 0 to 1. Received: nan"),
        ({"image": picture(), "mask": np.ones((16, 16))}, "booleans.*Received: float64"),
        ({"image": picture(), "mask": np.ones((8, 16), bool)}, r"booleans.*shape \(8, 16\)"),
        ({"image": picture(2), "mask": np.ones((3, 16, 16), bool)}, "one number of images"),
        ({"image": picture(side=18)[:, :15]}, "sides that divide by 2"),
        ({"image": np.full((16, 16, 3), 300)}, "as uint8, or as floats"),
        ({"image": picture(), "image_size": 32}, "one size of images"),
        ({"image": picture(2), "num_images": 3}, "one number of images"),
        ({"sigmas": "kar"}, "a grid among"),
        ({"sigmas": [1.0, 2.0]}, "falling noise levels"),
        ({"sigmas": [1.0]}, "at least two finite, falling"),
        ({"sigmas": [2.0, 1.0], "num_steps": 3}, "either `num_steps` or a list of `sigmas`"),
        ({"guidance_rescale": 1.5}, "`guidance_rescale` from 0 to 1"),
        ({"guidance_interval": (2.0, 1.0)}, "`guidance_interval` as two noise levels"),
        ({"guidance_interval": 3}, "`guidance_interval` as two noise levels"),
        ({"initial_latents": np.full((1, 8, 8, LATENT), np.nan)}, "finite `initial_latents`"),
        ({"sampler": ""}, "a sampler among"),
        ({"batch_size": 1.5}, "`batch_size` >= 1. Received: 1.5"),
    ],
)
def test_bad_arguments(pixels, arguments, match) -> None:
    with pytest.raises(ValueError, match=match):
        pixels.generate(progress=False, **arguments)


# === Interpolation ===


def interpolate(task, first, last=None, **arguments):
    """With token ids, which the task takes in place of prompts."""
    end = None if last is None else {"caption": last}
    return GenerativeTask.interpolate(task, {"caption": first}, end, **arguments)


def test_interpolation_goes_from_one_seed_to_another(task) -> None:
    arguments = {"num_steps": 3, "output": "latents", "progress": False}
    caption = captions(1)
    between = interpolate(task, caption, num_images=5, seeds=(3, 9), **arguments)
    assert between.shape == (5, 8, 8, LATENT)
    for index, seed in ((0, 3), (-1, 9)):
        end = task.generate(caption, seed=[seed], **arguments)
        assert_close(between[index], end[0])
    steps = np.abs(np.diff(between, axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < 2 * steps.min()


def test_interpolation_goes_from_one_prompt_to_another(task) -> None:
    arguments = {"num_steps": 3, "output": "latents", "progress": False}
    first, last = captions(2)[:1], captions(2)[1:]
    between = interpolate(task, first, last, num_images=4, seeds=(3, 3), **arguments)
    for index, caption in ((0, first), (-1, last)):
        end = task.generate(caption, seed=[3], **arguments)
        assert_close(between[index], end[0])
    assert np.abs(between[1] - between[0]).max() > 1e-4
    for scale in (1.0, 4.0):
        halves = interpolate(
            task,
            first,
            last,
            num_images=3,
            seeds=(3, 3),
            guidance_scale=scale,
            batch_size=2,
            **arguments,
        )
        assert np.isfinite(halves).all()


def test_blended_conditions(task) -> None:
    first, last = captions(2)[:1], captions(2)[1:]
    blend = BlendedConditions({"caption": first}, {"caption": last}, [0.0, 0.5, 1.0])
    arguments = {"seed": [1, 1, 1], "num_steps": 3, "output": "latents", "progress": False}
    drawn = LatentDiffusion.generate(task, blend, **arguments)
    assert drawn.shape == (3, 8, 8, LATENT)
    with pytest.raises(ValueError, match="one entry at each end of a blend. Received: {'caption': 2}"):
        LatentDiffusion.generate(
            task, BlendedConditions({"caption": captions(2)}, {"caption": last}, [0.5]), progress=False
        )


def test_blends_through_the_face_of_text(task) -> None:
    first, last = captions(2)[:1], captions(2)[1:]
    arguments = {"seed": [1, 1], "num_steps": 3, "output": "latents", "progress": False}
    blend = BlendedConditions({"caption": first}, {"caption": last}, [0.0, 1.0])
    assert_close(task.generate(blend, **arguments), task.generate(captions(2), **arguments))
    for weights in ([0.0, float("nan")], 0.5):
        with pytest.raises(ValueError, match="`weights` as finite numbers"):
            BlendedConditions({"caption": first}, {"caption": last}, weights)


def test_one_negative_prompt_for_all(task) -> None:
    one, each = captions(1, seed=8), captions(1, seed=8).repeat(3, axis=0)
    assert_close(draw(task, negative_prompts=one), draw(task, negative_prompts=each))
    with pytest.raises(ValueError, match="each of the 3 prompts. Received: 2"):
        draw(task, negative_prompts=each[:2])


def test_noise_after_given_latents_is_other_noise(task) -> None:
    seeds = [4, 5, 6]
    given = numpy(samplers.ImageNoise(samplers.image_seeds(seeds, 3))((3, 8, 8, LATENT)))
    steps: list = []
    drawn = [
        draw(task, sampler="ddpm", seed=seeds, callback=steps.append, **start)
        for start in ({}, {"initial_latents": given})
    ]
    assert_close(*drawn)


def test_a_partial_is_the_sampler_with_its_options(task) -> None:
    partial = functools.partial(samplers.ddim, eta=1.0)
    assert_close(draw(task, sampler=partial), draw(task, sampler="ddim", eta=1.0))


def test_a_sampler_of_ones_own_that_draws(task) -> None:
    def mine(denoise, x, sigmas, eta=1.0, seed=None, callback=None):
        noise = samplers.noise_function(seed, x.shape[0])
        for sigma, following in itertools.pairwise(sigmas):
            x = denoise(x, sigma) + eta * float(following) * noise(x.shape)
        return x

    assert_close(draw(task, sampler=mine), draw(task, sampler="lcm", sigmas="linspace"), 0.2)
    assert np.abs(draw(task, sampler=mine, eta=0.0) - draw(task, sampler=mine)).max() > 1e-3


def test_interpolation_refuses(pixels) -> None:
    with pytest.raises(ValueError, match="`conditions` with `end_conditions`"):
        pixels.interpolate(None, {"caption": ["a"]})
    for arguments in ({"num_images": 1}, {"num_images": 2.5}, {"seeds": (1, 2, 3)}, {"seeds": None}):
        with pytest.raises(ValueError, match="`num_images` >= 2 and two `seeds`"):
            pixels.interpolate(**arguments)


# === Inversion ===


def test_inversion_finds_the_noise(pixels) -> None:
    """What DDIM draws of the noise is the image; the more steps, the closer."""
    given = picture(3)
    errors = []
    for num_steps in (10, 100):
        noise = pixels.invert(given, num_steps=num_steps, batch_size=2, progress=False)
        assert noise.shape == (3, 8, 8, LATENT) and noise.dtype == np.float32
        drawn = pixels.generate(initial_latents=noise, num_steps=num_steps, progress=False)
        errors.append(np.abs(drawn.astype(int) - given).mean())
    assert errors[1] < errors[0] / 2 and errors[1] < 12
    other = pixels.generate(num_images=3, seed=0, num_steps=100, progress=False)
    assert np.abs(other.astype(int) - given).mean() > 3 * errors[1]


def test_inversion_with_prompts(task) -> None:
    noise = task.invert(images(2), captions(2), num_steps=4, progress=False)
    assert np.isfinite(noise).all()
    with pytest.raises(ValueError, match="images of shape"):
        task.invert(images(2)[..., :1], captions(2), progress=False)
    for size in (0, -1, None):
        with pytest.raises(ValueError, match="`batch_size` >= 1"):
            task.invert(images(2), captions(2), num_steps=2, batch_size=size, progress=False)
    guided = {"guidance_scale": 2.0, "num_steps": 2, "progress": False}
    away = task.invert(images(2), captions(2), negative_prompts=captions(2)[::-1], **guided)
    assert np.abs(away - task.invert(images(2), captions(2), **guided)).max() > 1e-4
    with pytest.raises(ValueError, match="Expected `images` of shape .* Received: None"):
        task.invert(None, captions(2))


# === Schedules ===


def test_flow_matching_trains_and_draws(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    task = LatentDiffusion(
        pixel_autoencoder(),
        TinyUNet(),
        schedule=FlowSchedule(shift=2.0),
        parameterization="flow",
        latent_scale=1.0,
    )
    task.compile(keras.optimizers.Adam(1e-2))
    history = task.fit({"image": images(16)}, batch_size=4, epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]
    arguments = {"num_images": 2, "seed": 0, "progress": False, "output": "latents"}
    exact = task.generate(num_steps=200, sampler="heun", **arguments)
    for name in ("euler", "heun", "dpmpp_2m", "unipc", "lms"):
        drawn = task.generate(num_steps=60, sampler=name, **arguments)
        assert np.abs(drawn - exact).max() < 0.1
    assert_close(
        task.generate(num_steps=8, **arguments),
        task.generate(num_steps=8, sampler="euler", **arguments),
    )
    with pytest.raises(ValueError, match="a sampler without noise.*for flow matching"):
        task.generate(num_steps=2, sampler="euler_ancestral", **arguments)
    with pytest.raises(ValueError, match="times from 1 to 0 for flow matching. Received: 3"):
        task.generate(sigmas=[3.0, 1.0, 0.0], **arguments)
    with pytest.raises(ValueError, match='Received: "epsilon" with FlowSchedule'):
        latent_diffusion(schedule=FlowSchedule())
    task.save(tmp_path / "flow.keras")
    again = load(tmp_path / "flow.keras")
    assert again.schedule.shift == 2.0
    assert_close(again.generate(num_steps=3, **arguments), task.generate(num_steps=3, **arguments))


def test_zero_terminal_snr_trains_and_draws() -> None:
    task = latent_diffusion(
        image_size=16,
        latent_scale=1.0,
        schedule=zero_terminal_snr(latent_diffusion().schedule),
        parameterization="v",
    )
    task.compile()
    task.fit({"image": images(8)}, batch_size=4, verbose=0)
    for name in ("ddim", "euler", "dpmpp_2m", "unipc"):
        drawn = task.generate(
            num_steps=5, sampler=name, sigmas="trailing", seed=0, output="latents", progress=False
        )
        assert np.isfinite(drawn).all()
