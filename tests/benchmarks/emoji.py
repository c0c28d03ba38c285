"""The emoji models' scores, and how fast their stages train beside diffusers and PyTorch.

    python tests/benchmarks/emoji.py scores --model runs/quickstart/text_to_image.keras
    python tests/benchmarks/emoji.py throughput
    python tests/benchmarks/emoji.py precision
    python tests/benchmarks/emoji.py cached
    python tests/benchmarks/emoji.py cold-start

`scores` takes about two minutes on 2 cores, `throughput` ten (it needs the extra `parity`). Throughput
is that of training from arrays in float32, the medians of runs that alternate, each library in a process
of its own; both have the same architecture, batch and optimizer, and neither keeps an average.
`precision` does that for the second stage alone, in float32 and in mixed bfloat16, with the memory that
each process had. `cached` compares a step of `fit` from a latent cache of the emoji with captions, text
encoder and average included, with one of the U-Net alone.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests.benchmarks`, when run as a script
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))  # for `quickstart`

from tests.benchmarks.workers import Autoencoders, UNets, rates

# A diffusers + torch version of the job: f4 autoencoder, 5 minutes; U-Net of 64/128/256 with frozen
# MiniLM embeddings, 18 minutes, on 2 cores.
BASELINE = ("diffusers + torch", 19.8, 0.00, 0.06)

STAGES = {
    "autoencoder 32/64/128, f4, batch 16": (
        Autoencoders((32, 64, 128), 4, groups=32, middle_attention=True, batch_size=16),
        30,
    ),
    "U-Net 64/128/256 on 16x16x4, batch 32": (
        UNets((64, 128, 256), 4, 16, (1, 2), context_dim=384, tokens=24, heads=(8,) * 3, batch_size=32),
        30,
    ),
    "the shipped model's autoencoder, batch 8": (
        Autoencoders((16, 32, 64, 128), 16, groups=8, middle_attention=False, batch_size=8),
        60,
    ),
    "the shipped model's U-Net, batch 64": (
        UNets((96, 192), 16, 8, (1,), context_dim=128, tokens=24, heads=(3, 6), batch_size=64),
        20,
    ),
}


def scores(paths: list[str], guidance_scale: float) -> None:
    """PSNR of the first stage; of 128 captions drawn, how often the picture is the nearest."""
    from quickstart import retrieval

    import keras_ldm as kl

    emoji = kl.data.load_emoji()
    print("| | PSNR | retrieval@1 | retrieval@5 |\n|---|---|---|---|")
    print("| {} | {:.1f} dB | {:.2f} | {:.2f} |".format(*BASELINE))
    for handle in [*paths, "emoji"]:
        task = kl.tasks.TextToImage.from_preset(handle)
        decoded = task.decode_latents(task.encode_images(emoji.images)).clip(-1, 1)
        psnr = kl.metrics.PeakSignalToNoiseRatio(peak=255)
        psnr.update_state(emoji.images, ((decoded + 1) * 127.5).round())
        found, _ = retrieval(task, emoji.images, emoji.captions, guidance_scale=guidance_scale)
        print(f"| {handle} | {float(psnr.result()):.1f} dB | {found[0]:.3f} | {found[1]:.3f} |")


def throughput(rounds: int) -> None:
    """Steps a second of both libraries."""
    print("| | keras_ldm | diffusers + torch | ratio |\n|---|---|---|---|")
    for name, (networks, steps) in STAGES.items():
        jobs = {library: (networks, library) for library in ("keras", "torch")}
        ours, theirs = rates(jobs, steps, rounds).values()
        print(f"| {name} | {ours:.2f}/s | {theirs:.2f}/s | {ours / theirs:.2f} |", flush=True)


def precision(rounds: int) -> None:
    """Steps a second and memory of both libraries, the U-Net of 64/128/256."""
    networks, steps = STAGES["U-Net 64/128/256 on 16x16x4, batch 32"]
    print("| | keras_ldm | diffusers + torch | ratio | memory | theirs | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in ("float32", "mixed_bfloat16"):
        jobs = {x: (replace(networks, precision=name), x) for x in ("keras", "torch")}
        memory: dict[str, float] = {}
        ours, theirs = rates(jobs, steps, rounds, memory).values()
        print(
            f"| {name} | {ours:.2f}/s | {theirs:.2f}/s | {ours / theirs:.2f} "
            f"| {memory['keras']:.2f} GiB | {memory['torch']:.2f} GiB "
            f"| {memory['keras'] / memory['torch']:.2f} |",
            flush=True,
        )


def cached(rounds: int) -> None:
    """Seconds of a step from a cache, and of the U-Net's own, in turns."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_ldm as kl

    kl.enable_batch_parallelism()
    emoji = kl.data.load_emoji()
    task = kl.tasks.TextToImage(
        kl.models.AutoencoderKL((32, 64, 128), 4),
        kl.models.UNet((64, 128, 256), num_res_blocks=1, attention_levels=(1, 2), context_dim=128),
        kl.models.TransformerTextEncoder(dim=128, num_layers=1, num_heads=2),
    )
    size, steps = 32, 20
    with tempfile.TemporaryDirectory() as folder:
        data = {
            "image": emoji.images[: size * steps],
            "caption": np.array(emoji.captions[: size * steps]),
        }
        cache = kl.data.cache_latents(data, task.autoencoder, folder, batch_size=size)
        task.compile()
        task.fit(cache, verbose=0, epochs=1)

        unet = task.unet
        optimizer = task.default_optimizer()
        optimizer.build(unet.trainable_variables)
        kl.backend.prepare_updates(optimizer)
        given = {
            "latents": tf.random.normal((size, 16, 16, 4)),
            "timesteps": tf.range(size) * 31,
            "context": tf.random.normal((size, 77, 128)),
        }
        target = tf.random.normal((size, 16, 16, 4))
        forward = kl.backend.in_batch_parts(lambda inputs: unet(inputs, training=True))

        @tf.function
        def alone() -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(forward(given) - target))
            optimizer.apply_gradients(
                zip(tape.gradient(loss, unet.trainable_variables), unet.trainable_variables, strict=True)
            )

        alone()
        seconds: dict[str, list[float]] = {"from the cache": [], "U-Net alone": []}
        for _ in range(rounds):
            start = time.perf_counter()
            task.fit(cache, verbose=0, epochs=1)
            middle = time.perf_counter()
            for _ in range(steps):
                alone()
            keras.ops.convert_to_numpy(unet.trainable_variables[0])
            seconds["from the cache"].append((middle - start) / steps)
            seconds["U-Net alone"].append((time.perf_counter() - middle) / steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name}: {1000 * value:.0f} ms")
    print(f"ratio: {medians['from the cache'] / medians['U-Net alone']:.3f}")


def cold_start() -> None:
    """From the command to a written picture; and a second picture in the same process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("keras-ldm"), "generate", "red heart"]
        command += ["--preset", "emoji", "-o", Path(folder) / "heart.png"]
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    print(f"keras-ldm generate: {statistics.median(seconds):.1f} s (median of 3)")

    import keras_ldm as kl

    task = kl.tasks.TextToImage.from_preset("emoji")
    task.generate("red heart", progress=False)
    start = time.perf_counter()
    task.generate("pizza", progress=False)
    print(f"second picture: {time.perf_counter() - start:.2f} s")


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["scores", "throughput", "precision", "cached", "cold-start"])
    parser.add_argument("--model", action="append", default=[], help="a .keras file to score too")
    parser.add_argument("--guidance-scale", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what == "scores":
        scores(arguments.model, arguments.guidance_scale)
    elif arguments.what in ("throughput", "precision", "cached"):
        {"throughput": throughput, "precision": precision, "cached": cached}[arguments.what](
            arguments.rounds
        )
    else:
        cold_start()


if __name__ == "__main__":
    main()
