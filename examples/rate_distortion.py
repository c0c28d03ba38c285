"""How many bits buy what: the rate-distortion curve of a trained model, along its reverse process.

    python examples/rate_distortion.py

An autoencoder and a latent diffusion model are trained on Fashion-MNIST. Test pictures are then said to
somebody who has the models and knows the class: first the noisiest latents, then less noisy ones, step
by step. The script measures the bits of each step, by the variational bound, and how far the decoded
estimate is from the picture by then, and leaves in `runs/rate_distortion/`:

    curve.png        root mean squared error by bits per dimension; and both by the noise level
    estimates.png    what is known of six pictures after so many bits
    curve.json       the numbers
    *.keras          the two models; started again, the script takes those that are there, such as those
                     of `examples/fashion_mnist.py` with `--output runs/fashion_mnist`

A quarter of an hour on 2 cores, with other work beside it. The data: `apt-get install
dataset-fashion-mnist` on Debian and Ubuntu, or their four files in the folder `--data`.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from fashion_mnist import kept, load, make_autoencoder, make_diffusion
from PIL import Image, ImageDraw
from quickstart import grid

import keras_ldm as kl

RED, BLUE = (200, 30, 60), (40, 80, 200)
WIDTH, HEIGHT, MARGIN = 520, 340, 52


def frame(
    xs: np.ndarray, curves: list[tuple[str, np.ndarray, tuple[int, int, int]]], title: str
) -> Image.Image:
    """Curves over one axis, from 0 to the greatest of each; each axis of its curve's colour."""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(canvas)
    left, right, top, bottom = MARGIN, WIDTH - MARGIN, MARGIN, HEIGHT - MARGIN
    pen.rectangle((left, top, right, bottom), outline="lightgray")
    pen.text(((left + right) / 2, bottom + 26), title, fill="black", anchor="ma")
    low, high = xs.min(), xs.max()
    for value in np.linspace(low, high, 6):
        x = left + (value - low) / (high - low) * (right - left)
        pen.text((x, bottom + 6), f"{value:.3g}", fill="black", anchor="ma")
    for side, (name, values, color) in enumerate(curves):
        most = values.max() * 1.05
        for value in np.linspace(0, most, 6):
            y = bottom - value / most * (bottom - top)
            edge = (left - 6, "rm") if side == 0 else (right + 6, "lm")
            pen.text((edge[0], y), f"{value:.2g}", fill=color, anchor=edge[1])
        x, anchor = (left, "la") if side == 0 else (right, "ra")
        pen.text((x, top - 20), name, fill=color, anchor=anchor)
        places = [
            (left + (x - low) / (high - low) * (right - left), bottom - y / most * (bottom - top))
            for x, y in zip(xs, values, strict=True)
        ]
        pen.line(places, fill=color, width=2)
        for x, y in places:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
    return canvas


def plot(curve: kl.tasks.RateDistortion) -> Image.Image:
    """Distortion by rate, as the paper's figure 2, and both by the noise level."""
    error = ("root mean squared error", curve.distortions, RED)
    by_level = [error, ("bits/dim", curve.rates, BLUE)]
    frames = [
        frame(curve.rates, [error], "bits per dimension"),
        frame(-np.log2(curve.sigmas), by_level, "-log2 of the noise level: the reverse process"),
    ]
    canvas = Image.new("RGB", (2 * WIDTH, HEIGHT), "white")
    for i, panel in enumerate(frames):
        canvas.paste(panel, (i * WIDTH, 0))
    return canvas


def estimates(
    task: kl.tasks.LatentDiffusion,
    curve: kl.tasks.RateDistortion,
    images: np.ndarray,
    labels: np.ndarray,
    count: int = 9,
) -> Image.Image:
    """The decoded estimate of each picture at some levels, and the picture."""
    latents, columns, titles = task.encode_images(images), [], []
    noise = np.random.default_rng(0).standard_normal(latents.shape).astype("float32")
    for place in np.linspace(0, len(curve.sigmas) - 1, count).astype(int):
        timestep = round(task.schedule.timestep(curve.sigmas[place]))
        signal, spread = task.schedule.signal_rates[timestep], task.schedule.noise_rates[timestep]
        noisy = (signal * latents + spread * noise).astype("float32")
        timesteps = np.full(len(images), timestep)
        epsilon = task.predict_epsilon(noisy, timesteps, {"class_label": labels})
        decoded = task.decode_latents(((noisy - spread * epsilon) / signal).astype("float32"))
        columns.append(((decoded.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8))
        titles.append(f"{curve.rates[place]:.3f} bits")
    rows = np.stack([*columns, images], axis=1)[..., 0]
    return grid(list(rows), [*titles, "the picture"], scale=3)


def main() -> None:
    """Trains what is not there yet, measures and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), metavar="FOLDER"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/rate_distortion"), metavar="FOLDER")
    parser.add_argument("--num-images", type=int, default=12_000, help="pictures to train on")
    parser.add_argument("--epochs", type=int, nargs=2, default=(1, 3), metavar="N")
    parser.add_argument("--num-test", type=int, default=256, help="pictures to measure")
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error(f"expected --steps of 2 or more, which make a curve; received {arguments.steps}")
    images, labels = load(arguments.data, "train", arguments.num_images)
    test_images, test_labels = load(arguments.data, "t10k", arguments.num_test)
    output, epochs = arguments.output, arguments.epochs
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    first = kept(output / "autoencoder.keras", lambda: make_autoencoder(images, epochs[0]))
    task = kept(
        output / "diffusion.keras",
        lambda: make_diffusion(first.autoencoder, images, labels, epochs[1]),
    )

    curve = task.rate_distortion(
        test_images, {"class_label": test_labels}, num_steps=arguments.steps, batch_size=64
    )
    plot(curve).save(output / "curve.png")
    estimates(task, curve, test_images[:6], test_labels[:6]).save(output / "estimates.png")
    numbers = {"sigmas": curve.sigmas, "rates": curve.rates, "distortions": curve.distortions}
    with kl.files.atomic_path(output / "curve.json") as path:
        lists = {name: values.tolist() for name, values in numbers.items()}
        path.write_text(json.dumps({**lists, "floor": curve.floor}))
    print("bits/dim    error of 255")
    for share in (0.01, 0.03, 0.1, 0.3, 1.0):
        place = int(np.argmax(curve.rates >= share * curve.rates[-1]))
        print(f"{curve.rates[place]:8.4f}    {curve.distortions[place]:.1f}")
    print(f"without noise the error is {curve.floor:.1f}. Pictures: {output}")


if __name__ == "__main__":
    kl.enable_batch_parallelism()
    main()
