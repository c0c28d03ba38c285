"""Compare all samplers on the preset `emoji`: a picture, and a table of quality against network calls.

    python examples/samplers.py --output runs/samplers

Two minutes on 2 cores for the picture, samplers.png: one prompt, a row for each sampler, a column for
each number of steps. `--captions 128` adds the table, table.md, in about twenty minutes; the first
row's seconds include compilation.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image, ImageDraw
from quickstart import GUIDANCE_SCALE
from tqdm import tqdm

import keras_ldm as kl

SAMPLERS = (
    *("ddim", "plms", "euler", "heun", "dpm2", "lms", "dpmpp_2s", "dpmpp_2m", "unipc"),
    *("ddpm", "euler_ancestral", "dpm2_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde", "lcm"),
)
STEPS = (2, 4, 8, 12, 20, 30, 50)
TABLE_STEPS = (4, 8, 12, 20, 30)


def draw_grid(task: kl.tasks.TextToImage, prompt: str) -> Image.Image:
    """One prompt and one seed, samplers by steps."""
    side, left, top = task.image_size[0], 130, 20
    canvas = Image.new("RGB", (left + side * len(STEPS), top + side * len(SAMPLERS)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, steps in enumerate(STEPS):
        draw.text((left + (column + 0.5) * side, 4), f"{steps} steps", fill="black", anchor="ma")
    for row, sampler in enumerate(tqdm(SAMPLERS, "samplers")):
        draw.text((4, top + (row + 0.5) * side), sampler, fill="black", anchor="lm")
        for column, steps in enumerate(STEPS):
            picture = task.generate(
                prompt,
                sampler=sampler,
                num_steps=steps,
                guidance_scale=GUIDANCE_SCALE,
                seed=0,
                progress=False,
            )[0]
            canvas.paste(Image.fromarray(picture), (left + column * side, top + row * side))
    return canvas


def count_calls(task: kl.tasks.TextToImage, name: str, num_steps: int) -> int:
    """How often a sampler asks the network."""
    sampler, calls = kl.samplers.get_sampler(name), []
    sigmas = sampler.grid(task.schedule, num_steps)
    sampler.function(
        lambda x, sigma: calls.append(sigma) or x, np.ones((1, 1), np.float32), sigmas, seed=0
    )
    return len(calls)


def compare(task: kl.tasks.TextToImage, count: int) -> str:
    """A table: network calls, retrieval@1 and PSNR to the real pictures, for each sampler and steps."""
    emoji = kl.data.load_emoji()
    targets = np.arange(0, len(emoji.images), max(1, len(emoji.images) // count))[:count]
    prompts = [emoji.captions[i] for i in targets]
    real = emoji.images[targets].astype(np.float64)
    lines = [
        "| sampler | steps | network calls | retrieval@1 | PSNR | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for sampler in SAMPLERS:
        for steps in TABLE_STEPS:
            start = time.perf_counter()
            drawn = task.generate(
                prompts,
                sampler=sampler,
                num_steps=steps,
                guidance_scale=GUIDANCE_SCALE,
                seed=1,
                batch_size=64,
                progress=False,
            )
            seconds = time.perf_counter() - start
            found = kl.metrics.retrieval_at_k(drawn, emoji.images, targets, 1)
            error = np.square(drawn - real).mean(axis=(1, 2, 3))
            psnr = np.mean(10 * np.log10(255.0**2 / np.maximum(error, 1e-9)))
            calls = count_calls(task, sampler, steps)
            lines.append(
                f"| `{sampler}` | {steps} | {calls} | {found:.3f} | {psnr:.1f} | {seconds:.0f} |"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draws, and with `--captions` counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/samplers"), metavar="FOLDER")
    parser.add_argument("--prompt", default="tiger face")
    parser.add_argument("--captions", type=int, default=0, help="how many to draw for the table")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    task = kl.tasks.TextToImage.from_preset("emoji")
    draw_grid(task, arguments.prompt).save(arguments.output / "samplers.png")
    if arguments.captions:
        table = compare(task, arguments.captions)
        (arguments.output / "table.md").write_text(table, "utf-8")


if __name__ == "__main__":
    main()
