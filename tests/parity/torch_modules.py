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


_INTO_NORMALIZATIONS = (  # layers whose outputs add up to what a normalization takes
    "conv_in.",
    "conv2.",
    "conv_shortcut.bias",
    "samplers.0.conv.bias",
    "proj_in.",
    "proj_out.",
    "to_out.0.",
    "ff.net.2.",
)


def shrink(module: torch.nn.Module, factor: float = 1e-3) -> torch.nn.Module:
    """Makes the inputs of the normalizations so small that their epsilons matter."""
    for name, parameter in module.named_parameters():
        if any(part in name for part in _INTO_NORMALIZATIONS):
            parameter.data.mul_(factor)
    return module


def arrays_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """A module's parameters by name."""
    return {name: parameter.numpy() for name, parameter in module.named_parameters()}


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Channels-last images as PyTorch takes them."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def from_torch(tensor: torch.Tensor) -> np.ndarray:
    """The other way."""
    return tensor.detach().numpy().transpose(0, 2, 3, 1)
