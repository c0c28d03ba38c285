"""The rate-distortion curve of a task against its definition, and the pass that measures latents."""

import keras
import numpy as np
import pytest

from keras_ldm.diffusion import FlowSchedule, prior_bits, step_bits
from keras_ldm.samplers import ImageNoise
from keras_ldm.tasks import LatentDiffusion, load
from tests.tasks.tiny import (
    TinyUNet,
    captions,
    images,
    latent_diffusion,
    numpy,
    pixel_autoencoder,
    text_to_image,
)

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]


@pytest.fixture(scope="module")
def task() -> LatentDiffusion:
    keras.utils.set_random_seed(0)
    return LatentDiffusion(pixel_autoencoder(), TinyUNet(), latent_scale=2.0)


def test_the_curve_by_its_definition(task) -> None:
    """Step by step from `predict_epsilon`, with the same noise."""
    given, schedule = images(3), task.schedule
    timesteps = [900, 400, 100, 3]
    curve = task.rate_distortion(given, sigmas=schedule.sigmas[timesteps], seed=5, progress=False)
    originals, clean = given / 127.5 - 1, task.encode_images(given)
    draw = ImageNoise([np.array([5, row]) for row in range(3)])
    bits, errors = [prior_bits(schedule, clean, schedule.sigmas[900])], []
    for i, t in enumerate(timesteps):
        signal, spread = schedule.signal_rates[t], schedule.noise_rates[t]
        noisy = (signal * clean + spread * numpy(draw(clean.shape))).astype("float32")
        epsilon = task.predict_epsilon(noisy, np.full(3, t))
        estimate = ((noisy - spread * epsilon) / signal).astype("float32")
        decoded = task.decode_latents(estimate).clip(-1, 1)
        errors.append(np.sqrt(np.mean((127.5 * (decoded - originals)) ** 2)))
        if t != timesteps[-1]:
            levels = schedule.sigmas[t], schedule.sigmas[timesteps[i + 1]]
            bits.append(step_bits(schedule, clean, estimate, *levels))
    expected = np.cumsum([numpy(b).sum() for b in bits]) / originals.size
    np.testing.assert_allclose(curve.rates, expected, rtol=1e-4)
    np.testing.assert_allclose(curve.distortions, errors, rtol=1e-4)
    floor = np.sqrt(np.mean((127.5 * (task.decode_latents(clean) - originals)) ** 2))
    assert curve.floor == pytest.approx(floor, rel=1e-5)
    assert (np.diff(curve.rates) > 0).all() and curve.floor < curve.distortions.max()


def test_batches_do_not_matter_seeds_do(task) -> None:
    whole, parts, other = (
        task.rate_distortion(images(5), num_steps=4, progress=False, **options)
        for options in ({}, {"batch_size": 2}, {"seed": 1})
    )
    np.testing.assert_allclose(whole.rates, parts.rates, rtol=1e-5)
    np.testing.assert_allclose(whole.distortions, parts.distortions, rtol=1e-5)
    assert np.abs(whole.distortions - other.distortions).max() > 1e-3


def test_levels_fill_the_schedule_evenly_by_default(task) -> None:
    sigmas = task.rate_distortion(images(1), num_steps=8, progress=False).sigmas
    assert sigmas[[0, -1]] == pytest.approx(task.schedule.sigmas[[-1, 0]])
    np.testing.assert_allclose(np.diff(np.log(sigmas)), np.log(sigmas[1] / sigmas[0]), rtol=1e-6)


@pytest.mark.parametrize(
    "sigmas",
    [["list"], {}, [np.inf, 1.0], [1.0, np.nan], lambda *_: [1.0], lambda *_: np.array([1.0, 2.0])],
)
def test_levels_that_are_none_are_refused(task, sigmas) -> None:
    for draw in (task.rate_distortion, task.invert):
        with pytest.raises(ValueError, match="two finite, falling noise levels"):
            draw(images(1), sigmas=sigmas, progress=False)


@pytest.mark.parametrize("seed", [-1, "a", 1.5, [1, 2, 3], 2**70])
def test_seeds_that_are_none_are_refused(task, seed) -> None:
    with pytest.raises(ValueError, match="seed"):
        task.rate_distortion(images(1), seed=seed, progress=False)


