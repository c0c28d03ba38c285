"""Wrappers of denoise functions: guidance, thresholding, masks."""

import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp

from keras_ldm.diffusion import (
    Denoiser,
    FlowSchedule,
    classifier_free_guidance,
    classifier_guidance,
    dynamic_thresholding,
    mask_blending,
    scaled_linear_schedule,
    static_thresholding,
)
from keras_ldm.samplers import dpmpp_2m, exponential_sigmas
from tests.contract import array, numpy


def tensor(values) -> object:
    return ops.convert_to_tensor(np.asarray(values, "float32"))


# === Classifier-free guidance ===


@pytest.mark.parametrize("scale", [0.0, 1.0, pytest.param(7.5, marks=pytest.mark.backend), -1.0])
def test_guidance_extrapolates_from_the_first_half_to_the_second(scale: float) -> None:
    x = array(3, 2, 2, 1)
    calls = []

    def denoise(doubled, sigma):
        calls.append((numpy(doubled), sigma))
        condition = np.repeat(np.array([10.0, 11.0], "float32"), 3).reshape(6, 1, 1, 1)
        return doubled * condition

    guided = numpy(classifier_free_guidance(denoise, scale)(ops.convert_to_tensor(x), 0.5))
    np.testing.assert_allclose(guided, 10 * x + scale * x, rtol=1e-5, atol=1e-5)
    assert len(calls) == 1 and calls[0][1] == 0.5
    np.testing.assert_array_equal(calls[0][0], np.concatenate([x, x]))


def two_estimates(doubled, sigma):
    """Different estimates for the halves."""
    first, second = ops.split(doubled, 2)
    return ops.concatenate([0.2 * first, 0.5 * second + 0.3])


@pytest.mark.backend
def test_guidance_in_an_interval() -> None:
    x = array(2, 2, 2, 1)
    guided = classifier_free_guidance(two_estimates, 3.0, interval=(1.0, 2.0))
    plain, strong = (
        numpy(classifier_free_guidance(two_estimates, scale)(tensor(x), 1.0)) for scale in (1, 3)
    )
    assert np.abs(plain - strong).max() > 0.1
    for sigma, expected in [(0.5, plain), (1.0, plain), (1.01, strong), (2.0, strong), (2.1, plain)]:
        np.testing.assert_allclose(numpy(guided(tensor(x), sigma)), expected, atol=1e-6)
    # Noise levels and scales may be tensors.
    np.testing.assert_allclose(numpy(guided(tensor(x), tensor(2.0))), strong, atol=1e-6)
    scaled = classifier_free_guidance(two_estimates, tensor(3.0))
    np.testing.assert_allclose(numpy(scaled(tensor(x), tensor(2.0))), strong, atol=1e-6)


@pytest.mark.backend
def test_rescaled_guidance_has_the_deviation_of_the_conditional_output() -> None:
    x, sigma = array(2, 4, 4, 1), 2.0
    conditional = numpy(classifier_free_guidance(two_estimates, 1.0)(tensor(x), sigma))
    for rescale in (0.0, 0.7, 1.0):
        wrapped = classifier_free_guidance(two_estimates, 9.0, rescale=rescale)
        # A network that predicts the noise (x - x0) / σ.
        noise = (x - numpy(wrapped(tensor(x), sigma))) / sigma
        plain = (x - numpy(classifier_free_guidance(two_estimates, 9.0)(tensor(x), sigma))) / sigma
        axes = (1, 2, 3)
        wanted = ((x - conditional) / sigma).std(axes) * rescale + plain.std(axes) * (1 - rescale)
        np.testing.assert_allclose(noise.std(axes), wanted, rtol=1e-4)


# === Classifier guidance ===

MEANS = np.array([[2.0, 0.0], [-2.0, 0.5], [0.0, 2.0]])
VARIANCE = 0.2


def log_joint(x, sigma, xp):
    """log p(x, class) at a noise level, but for a constant, `(batch, classes)`."""
    means = MEANS if xp is np else tensor(MEANS)
    distances = xp.sum((x[:, None] - means) ** 2, axis=-1)
    return -distances / (2 * (VARIANCE + sigma**2))


def denoise_mixture(x, sigma):
    """E[x0 | x] over all classes."""
    points = numpy(x).astype("float64")
    posterior = np.exp(log_joint(points, sigma, np))
    posterior /= posterior.sum(1, keepdims=True)
    gain = VARIANCE / (VARIANCE + sigma**2)
    estimates = MEANS + gain * (points[:, None] - MEANS)
    return tensor((posterior[..., None] * estimates).sum(1))


def log_class(wanted: int):
    def log_probability(x, sigma):
        logits = log_joint(x, sigma, ops)
        return logits[:, wanted] - ops.logsumexp(logits, axis=1)

    return log_probability


@pytest.mark.backend
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_classifier_guidance_turns_the_mixture_into_the_class(wanted: int) -> None:
    """The exact classifier: the guided estimate is the posterior mean of the class alone."""
    guided = classifier_guidance(denoise_mixture, log_class(wanted), 1.0)
    for sigma in (0.1, 0.8, 5.0):
        x = (MEANS[[0, 1, 2]] + sigma * array(3, 2)).astype("float32")
        gain = VARIANCE / (VARIANCE + sigma**2)
        expected = MEANS[wanted] + gain * (x - MEANS[wanted])
        np.testing.assert_allclose(numpy(guided(tensor(x), sigma)), expected, atol=2e-4)
        none = classifier_guidance(denoise_mixture, log_class(wanted), 0.0)
        np.testing.assert_allclose(
            numpy(none(tensor(x), sigma)), numpy(denoise_mixture(x, sigma)), atol=1e-6
        )


