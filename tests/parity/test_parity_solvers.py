"""The solvers against diffusers' schedulers, with one random network and the same noise.

The schedulers choose the noise levels; ours get the same ones. Their grids are compared apart.
"""

import sys
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from keras import ops

from keras_ldm import samplers
from keras_ldm.diffusion import (
    Denoiser,
    FlowSchedule,
    classifier_free_guidance,
    dynamic_thresholding,
    scaled_linear_schedule,
    zero_terminal_snr,
)
from tests.golden.original import deviation
from tests.parity.test_parity_samplers import (
    BETAS,
    NAMES,
    SHAPE,
    START,
    network,
    noise_source,
)

pytestmark = pytest.mark.parity
SCHEDULE = scaled_linear_schedule()


def run_theirs(monkeypatch, scheduler, num_steps: int, noises=None, **kwargs) -> torch.Tensor:
    """A pipeline's loop."""
    if noises is not None:
        module = sys.modules[type(scheduler).__module__]
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: torch.from_numpy(next(noises)))
    scheduler.set_timesteps(num_steps, **kwargs)
    x = torch.from_numpy(START) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(torch.from_numpy(network(scaled.numpy(), float(t))), t, x).prev_sample
    return x


def run_ours(sampler, sigmas, scale: float, name="epsilon", rounded=False, schedule=SCHEDULE, **options):
    def ours(x, timesteps):
        times = ops.convert_to_numpy(timesteps).reshape(-1, 1, 1, 1)
        times = np.round(times) if rounded else times
        return ops.convert_to_tensor(network(ops.convert_to_numpy(x), times))

    x = ops.convert_to_tensor(START * np.float32(scale))
    return ops.convert_to_numpy(sampler(Denoiser(ours, schedule, name), x, sigmas, **options))


def levels(scheduler) -> np.ndarray:
    """The scheduler's noise levels, each once."""
    values = scheduler.sigmas.numpy().astype(np.float64)
    return np.array([s for i, s in enumerate(values) if i == 0 or s != values[i - 1]])


GRID_OPTIONS = {
    "linspace": {"timestep_spacing": "linspace"},
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}
K_SAMPLERS = {
    "euler": (diffusers.EulerDiscreteScheduler, samplers.euler),
    "heun": (diffusers.HeunDiscreteScheduler, samplers.heun),
    "lms": (diffusers.LMSDiscreteScheduler, samplers.lms),
}


@pytest.mark.parametrize("grid", GRID_OPTIONS)
@pytest.mark.parametrize("kind", K_SAMPLERS)
def test_solvers_on_every_grid(monkeypatch, kind, grid) -> None:
    theirs, ours = K_SAMPLERS[kind]
    scheduler = theirs(**BETAS, **GRID_OPTIONS[grid])
    expected = run_theirs(monkeypatch, scheduler, 9)
    sigmas = levels(scheduler)
    assert len(sigmas) == 10
    out = run_ours(ours, sigmas, scheduler.init_noise_sigma)
    assert deviation(out, expected) < 1e-4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["euler", "heun"])
def test_solvers_with_every_parameterization(monkeypatch, kind, name) -> None:
    theirs, ours = K_SAMPLERS[kind]
    scheduler = theirs(**BETAS, prediction_type=NAMES[name], use_karras_sigmas=True)
    expected = run_theirs(monkeypatch, scheduler, 7)
    out = run_ours(ours, levels(scheduler), scheduler.init_noise_sigma, name)
    assert deviation(out, expected) < 1e-4


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_ancestral_euler(monkeypatch, spacing) -> None:
    draw, noises = noise_source()
    scheduler = diffusers.EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing=spacing)
    expected = run_theirs(monkeypatch, scheduler, 8, noises)
    out = run_ours(samplers.euler_ancestral, levels(scheduler), scheduler.init_noise_sigma, seed=draw)
    assert deviation(out, expected) < 1e-4


