"""Random weights for PyTorch modules, and their way to NumPy."""

import numpy as np
import torch


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draws every parameter anew, so that none is 0 or 1 and hides what it is for."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            value = 0.1 * noise + (0.0 if name.endswith("bias") else 1.0)
        else:
            value = noise / float(np.prod(parameter.shape[1:])) ** 0.5
        parameter.data.copy_(value)
    return module.eval().requires_grad_(False)


def arrays_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """A module's parameters by name."""
    return {name: parameter.numpy() for name, parameter in module.named_parameters()}


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Channels-last images as PyTorch takes them."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def from_torch(tensor: torch.Tensor) -> np.ndarray:
    """The other way."""
    return tensor.detach().numpy().transpose(0, 2, 3, 1)