def test_level_zero_is_left_out_and_flow_matching_has_bits_too() -> None:
    keras.utils.set_random_seed(0)
    task = LatentDiffusion(
        pixel_autoencoder(),
        TinyUNet(),
        schedule=FlowSchedule(),
        parameterization="flow",
        latent_scale=1.0,
    )
    curve = task.rate_distortion(images(2), sigmas=[1.0, 0.5, 0.1, 0.0], progress=False)
    assert curve.sigmas.tolist() == [1.0, 0.5, 0.1]
    assert abs(curve.rates[0]) < 1e-6 and curve.rates[1] > 0


def test_prompts_come_with_the_images() -> None:
    task, given = text_to_image(latent_scale=1.0), images(2)
    curves = [
        task.rate_distortion(given, prompts, num_steps=3, progress=False)
        for prompts in (captions(2), captions(2, seed=9))
    ]
    assert np.abs(curves[0].rates - curves[1].rates).max() > 1e-6
    for wrong, message in (
        ((given[..., :1], captions(2)), "images of shape"),
        ((None, captions(2)), "Expected `images`.*None"),
        ((None, "words"), "Expected `images`.*None"),
        ((given[0], captions(2)), r"\(N, height, width, channels\). Received: shape"),
        ((given, captions(3)), "one number of images"),
    ):
        with pytest.raises(ValueError, match=message):
            task.rate_distortion(*wrong, progress=False)


# === Measuring latents ===


def test_a_pass_over_data_sets_the_scale(tmp_path) -> None:
    task, x = latent_diffusion(per_channel=True), images(10)
    task.measure_latents(x, batch_size=3, progress=False)
    moments = task.encode_moments(x).astype("float64")
    mean, logvar = np.split(moments.reshape(-1, 6), 2, axis=-1)
    expected = np.sqrt(mean.var(axis=0) + np.exp(logvar).mean(axis=0))
    np.testing.assert_allclose(numpy(task.latent_space.std), expected, rtol=1e-5)
    np.testing.assert_allclose(numpy(task.latent_space.mean), mean.mean(axis=0), atol=1e-5)
    task.save(tmp_path / "task.keras")
    loaded = load(tmp_path / "task.keras")
    loaded.fit(images(4, seed=3), batch_size=2, verbose=0)  # which does not measure again
    with pytest.raises(ValueError, match="that has not been trained"):
        loaded.measure_latents(x, progress=False)
    np.testing.assert_array_equal(numpy(loaded.latent_space.std), numpy(task.latent_space.std))


def test_every_kind_of_data_gives_one_scale() -> None:
    x = images(9)
    batches = [{"image": x[i : i + 3]} for i in range(0, 9, 3)]

    class Batches(keras.utils.PyDataset):
        num_batches = 3
        epochs = 0

        def __getitem__(self, index):
            return batches[index]

        def on_epoch_begin(self):
            self.epochs += 1

        def on_epoch_end(self):
            self.epochs += 10

    found, indexed = [], Batches()
    for data, options in (
        (x, {"batch_size": 4}),
        ({"image": x, "caption": np.zeros(9)}, {}),
        (batches, {}),
        (iter(batches), {"steps": 3}),
        (indexed, {}),
        ({"moments": latent_diffusion().encode_moments(x)}, {"batch_size": 2}),
    ):
        task = latent_diffusion()
        task.measure_latents(data, progress=False, **options)
        assert task.latent_space.is_measured
        found.append(numpy(task.latent_space.std)[0])
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
    assert indexed.epochs == 11  # one, begun and ended
    task.measure_latents(x, batch_size=3, steps=1, progress=False)
    assert numpy(task.latent_space.std)[0] != found[0]


def test_data_that_cannot_be_measured_are_refused() -> None:
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return images(2)

    task = latent_diffusion()
    for data, message in (
        (Endless(), "`steps` outside `fit`.*Received: an endless Endless"),
        (images(0), "at least one example"),
        ({"caption": captions(2)}, "'image' or 'moments'"),
        (images(2, size=15), "divide by"),
        ({"moments": np.full((2, 8, 8, 6), np.nan)}, "finite moments"),
        (iter([images(2)]), r"`steps_per_epoch` \(`steps` outside"),
    ):
        with pytest.raises(ValueError, match=message):
            task.measure_latents(data, progress=False)
    for options in ({"steps": 1.5}, {"steps": "2"}, {"batch_size": 1.5}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=">= 1. Received"):
            task.measure_latents(images(2), progress=False, **options)
    assert not task.latent_space.is_measured
    with pytest.raises(ValueError, match="Expected moments of latents. Received: none"):
        task.latent_space.measure([])
