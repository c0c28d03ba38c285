"""What the original latent-diffusion code computed: small models' weights, inputs and outputs.

`originals/NAME` holds the original's `config.yaml`, the names and shapes of its weights and the arrays
it made of given inputs. The weights themselves follow from their names: `pseudo_random`.
"""

import json
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "originals"
_EMA_FACTOR = np.float32(0.9)  # an EMA copy is this times its weight


def pseudo_random(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight drawn from its name: offsets small, norms' scales near 1, kernels by their fan-in."""
    seed = zlib.crc32(name.encode())
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if name.endswith("bias"):
        return np.float32(0.05) * values
    if len(shape) == 1:
        return np.float32(1.0) + np.float32(0.1) * values
    return values / np.sqrt(np.float32(np.prod(shape[1:])))


class Original:
    """One small model of the original code.

    Args:
        name: of its folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        folder = FOLDER / name
        state = json.loads((folder / "state_dict.json").read_text("utf-8"))
        self.shapes: dict[str, list[int]] = state["parameters"]
        self.buffers: dict[str, list[int]] = state["buffers"]
        self.has_ema = bool(state["ema"])
        self._path = folder / "golden.npz"

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Inputs and outputs by name."""
        with np.load(self._path) as archive:
            return dict(archive)

    def __getitem__(self, name: str) -> np.ndarray:
        """An input or output; images and latents turned to channels-last."""
        value = self.arrays[name]
        return value.transpose(0, 2, 3, 1) if value.ndim == 4 else value

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Everything that the original's checkpoint holds, the averages too."""
        state = {name: pseudo_random(name, tuple(shape)) for name, shape in self.shapes.items()}
        if "codebook" in self.arrays:
            quantizers = [name for name in state if name.endswith("quantize.embedding.weight")]
            state[quantizers[0]] = self.arrays["codebook"]
        if self.has_ema:
            averages = {
                "model_ema." + name.removeprefix("model.").replace(".", ""): _EMA_FACTOR * value
                for name, value in state.items()
                if name.startswith("model.")
            }
            state.update(averages)
            state["model_ema.decay"] = np.float32(0.9999)
            state["model_ema.num_updates"] = np.int32(1)
        return state


def deviation(actual, expected) -> float:
    """Largest difference, relative to the expected array's largest absolute value."""
    from keras import ops

    actual, expected = np.asarray(ops.convert_to_numpy(actual)), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))
