"""What k-diffusion 0.1.1 computes, for a small denoiser and given noise, in float64.

    pip install --no-deps k-diffusion==0.1.1.post1 && python tests/golden/published_samplers.py

writes published_samplers.npz beside this file, with an entry "grid/steps/sampler/options" for each run.
Only `k_diffusion.sampling` is imported, and of what that imports only what the algorithms here use.
"""

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
SHAPE = (2, 4, 3, 2)
_RNG = np.random.default_rng(20220616)
MATRIX_IN, MATRIX_OUT = _RNG.standard_normal((2, 8)), _RNG.standard_normal((8, 2)) / 3
START = _RNG.standard_normal(SHAPE)
NOISES = _RNG.standard_normal((16, *SHAPE))

STEPS = (1, 2, 9)
RUNS: dict[str, list[dict[str, object]]] = {
    "euler": [{}],
    "heun": [{}],
    "dpm_2": [{}],
    "lms": [{}, {"order": 2}],
    "dpmpp_2m": [{}],
    "euler_ancestral": [{}, {"eta": 0.4}],
    "dpm_2_ancestral": [{}, {"eta": 0.4}],
    "dpmpp_2s_ancestral": [{"eta": 0.0}, {"eta": 1.0}],
    "dpmpp_2m_sde": [{}, {"eta": 0.4}, {"solver_type": "heun"}],
    "dpmpp_3m_sde": [{}, {"eta": 0.4}, {"eta": 0.0}],
}


def import_sampling() -> ModuleType:
    """`k_diffusion.sampling` without the rest of the package."""
    folder = importlib.util.find_spec("k_diffusion").submodule_search_locations[0]
    for name in ("k_diffusion", "torchdiffeq", "torchsde", "k_diffusion.utils"):
        sys.modules[name] = ModuleType(name)
    sys.modules["torchdiffeq"].odeint = None
    utils = sys.modules["k_diffusion"].utils = sys.modules["k_diffusion.utils"]
    utils.append_dims = lambda x, ndim: x[(...,) + (None,) * (ndim - x.ndim)]
    spec = importlib.util.spec_from_file_location("k_diffusion.sampling", f"{folder}/sampling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    import torch

    sampling = import_sampling()
    torch.set_default_dtype(torch.float64)
    matrix_in, matrix_out = torch.from_numpy(MATRIX_IN), torch.from_numpy(MATRIX_OUT)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = sigma.reshape(-1, 1, 1, 1)
        return torch.tanh(x / (1 + level**2).sqrt() @ matrix_in + torch.sin(level)) @ matrix_out

    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas_cumprod = np.cumprod(1 - betas)
    levels = np.sqrt((1 - alphas_cumprod) / alphas_cumprod)
    lowest, highest = levels[[0, -1]]

    def linspace(n: int) -> torch.Tensor:  # DiscreteSchedule.get_sigmas, in float64
        times = np.linspace(999, 0, n)
        return torch.tensor([*np.exp(np.interp(times, np.arange(1000), np.log(levels))), 0.0])

    grids = {
        "karras": lambda n: sampling.get_sigmas_karras(n, lowest, highest),
        "exponential": lambda n: sampling.get_sigmas_exponential(n, np.float64(lowest), highest),
        "linspace": linspace,
    }
    arrays = {}
    for grid, steps in itertools.product(grids, STEPS):
        sigmas = grids[grid](steps)
        arrays[f"{grid}/{steps}/sigmas"] = sigmas.numpy()
        for name, runs in RUNS.items():
            if steps == 1 and name.endswith("_sde"):  # fails there, with an unset variable
                continue
            for options in runs:
                given = dict(options)
                if name.endswith(("_ancestral", "_sde")):
                    noises = iter(torch.from_numpy(NOISES))
                    given["noise_sampler"] = lambda *_, noises=noises: next(noises)
                x = torch.from_numpy(START) * sigmas[0]
                out = getattr(sampling, f"sample_{name}")(denoise, x, sigmas, disable=True, **given)
                label = ",".join(f"{k}={v}" for k, v in options.items())
                arrays[f"{grid}/{steps}/{name}/{label}"] = out.numpy()
    np.savez_compressed(PATH, **arrays)
    print(f"{len(arrays)} arrays, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
