"""The first stage's losses in PyTorch, as a training script beside diffusers has them.

The discriminator and LPIPS are those of the original code; a step is that of its
`LPIPSWithDiscriminator`, the generator's side and then the discriminator's, each with its optimizer.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def discriminator(filters: int) -> nn.Module:
    """PatchGAN with two halvings and batch normalization."""
    layers: list[nn.Module] = [nn.Conv2d(3, filters, 4, 2, 1), nn.LeakyReLU(0.2)]
    for before, width, stride in ((filters, 2 * filters, 2), (2 * filters, 4 * filters, 1)):
        layers += [nn.Conv2d(before, width, 4, stride, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(4 * filters, 1, 4, 1, 1))


class LPIPS(nn.Module):
    """Distance of VGG16's features, frozen."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(width for stage in _VGG for width in stage)]
        convolutions = iter([nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(widths)])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *[nn.MaxPool2d(2)] * (index > 0),
                *[m for _ in stage for m in (next(convolutions), nn.ReLU())],
            )
            for index, stage in enumerate(_VGG)
        )
        self.importances = nn.ParameterList(torch.rand(1, stage[-1], 1, 1) for stage in _VGG)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.requires_grad_(False)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        x, y = ((images - self.shift) / self.scale for images in (first, second))
        total = torch.zeros(())
        for stage, importance in zip(self.stages, self.importances, strict=True):
            x, y = stage(x), stage(y)
            units = [f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (x, y)]
            total = total + ((units[0] - units[1]) ** 2 * importance).sum(1).mean((1, 2))
        return total


class FirstStageStep:
    """One step of both optimizers.

    Args:
        model: diffusers' AutoencoderKL or VQModel.
        network: the discriminator.
        perceptual: LPIPS.
        adaptive: whether the generator's weight follows the gradients' norms.
    """

    def __init__(self, model: Any, network: nn.Module, perceptual: nn.Module, *, adaptive: bool) -> None:
        self.model, self.network, self.perceptual, self.adaptive = model, network, perceptual, adaptive
        self.optimizers = [
            torch.optim.Adam(module.parameters(), 1e-4, betas=(0.5, 0.9)) for module in (model, network)
        ]

    def __call__(self, images: torch.Tensor) -> None:
        first, second = self.optimizers
        self.network.requires_grad_(False)
        nll, regularization, reconstruction = self._reconstruct(images)
        generator = -self.network(reconstruction).mean()
        weight = 0.5
        if self.adaptive:
            last = self.model.decoder.conv_out.weight
            norms = [
                torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (nll, generator)
            ]
            weight = 0.5 * torch.clamp(norms[0] / (norms[1] + 1e-4), 0, 1e4).detach()
        first.zero_grad()
        (nll + weight * generator + regularization).backward()
        first.step()

        self.network.requires_grad_(True)
        real, fake = self.network(images), self.network(reconstruction.detach())
        second.zero_grad()
        (0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())).backward()
        second.step()

    def _reconstruct(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if hasattr(self.model, "quantize"):
            latents = self.model.encode(images).latents
            decoded = self.model.decode(latents)
            regularization = decoded.commit_loss.mean()
        else:
            posterior = self.model.encode(images).latent_dist
            decoded = self.model.decode(posterior.sample())
            regularization = 1e-6 * posterior.kl().mean()
        distance = (images - decoded.sample).abs()
        distance = distance + self.perceptual(images, decoded.sample)[:, None, None, None]
        nll = distance.mean() if hasattr(self.model, "quantize") else distance.sum() / len(images)
        return nll, regularization, decoded.sample
