"""Two workers that train the same networks: keras_ldm with `fit`, diffusers with a torch loop.

Each runs in a process of its own, since the CPU builds of TensorFlow and PyTorch do not share one well,
and waits between its turns, so that runs can alternate.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tests.benchmarks.resident import resident

Train = Callable[[int], None]


@dataclass(frozen=True)
class Autoencoders:
    """A KL autoencoder on random 64x64 pictures; the arguments are those of `AutoencoderKL`."""

    channels: tuple[int, ...]
    latent_channels: int
    groups: int
    middle_attention: bool
    batch_size: int

    def keras_model(self) -> Any:
        import keras_ldm as kl

        return kl.models.AutoencoderKL(
            self.channels,
            self.latent_channels,
            num_res_blocks=1,
            groups=self.groups,
            middle_attention=self.middle_attention,
        )

    def torch_model(self) -> Any:
        import diffusers

        return diffusers.AutoencoderKL(
            block_out_channels=self.channels,
            down_block_types=("DownEncoderBlock2D",) * len(self.channels),
            up_block_types=("UpDecoderBlock2D",) * len(self.channels),
            layers_per_block=1,
            latent_channels=self.latent_channels,
            norm_num_groups=self.groups,
            mid_block_add_attention=self.middle_attention,
        )

    def keras(self) -> Train:
        import keras

        import keras_ldm as kl

        task = kl.tasks.AutoencoderTask(self.keras_model(), reconstruction_loss="l2")
        task.compile(keras.optimizers.Adam(1e-4))
        images = _random_images()
        return lambda steps: task.fit(
            images, batch_size=self.batch_size, steps_per_epoch=steps, verbose=0
        )

    def torch(self) -> Train:
        import torch

        model = self.torch_model()
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        images = torch.from_numpy(_random_images()).permute(0, 3, 1, 2)

        def step(rows: torch.Tensor) -> None:
            batch = images[rows].float() / 127.5 - 1.0
            posterior = model.encode(batch).latent_dist
            reconstruction = model.decode(posterior.sample()).sample
            loss = ((reconstruction - batch) ** 2).sum() / len(batch) + 1e-6 * posterior.kl().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return lambda steps: _loop(step, steps, self.batch_size, len(images))


@dataclass(frozen=True)
class FirstStages:
    """A KL or VQ autoencoder with LPIPS (VGG16) and a PatchGAN discriminator with the adaptive weight.

    The networks' weights are random, LPIPS's too: the work is the same.
    """

    channels: tuple[int, ...]
    num_codes: int | None = None
    latent_channels: int = 4
    batch_size: int = 16
    adaptive: bool = True
    filters: int = 32

    def keras_models(self) -> list[Any]:
        """Autoencoder, discriminator, LPIPS."""
        import keras_ldm as kl

        options = {"num_res_blocks": 1, "groups": 8, "middle_attention": False}
        if self.num_codes is None:
            model = kl.models.AutoencoderKL(self.channels, self.latent_channels, **options)
        else:
            model = kl.models.VQModel(self.channels, self.latent_channels, self.num_codes, **options)
        discriminator = kl.models.PatchDiscriminator(self.filters, num_layers=2)
        lpips, rng = kl.models.LPIPSNetwork("vgg16"), np.random.default_rng(0)
        for importance in lpips.importances:
            importance.assign(rng.uniform(size=importance.shape))
        return [model, discriminator, lpips]

    def torch_models(self) -> list[Any]:
        """The same, of diffusers and torch."""
        import diffusers

        from tests.benchmarks import torch_losses

        options = {
            "block_out_channels": self.channels,
            "down_block_types": ("DownEncoderBlock2D",) * len(self.channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(self.channels),
            "layers_per_block": 1,
            "latent_channels": self.latent_channels,
            "norm_num_groups": 8,
            "mid_block_add_attention": False,
        }
        if self.num_codes is None:
            model = diffusers.AutoencoderKL(**options)
        else:
            model = diffusers.VQModel(num_vq_embeddings=self.num_codes, **options)
        return [model, torch_losses.discriminator(self.filters), torch_losses.LPIPS()]

    def keras(self) -> Train:
        import keras

        import keras_ldm as kl

        model, discriminator, lpips = self.keras_models()
        task = kl.tasks.AutoencoderTask(
            model,
            perceptual_loss=lpips,
            discriminator=discriminator,
            adaptive_weight=self.adaptive,
        )
        task.compile(
            keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9),
            discriminator_optimizer=keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9),
        )
        images = _random_images()
        return lambda steps: task.fit(
            images, batch_size=self.batch_size, steps_per_epoch=steps, verbose=0
        )

    def torch(self) -> Train:
        import torch

        from tests.benchmarks.torch_losses import FirstStageStep

        step = FirstStageStep(*self.torch_models(), adaptive=self.adaptive)
        images = torch.from_numpy(_random_images()).permute(0, 3, 1, 2)

        def train(rows: torch.Tensor) -> None:
            step(images[rows].float() / 127.5 - 1.0)

        return lambda steps: _loop(train, steps, self.batch_size, len(images))


def _random_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (512, 64, 64, 3), np.uint8)


@dataclass(frozen=True)
class UNets:
    """A U-Net with cross-attention on random latents and embeddings; arguments of `UNet`.

    Precision is a policy of Keras; for torch "mixed_bfloat16" is autocast, as in diffusers' scripts.
    """

    channels: tuple[int, ...]
    latent_channels: int
    side: int
    attention_levels: tuple[int, ...]
    context_dim: int
    tokens: int
    heads: tuple[int, ...]
    batch_size: int
    precision: str = "float32"

    def keras_model(self) -> Any:
        import keras_ldm as kl

        widths = {c // h for c, h in zip(self.channels, self.heads, strict=True)}
        same_width = len(widths) == 1
        return kl.models.UNet(
            self.channels,
            self.latent_channels,
            self.latent_channels,
            num_res_blocks=1,
            attention_levels=self.attention_levels,
            context_dim=self.context_dim,
            num_heads=None if same_width else self.heads[0],
            head_dim=widths.pop() if same_width else None,
        )

    def torch_model(self) -> Any:
        import diffusers

        attends = [level in self.attention_levels for level in range(len(self.channels))]
        return diffusers.UNet2DConditionModel(
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
            block_out_channels=self.channels,
            layers_per_block=1,
            cross_attention_dim=self.context_dim,
            attention_head_dim=self.heads,  # which are numbers of heads: huggingface/diffusers#2011
        )

    def keras(self) -> Train:
        import keras

        import keras_ldm as kl

        keras.config.set_dtype_policy(self.precision)
        task = kl.tasks.LatentDiffusion(
            kl.models.AutoencoderKL((8,), self.latent_channels, num_res_blocks=1, groups=4),
            self.keras_model(),
            kl.conditioning.Conditioner(
                {"context": kl.conditioning.TokenEmbedder(self.context_dim, dropout=0.0)}
            ),
            latent_scale=1.0,
            ema_decay=None,
        )
        task.compile(keras.optimizers.AdamW(1e-4, weight_decay=1e-2, global_clipnorm=1.0))
        latents, context = self._arrays()
        moments = np.concatenate([latents, np.full_like(latents, -30.0)], axis=-1)
        data = {"moments": moments, "context": context}
        return lambda steps: task.fit(data, batch_size=self.batch_size, steps_per_epoch=steps, verbose=0)

    def torch(self) -> Train:
        import diffusers
        import torch

        model = self.torch_model()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=1e-2)
        scheduler = diffusers.DDPMScheduler(beta_schedule="scaled_linear")
        latents, context = map(torch.from_numpy, self._arrays())
        latents = latents.permute(0, 3, 1, 2).contiguous()

        def step(rows: torch.Tensor) -> None:
            noise = torch.randn_like(latents[rows])
            timesteps = torch.randint(0, 1000, (len(rows),))
            noisy = scheduler.add_noise(latents[rows], noise, timesteps)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "mixed_bfloat16"):
                output = model(noisy, timesteps, context[rows]).sample
            loss = ((output.float() - noise) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return lambda steps: _loop(step, steps, self.batch_size, len(latents))

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        latents = rng.standard_normal((512, self.side, self.side, self.latent_channels), np.float32)
        return latents, rng.standard_normal((512, self.tokens, self.context_dim), np.float32)


def _loop(step: Callable, steps: int, batch_size: int, count: int) -> None:
    import torch

    order = torch.randperm(count).repeat(-(-steps * batch_size // count))
    for i in range(steps):
        step(order[i * batch_size : (i + 1) * batch_size])


Networks = Autoencoders | FirstStages | UNets


class Worker:
    """A process that trains some steps at a time and says how long they took, and its memory at the end.

    Args:
        networks: what to train.
        library: "keras" or "torch".
    """

    def __init__(self, networks: Networks, library: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(networks, library, end), daemon=True)
        self.process.start()

    def seconds(self, steps: int) -> float:
        """How long so many steps take."""
        self.connection.send(steps)
        return self.connection.recv()

    def close(self) -> float:
        """Ends the process; the most memory that it had, in GiB."""
        self.connection.send(0)
        memory: float = self.connection.recv()
        self.process.join()
        return memory


def rates(
    jobs: dict[str, tuple[Networks, str]],
    steps: int,
    rounds: int,
    memory: dict[str, float] | None = None,
) -> dict[str, float]:
    """Steps a second of jobs that take turns: the median of so many rounds.

    Args:
        jobs: networks and library, by name.
        steps: of a turn.
        rounds: how often each has its turn.
        memory: where to put the most memory that each had, in GiB.
    """
    workers = {name: Worker(*job) for name, job in jobs.items()}
    for worker in workers.values():
        worker.seconds(4)
    found: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            found[name].append(steps / worker.seconds(steps))
    for name, worker in workers.items():
        taken = worker.close()
        if memory is not None:
            memory[name] = taken
    return {name: statistics.median(values) for name, values in found.items()}


def _serve(networks: Networks, library: str, connection: Connection) -> None:
    if library == "keras":
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # not the default on every processor
        sys.modules.update(jax=None, sklearn=None)  # TensorFlow and Keras import them where they are
        import keras_ldm as kl

        kl.enable_batch_parallelism()
    train = getattr(networks, library)()
    while steps := connection.recv():
        start = time.perf_counter()
        train(steps)
        connection.send(time.perf_counter() - start)
    connection.send(resident("VmHWM"))
