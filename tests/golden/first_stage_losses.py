"""Writes first_stage_losses.npz: the original's losses of an autoencoder, computed with PyTorch.

    python tests/golden/first_stage_losses.py

diffusers' AutoencoderKL (its halves, for VQ), the discriminator and the losses written after the
original's formulas, and the package `lpips`, all with random weights. Stored are each term, and the
gradient of each weight as our layers hold it.
"""

from pathlib import Path

import numpy as np

from tests.golden.published_lpips import random_arrays

CHANNELS, LATENT, GROUPS, SIZE, BATCH, CODES = (4, 8), 2, 2, 32, 2, 5
CASES = {
    "kl": {"vq": False, "error": "l1", "adversarial": "hinge", "norm": "batch", "condition": 0},
    "vq": {"vq": True, "error": "l2", "adversarial": "vanilla", "norm": None, "condition": 1},
}
LOG_VARIANCE, PERCEPTUAL, KL, CODEBOOK, WEIGHT, FACTOR, BETA = 0.3, 0.7, 1e-3, 0.8, 0.6, 0.9, 0.25


def arrays(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


def inputs() -> dict[str, np.ndarray]:
    half = SIZE // 2
    values = arrays(
        0,
        image=(BATCH, SIZE, SIZE, 3),
        condition=(BATCH, SIZE, SIZE, 1),
        noise=(BATCH, half, half, LATENT),
        codebook=(CODES, LATENT),
    )
    return {**values, "image": np.tanh(values["image"])}


def main() -> None:
    import diffusers
    import torch
    from torch import nn
    from torch.nn import functional as F

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import lpips

    from keras_ldm.models import AutoencoderKL
    from tests.parity.diffusers_names import load_autoencoder
    from tests.parity.torch_modules import randomise, to_torch

    def discriminator(in_channels: int, norm: str | None) -> nn.Module:
        def conv(inputs: int, outputs: int, stride: int, bias: bool = True) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 4, stride, 1, bias=bias)

        layers = [conv(in_channels, 4, 2), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in ((4, 8, 2), (8, 16, 1)):
            layers.append(conv(inputs, outputs, stride, bias=norm is None))
            layers += [nn.BatchNorm2d(outputs)] * (norm is not None) + [nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, conv(16, 1, 1))

    def to_ours(model: AutoencoderKL, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        load_autoencoder(model, values)
        return [np.asarray(weight.numpy()) for weight in model.trainable_weights]

    def discriminator_arrays(module: nn.Module, gradients: bool) -> list[np.ndarray]:
        values = [p.grad if gradients else p.detach() for p in module.parameters()]
        return [v.numpy().transpose(2, 3, 1, 0) if v.ndim == 4 else v.numpy() for v in values]

    results = {}
    given = inputs()
    for case, options in CASES.items():
        model = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=CHANNELS,
            layers_per_block=1,
            latent_channels=LATENT,
            norm_num_groups=GROUPS,
        )
        randomise(model).requires_grad_(True)
        if options["vq"]:  # its encoder gives means alone, from as many channels
            model.quant_conv.weight.data[:LATENT, LATENT:] = 0
        network = randomise(discriminator(3 + options["condition"], options["norm"]), seed=1)
        network.requires_grad_(True).train()
        perceptual = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        shapes = {k: tuple(v.shape) for k, v in perceptual.state_dict().items() if k.startswith("net.")}
        perceptual.load_state_dict(
            {k: torch.from_numpy(v) for k, v in random_arrays(shapes).items()}, strict=False
        )
        log_variance = torch.tensor(LOG_VARIANCE, requires_grad=True)
        codebook = torch.from_numpy(given["codebook"]).requires_grad_()

        images = to_torch(given["image"])
        moments = model.quant_conv(model.encoder(images))
        mean, logvar = torch.chunk(moments, 2, dim=1)
        if options["vq"]:
            flat = mean.permute(0, 2, 3, 1).reshape(-1, LATENT)
            chosen = torch.cdist(flat, codebook).argmin(1)
            codes = codebook[chosen].reshape(BATCH, SIZE // 2, SIZE // 2, LATENT).permute(0, 3, 1, 2)
            regularization = ((codes.detach() - mean) ** 2).mean()
            regularization = regularization + BETA * ((codes - mean.detach()) ** 2).mean()
            latents = mean + (codes - mean).detach()
        else:
            logvar = torch.clamp(logvar, -30, 20)
            latents = mean + torch.exp(0.5 * logvar) * to_torch(given["noise"])
            kl = 0.5 * torch.sum(mean**2 + logvar.exp() - 1 - logvar, dim=[1, 2, 3])
            regularization = kl.sum() / BATCH
        reconstruction = model.decoder(model.post_quant_conv(latents))

        difference = images - reconstruction
        pixels = difference.abs() if options["error"] == "l1" else difference**2
        similarity = perceptual(images, reconstruction)
        distance = pixels + PERCEPTUAL * similarity
        if options["vq"]:
            nll = distance.mean()
        else:
            nll = (distance / log_variance.exp() + log_variance).sum() / BATCH

        def judge(x: torch.Tensor, network=network, options=options) -> torch.Tensor:
            maps = [to_torch(given["condition"])] * options["condition"]
            return network(torch.cat([x, *maps], dim=1))

        generator = -judge(reconstruction).mean()
        last = model.decoder.conv_out.weight
        norms = [torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (nll, generator)]
        strength = torch.clamp(norms[0] / (norms[1] + 1e-4), 0, 1e4).detach() * WEIGHT
        weight = CODEBOOK if options["vq"] else KL
        autoencoder_loss = nll + strength * FACTOR * generator + weight * regularization
        autoencoder_loss.backward()
        network.zero_grad()
        real, fake = judge(images), judge(reconstruction.detach())
        if options["adversarial"] == "hinge":
            discriminator_loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        else:
            discriminator_loss = 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        (FACTOR * discriminator_loss).backward()

        terms = {
            "loss": autoencoder_loss + FACTOR * discriminator_loss,
            "reconstruction_loss": pixels.mean(),
            "perceptual_loss": similarity.mean(),
            "codebook_loss" if options["vq"] else "kl_loss": regularization,
            "generator_loss": generator,
            "discriminator_loss": discriminator_loss,
            "real_logits": real.mean(),
            "fake_logits": fake.mean(),
            "generator_weight": FACTOR * strength,
        }
        for name, value in terms.items():
            results[f"{case}/term/{name}"] = np.float32(value.item())
        ours = AutoencoderKL(CHANNELS, LATENT, num_res_blocks=1, groups=GROUPS)
        named = dict(model.named_parameters())
        values = {name: p.detach().numpy() for name, p in named.items()}
        gradients = {
            n: np.zeros_like(values[n]) if p.grad is None else p.grad.numpy() for n, p in named.items()
        }
        for kind, source in (("weight", values), ("gradient", gradients)):
            for i, array in enumerate(to_ours(ours, source)):
                results[f"{case}/{kind}/autoencoder{i}"] = array
        for kind, is_gradient in (("weight", False), ("gradient", True)):
            for i, array in enumerate(discriminator_arrays(network, is_gradient)):
                results[f"{case}/{kind}/discriminator{i}"] = array
        if options["vq"]:
            results[f"{case}/gradient/codebook"] = codebook.grad.numpy()
        else:
            results[f"{case}/gradient/log_variance"] = log_variance.grad.numpy()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **results)
    print({k: float(v) for k, v in results.items() if "/term/" in k})


if __name__ == "__main__":
    main()
