"""What the KL term is for: Fashion-MNIST in two numbers, with it and without.

    python examples/latent_space.py

Two autoencoders are trained that keep two numbers of each picture, equal but for `kl_weight`. Each test
picture is a dot at its two numbers, in the colour of its class; between the two scatter plots stands
what each decoder makes of a grid over the same region. It leaves in `runs/latent_space/`:

    latent_space.png    scatter plot and grid without the KL term, grid and scatter plot with it
    *.keras             the two autoencoders; started again, the script takes those that are there

Ten minutes on 2 cores, with other work beside it. The data: `apt-get install dataset-fashion-mnist` on
Debian and Ubuntu, or their four files in the folder `--data`.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from fashion_mnist import CLASSES, kept, load
from PIL import Image, ImageDraw
from quickstart import learning_rate, steps_of

import keras_ldm as kl

WIDTHS = (16, 32, 48, 64, 96, 128)  # f = 32: a picture becomes one latent
KL_WEIGHTS = {"without KL": 0.0, "with KL": 1.0}
COLORS = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (110, 110, 110), (188, 189, 34), (23, 190, 207)),
)
PANEL, MARGIN = 448, 44
Region = np.ndarray
"""Least and greatest of both numbers, `(2, 2)`."""


def make_autoencoder(images: np.ndarray, kl_weight: float, epochs: int) -> kl.tasks.AutoencoderTask:
    """32x32x1 to 1x1x2 and back."""
    model = kl.models.AutoencoderKL(
        WIDTHS,
        latent_channels=2,
        z_channels=64,
        image_channels=1,
        num_res_blocks=1,
        groups=8,
        middle_attention=False,
    )
    task = kl.tasks.AutoencoderTask(model, reconstruction_loss="l2", kl_weight=kl_weight)
    batch_size = 64
    rate = learning_rate(1e-3, epochs * steps_of(len(images), batch_size))
    task.compile(keras.optimizers.Adam(rate, beta_2=0.99, global_clipnorm=10.0))
    task.fit(images, batch_size=batch_size, epochs=epochs)
    return task


def region_of(points: np.ndarray) -> Region:
    """A square around nearly all of the points."""
    low, high = np.quantile(points, (0.005, 0.995), axis=0)
    half = 0.52 * max(high - low)
    middle = (low + high) / 2
    return np.stack([middle - half, middle + half])


def scatter(points: np.ndarray, labels: np.ndarray, region: Region) -> Image.Image:
    """A dot for each picture, the first number to the right, the second up."""
    places = (points - region[0]) / (region[1] - region[0]) * PANEL
    canvas = Image.new("RGB", (PANEL, PANEL), "white")
    pen = ImageDraw.Draw(canvas)
    for (x, y), label in zip(places, labels, strict=True):
        pen.ellipse((x - 1, PANEL - y - 1, x + 1, PANEL - y + 1), fill=COLORS[label])
    return canvas


def decoded_grid(space: kl.tasks.LatentSpace, region: Region, count: int = 14) -> Image.Image:
    """What the decoder makes of so many by so many places of the region."""
    xs, ys = (np.linspace(low, high, count) for low, high in region.T)
    latents = np.array([[x, y] for y in ys[::-1] for x in xs], "float32").reshape(-1, 1, 1, 2)
    decoded = ((space.decode(latents).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    side = decoded.shape[1]
    rows = decoded.reshape(count, count, side, side).transpose(0, 2, 1, 3).reshape(2 * [count * side])
    return Image.fromarray(rows).convert("RGB").resize((PANEL, PANEL), Image.Resampling.LANCZOS)


def figure(panels: list[tuple[str, Image.Image, Region]]) -> Image.Image:
    """Panels beside one another, with the region at their sides and the classes below."""
    width = MARGIN + len(panels) * (PANEL + MARGIN)
    canvas = Image.new("RGB", (width, PANEL + 2 * MARGIN + 24), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (title, panel, region) in enumerate(panels):
        left, top = MARGIN + i * (PANEL + MARGIN), MARGIN
        right, bottom = left + PANEL, top + PANEL
        canvas.paste(panel, (left, top))
        pen.rectangle((left - 1, top - 1, right, bottom), outline="gray")
        pen.text(((left + right) / 2, top - 20), title, fill="black", anchor="ma")
        for side, (low, high) in enumerate(region.T):
            for value in np.linspace(low, high, 5):
                part = (value - low) / (high - low) * PANEL
                if side == 0:
                    pen.text((left + part, bottom + 4), f"{value:.1f}", fill="black", anchor="ma")
                else:
                    pen.text((left - 4, bottom - part), f"{value:.1f}", fill="black", anchor="rm")
    for i, (name, color) in enumerate(zip(CLASSES, COLORS, strict=True)):
        x, y = MARGIN + i * (width - 2 * MARGIN) / len(CLASSES), PANEL + 2 * MARGIN
        pen.ellipse((x, y, x + 10, y + 10), fill=color)
        pen.text((x + 16, y + 5), name, fill="black", anchor="lm")
    return canvas


def main() -> None:
    """Trains what is not there yet, and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), metavar="FOLDER"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/latent_space"), metavar="FOLDER")
    parser.add_argument("--num-images", type=int, default=6_400, help="pictures to train on")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    images, _ = load(arguments.data, "train", arguments.num_images)
    test_images, labels = load(arguments.data, "t10k", None)
    arguments.output.mkdir(parents=True, exist_ok=True)

    plots, grids = [], []
    for title, kl_weight in KL_WEIGHTS.items():
        keras.utils.set_random_seed(0)
        path = arguments.output / f"{title.replace(' ', '_')}.keras"
        task = kept(path, lambda w=kl_weight: make_autoencoder(images, w, arguments.epochs))
        space = kl.tasks.LatentSpace(task.averaged_autoencoder(), scale=1.0)
        points = space.encode(test_images).reshape(-1, 2)
        region = region_of(points)
        plots.append((title, scatter(points, labels, region), region))
        grids.append((f"{title}: decoded", decoded_grid(space, region), region))
        scores = task.evaluate(test_images, batch_size=128, verbose=0, return_dict=True)
        print(
            f"{title}: standard deviations {points.std(axis=0).round(2)}, "
            f"mean squared error {scores['reconstruction_loss']:.4f}, KL {scores['kl_loss']:.1f} nats"
        )
    path = arguments.output / "latent_space.png"
    figure([plots[0], grids[0], grids[1], plots[1]]).save(path)
    print(path)


if __name__ == "__main__":
    kl.enable_batch_parallelism()
    main()