def test_classifier_guidance_samples_the_class() -> None:
    sigmas = exponential_sigmas(scaled_linear_schedule(), 20, sigma_max=20.0)
    rng = np.random.default_rng(0)
    x = tensor(rng.standard_normal((400, 2)) * 20)
    shares = {}
    for scale in (0.0, 1.0, 4.0):
        out = numpy(dpmpp_2m(classifier_guidance(denoise_mixture, log_class(1), scale), x, sigmas))
        logits = log_joint(out, 0.0, np)
        shares[scale] = np.exp(logits[:, 1] - logsumexp(logits, axis=1)).mean()
    assert abs(shares[0.0] - 1 / 3) < 0.08
    assert 0.98 < shares[1.0] < shares[4.0]


@pytest.mark.backend
def test_a_classifier_that_sees_nothing_guides_nowhere() -> None:
    x = tensor(array(2, 3))
    for log_probability in (lambda x, s: ops.zeros((2,)), lambda x, s: ops.sum(0.0 * x, axis=1)):
        guided = classifier_guidance(lambda x, s: 0.5 * x, log_probability, 3.0)
        np.testing.assert_allclose(numpy(guided(x, 1.0)), 0.5 * numpy(x))


# === Masks ===


@pytest.mark.backend
def test_mask_blending_keeps_what_is_known() -> None:
    """Of two correlated latents; the other leans towards 0.9 · 1.5 (the method is not exact)."""
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])

    def denoise(x, sigma):
        gain = covariance @ np.linalg.inv(covariance + float(sigma) ** 2 * np.eye(2))
        return ops.matmul(x, tensor(gain.T))

    known = np.array([[1.5, 0.0]], "float32").repeat(200, axis=0)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((200, 2))
    mask = tensor([[0.0, 1.0]])
    blended = mask_blending(denoise, tensor(known), mask, tensor(noise))
    sigmas = exponential_sigmas(scaled_linear_schedule(), 30, sigma_max=20.0)
    out = numpy(dpmpp_2m(blended, tensor(noise * 20), sigmas))
    np.testing.assert_allclose(out[:, 0], 1.5, atol=1e-5)
    assert 0.5 < out[:, 1].mean() < 1.35
    free = numpy(dpmpp_2m(denoise, tensor(noise * 20), sigmas))
    assert abs(free[:, 1].mean()) < 0.2

    seen = []
    spy = mask_blending(lambda x, s: seen.append(numpy(x)) or x, tensor(known), mask, tensor(noise))
    estimate = numpy(spy(tensor(np.full((200, 2), 7.0)), 3.0))
    np.testing.assert_allclose(
        seen[0], np.stack([1.5 + 3 * noise[:, 0], np.full(200, 7.0)], 1), atol=1e-5
    )
    np.testing.assert_allclose(estimate, [[1.5, 7.0]] * 200)
    flow = FlowSchedule()
    spy = mask_blending(
        lambda x, s: seen.append(numpy(x)) or x,
        tensor(known),
        mask,
        tensor(noise),
        add_noise=flow.add_noise,
    )
    spy(tensor(known), 0.25)
    np.testing.assert_allclose(seen[1][:, 0], 0.75 * 1.5 + 0.25 * noise[:, 0], atol=1e-5)


# === Thresholding ===


@pytest.mark.backend
def test_thresholding() -> None:
    x = array(3, 4, 4, 2) * np.array([0.1, 1.0, 9.0], "float32").reshape(3, 1, 1, 1)
    denoise = lambda x, sigma: x  # noqa: E731
    clipped = numpy(static_thresholding(denoise, 0.7)(tensor(x), 1.0))
    np.testing.assert_allclose(clipped, np.clip(x, -0.7, 0.7), atol=1e-6)
    thresholds = np.maximum(np.quantile(np.abs(x).reshape(3, -1), 0.9, axis=1), 1.0)
    assert thresholds[0] == 1.0 and thresholds[2] > 5
    thresholds = thresholds.reshape(3, 1, 1, 1)
    out = numpy(dynamic_thresholding(denoise, 0.9)(tensor(x), 1.0))
    np.testing.assert_allclose(out, np.clip(x, -thresholds, thresholds) / thresholds, atol=1e-5)
    out = numpy(dynamic_thresholding(denoise, 0.9, maximum=1.0)(tensor(x), 1.0))
    np.testing.assert_allclose(out, np.clip(x, -1, 1), atol=1e-6)
    for options in ({"percentile": 0.0}, {"percentile": 1.1}, {"maximum": 0.5}):
        with pytest.raises(ValueError, match=f"Expected `{next(iter(options))}`"):
            dynamic_thresholding(denoise, **options)


# === Origin ===


@pytest.mark.parametrize("name", ["epsilon", "x0", "v", "flow"])
def test_origin_is_the_estimate_for_an_output_of_zero(name: str) -> None:
    for schedule, sigma in ((scaled_linear_schedule(), 3.0), (FlowSchedule(), 0.4)):
        if name == "epsilon" and sigma < 1:
            continue  # not for flow matching
        denoise = Denoiser(lambda x, t: ops.zeros_like(x), schedule, name)
        x = tensor(array(2, 2, 2, 1))
        np.testing.assert_allclose(numpy(denoise.origin(x, sigma)), numpy(denoise(x, sigma)), atol=1e-6)