@pytest.mark.parametrize("ancestral", [False, True])
def test_dpm2(monkeypatch, ancestral) -> None:
    draw, noises = noise_source()
    kind = diffusers.KDPM2AncestralDiscreteScheduler if ancestral else diffusers.KDPM2DiscreteScheduler
    scheduler = kind(**BETAS)
    expected = run_theirs(monkeypatch, scheduler, 6, noises if ancestral else None)
    ours = samplers.dpm2_ancestral if ancestral else samplers.dpm2
    options = {"seed": draw} if ancestral else {}
    out = run_ours(ours, levels(scheduler), scheduler.init_noise_sigma, **options)
    assert deviation(out, expected) < 1e-4


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "solver_type", "ours"),
    [
        ("dpmsolver++", "midpoint", samplers.dpmpp_2m),
        ("sde-dpmsolver++", "midpoint", samplers.dpmpp_2m_sde),
        ("sde-dpmsolver++", "heun", partial(samplers.dpmpp_2m_sde, solver_type="heun")),
    ],
)
def test_dpmpp_multistep(monkeypatch, algorithm, solver_type, ours, karras) -> None:
    draw, noises = noise_source()
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **BETAS, algorithm_type=algorithm, solver_type=solver_type, use_karras_sigmas=karras
    )
    expected = run_theirs(monkeypatch, scheduler, 9, noises)
    sigmas = levels(scheduler)
    out = run_ours(ours, sigmas, np.sqrt(1 + sigmas[0] ** 2), rounded=True, seed=draw)
    assert deviation(out, expected) < 1e-4


def test_dpmpp_2s(monkeypatch) -> None:
    """diffusers' single-step solver goes through given levels; every second is a middle one in log σ."""
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        **BETAS, solver_order=2, lower_order_final=False, final_sigmas_type="sigma_min"
    )
    outer = np.geomspace(12.0, 0.1, 5)
    inner = np.sqrt(outer[:-1] * outer[1:])
    sigmas = np.ravel(np.column_stack([outer[:-1], inner]))
    scheduler.set_timesteps(8)
    scheduler.sigmas = torch.tensor([*sigmas, outer[-1]], dtype=torch.float64)
    scheduler.timesteps = torch.tensor([SCHEDULE.timestep(s) for s in sigmas], dtype=torch.float64)
    x = torch.from_numpy(START)
    for i, t in enumerate(scheduler.timesteps):
        scheduler._step_index = i
        x = scheduler.step(torch.from_numpy(network(x.numpy(), float(t))), t, x).prev_sample
    out = run_ours(samplers.dpmpp_2s, outer, np.sqrt(1 + outer[0] ** 2))
    assert deviation(out / np.sqrt(1 + outer[-1] ** 2), x) < 1e-4


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_unipc(monkeypatch, order, variant, num_steps) -> None:
    # diffusers' "bh1" gives NaN in a step to 0.
    last = "zero" if variant == "bh2" else "sigma_min"
    scheduler = diffusers.UniPCMultistepScheduler(
        **BETAS, solver_order=order, solver_type=variant, final_sigmas_type=last
    )
    expected = run_theirs(monkeypatch, scheduler, num_steps)
    sigmas = levels(scheduler)
    ours = partial(samplers.unipc, order=order, variant=variant)
    out = run_ours(ours, sigmas, np.sqrt(1 + sigmas[0] ** 2), rounded=True)
    assert deviation(out / np.sqrt(1 + sigmas[-1] ** 2), expected) < 1e-4


@pytest.mark.parametrize("num_steps", [1, 4, 7])
def test_lcm(monkeypatch, num_steps) -> None:
    draw, noises = noise_source()
    scheduler = diffusers.LCMScheduler(**BETAS, clip_sample=False)
    expected = run_theirs(monkeypatch, scheduler, num_steps, noises)
    sigmas = samplers.lcm_sigmas(SCHEDULE, num_steps)
    np.testing.assert_allclose(
        [SCHEDULE.timestep(s) for s in sigmas[:-1]], scheduler.timesteps.numpy(), atol=1e-6
    )
    out = run_ours(samplers.lcm, sigmas, np.sqrt(1 + sigmas[0] ** 2), seed=draw)
    assert deviation(out, expected) < 1e-4


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_for_flow_matching(monkeypatch, shift) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    times = np.linspace(1, 0.1, 10)
    scheduler.set_timesteps(sigmas=times.tolist())
    x = torch.from_numpy(START)
    for t in scheduler.timesteps:
        x = scheduler.step(torch.from_numpy(network(x.numpy(), float(t))), t, x).prev_sample

    schedule = FlowSchedule(shift=shift)
    sigmas = np.append(schedule.level(times), 0.0)
    np.testing.assert_allclose(sigmas, scheduler.sigmas.numpy(), rtol=1e-6)

    def ours(x, timesteps):
        positions = (ops.convert_to_numpy(timesteps).reshape(-1, 1, 1, 1) + 1) / 1000
        return ops.convert_to_tensor(network(ops.convert_to_numpy(x), 1000 * schedule.level(positions)))

    denoise = Denoiser(ours, schedule, "flow")
    out = ops.convert_to_numpy(samplers.euler(denoise, ops.convert_to_tensor(START), sigmas))
    assert deviation(out, x) < 1e-4


# === Grids ===


@pytest.mark.parametrize("num_steps", [1, 3, 10, 30, 50])
def test_grids(num_steps) -> None:
    def theirs(**options) -> np.ndarray:
        scheduler = diffusers.EulerDiscreteScheduler(**BETAS, **options)
        scheduler.set_timesteps(num_steps)
        return scheduler.sigmas.numpy()

    ours = {
        "linspace": samplers.linspace_sigmas,
        "leading": partial(samplers.leading_sigmas, offset=1),
        "trailing": samplers.trailing_sigmas,
        "karras": samplers.karras_sigmas,
        "exponential": samplers.exponential_sigmas,
    }
    for name, options in GRID_OPTIONS.items():
        if num_steps == 1 and name in ("linspace", "karras", "exponential"):
            continue  # theirs begins at the last level, where there is no noise
        # Theirs interpolate σ between timesteps, ours log σ.
        tolerance = 1e-3 if name == "linspace" else 2e-5
        np.testing.assert_allclose(
            ours[name](SCHEDULE, num_steps), theirs(**options), rtol=tolerance, err_msg=name
        )


def test_published_levels() -> None:
    """Those of Align Your Steps, as they are and for another number of steps."""
    published = diffusers.schedulers.AysSchedules["StableDiffusionSigmas"]
    np.testing.assert_allclose(samplers.interpolate_sigmas(published, 10), published, rtol=1e-12)
    logs = np.interp(np.linspace(0, 1, 20), np.linspace(0, 1, 10), np.log(published[:-1]))
    np.testing.assert_allclose(
        samplers.interpolate_sigmas(published, 20), [*np.exp(logs), 0.0], rtol=1e-12
    )


@pytest.mark.parametrize("name", ["v", "x0"])
def test_zero_terminal_snr(monkeypatch, name) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(
        **BETAS,
        rescale_betas_zero_snr=True,
        prediction_type=NAMES[name],
        timestep_spacing="trailing",
    )
    schedule = zero_terminal_snr(SCHEDULE)
    np.testing.assert_allclose(
        schedule.alphas_cumprod, scheduler.alphas_cumprod.numpy(), rtol=2e-4, atol=1e-9
    )
    expected = run_theirs(monkeypatch, scheduler, 10)
    sigmas = samplers.trailing_sigmas(schedule, 10)
    np.testing.assert_allclose(sigmas, scheduler.sigmas.numpy(), rtol=1e-4)
    out = run_ours(
        samplers.euler, levels(scheduler), scheduler.init_noise_sigma, name, schedule=schedule
    )
    assert deviation(out, expected) < 1e-4


# === Wrappers ===


@pytest.mark.parametrize("name", NAMES)
def test_rescaled_guidance(name) -> None:
    """diffusers' pipelines rescale the network's output."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    sigma = float(SCHEDULE.sigmas[700])
    signal, noise = SCHEDULE.signal_rates[700], SCHEDULE.noise_rates[700]
    outputs = np.random.default_rng(5).standard_normal((2, *SHAPE), np.float32)
    guided = torch.from_numpy(outputs[0] + 7.5 * (outputs[1] - outputs[0]))
    rescaled = rescale_noise_cfg(guided, torch.from_numpy(outputs[1]), 0.7).numpy()
    denoise = Denoiser(lambda x, t: ops.convert_to_tensor(np.concatenate(outputs)), SCHEDULE, name)
    expected = denoise.parameterization.to_x0(rescaled, START * signal, signal, noise)
    wrapped = classifier_free_guidance(denoise, 7.5, rescale=0.7, origin=denoise.origin)
    out = ops.convert_to_numpy(wrapped(ops.convert_to_tensor(START), sigma))
    assert deviation(out, expected) < 1e-4


def test_dynamic_thresholding() -> None:
    scheduler = diffusers.DDPMScheduler(
        thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.6
    )
    x = START * np.array([3.0, 0.2], np.float32).reshape(2, 1, 1, 1)
    expected = scheduler._threshold_sample(torch.from_numpy(x))
    wrapped = dynamic_thresholding(lambda x, sigma: x, 0.9, 1.6)
    assert deviation(ops.convert_to_numpy(wrapped(ops.convert_to_tensor(x), 1.0)), expected) < 1e-5
    np.testing.assert_allclose(expected[1], np.clip(x[1], -1, 1), atol=1e-6)
