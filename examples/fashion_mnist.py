"""Guide a model to a class, by a classifier and without one, and measure what it gives and takes.

    python examples/fashion_mnist.py

Fashion-MNIST: 60,000 pictures of ten kinds of clothes. The script trains an autoencoder, a latent
diffusion model that knows the classes and also draws without (a fifth of the labels are dropped), a
classifier of noisy latents, and an independent classifier of clean pictures, the judge. It then draws
100 pictures of each class at each scale of both guidances, and leaves in `runs/fashion_mnist/`:

    guidance.png      pictures of each class, by scale
    curve.png         the judge's accuracy, precision and recall, by scale
    table.md          the same as numbers
    *.keras           the four models; started again, the script takes those that are there

About an hour on 2 cores, with other work beside it: 38 minutes for the first two models, 6 for the
other two, 18 to draw. The data: `apt-get install dataset-fashion-mnist` on Debian and Ubuntu, or their
four files in the folder `--data`.
"""

import argparse
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image, ImageDraw
from quickstart import learning_rate, steps_of

import keras_ldm as kl

CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
NO_CLASS = len(CLASSES)
CHANNELS = (64, 128)
NUM_RES_BLOCKS = 2
FREE_SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
CLASSIFIER_SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
COLORS = {"accuracy": (200, 30, 60), "precision": (60, 140, 60), "recall": (40, 80, 200)}
Scores = dict[str, float]


# === Data ===


def load(folder: Path, split: str, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with a margin, uint8 `(N, 32, 32, 1)`, and labels."""

    def read(name: str, header: int) -> np.ndarray:
        path = folder / f"{split}-{name}-ubyte.gz"
        if not path.exists():
            raise FileNotFoundError(
                f"Expected Fashion-MNIST, of which {path} is not there. On Debian and Ubuntu: "
                "apt-get install dataset-fashion-mnist; or give its folder with --data"
            )
        with gzip.open(path) as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    images = read("images-idx3", 16).reshape(-1, 28, 28)[:count]
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None]
    return images, read("labels-idx1", 8)[:count].astype(np.int32)


# === Models ===


def make_autoencoder(images: np.ndarray, epochs: int) -> kl.tasks.AutoencoderTask:
    """Perceptual compression, 32x32x1 to 8x8x4."""
    autoencoder = kl.models.AutoencoderKL(
        (16, 32, 64), 4, image_channels=1, num_res_blocks=1, groups=8, middle_attention=False
    )
    task, batch_size = kl.tasks.AutoencoderTask(autoencoder), 32
    images = images[:20000]
    rate = learning_rate(2e-3, epochs * steps_of(len(images), batch_size))
    task.compile(keras.optimizers.Adam(rate, beta_2=0.99))
    task.fit(images, batch_size=batch_size, epochs=epochs)
    return task


def blocks() -> dict[str, Any]:
    """What the diffusion model's network and the classifier's share."""
    return {
        "num_res_blocks": NUM_RES_BLOCKS,
        "attention_levels": (1,),
        "num_heads": 4,
        "scale_shift": True,
    }


def make_diffusion(
    autoencoder: kl.models.AutoencoderKL, images: np.ndarray, labels: np.ndarray, epochs: int
) -> kl.tasks.LatentDiffusion:
    """Draws with a class, and without one: class `NO_CLASS`."""
    unet = kl.models.UNet(CHANNELS, 4, 4, **blocks(), num_classes=11)
    embedder = kl.conditioning.ClassEmbedder(11, None, dropout=0.2)
    task = kl.tasks.LatentDiffusion(
        autoencoder,
        unet,
        kl.conditioning.Conditioner({"class_label": embedder}),
        image_size=32,
        ema_decay=0.999,
        per_channel=True,
    )
    batch_size = 128
    rate = learning_rate(2e-3, epochs * steps_of(len(images), batch_size))
    task.compile(keras.optimizers.AdamW(rate, beta_2=0.99, global_clipnorm=1.0))
    data = {"moments": task.encode_moments(images), "class_label": labels}
    task.fit(data, batch_size=batch_size, epochs=epochs)
    return task


def make_classifier(
    ldm: kl.tasks.LatentDiffusion, images: np.ndarray, labels: np.ndarray, epochs: int
) -> kl.tasks.NoisyLatentClassifier:
    """Tells the class from noisy latents."""
    network = kl.models.UNetClassifier(len(CLASSES), CHANNELS, 4, **blocks(), dropout=0.1)
    task = kl.tasks.NoisyLatentClassifier(ldm.latent_space, network, ldm.schedule)
    batch_size = 128
    rate = learning_rate(1e-3, epochs * steps_of(len(images), batch_size))
    task.compile(keras.optimizers.AdamW(rate, weight_decay=0.05))
    data = {"moments": ldm.encode_moments(images), "class_label": labels}
    task.fit(data, batch_size=batch_size, epochs=epochs)
    return task


def make_judge(images: np.ndarray, labels: np.ndarray, epochs: int) -> keras.Model:
    """An independent classifier of clean pictures."""
    layers = keras.layers
    judge = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Conv2D(96, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(96, activation="relu", name="features"),
            layers.Dense(len(CLASSES)),
        ]
    )
    judge.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    judge.fit(images, labels, batch_size=128, epochs=epochs)
    return judge


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The model of a file, or a new one that is saved there."""
    print(f"\n{path.stem}")
    if path.exists():
        return kl.tasks.load(path)
    model = make()
    with kl.files.atomic_path(path) as temporary:
        model.save(temporary)
    return model


# === Measuring ===


class Judge:
    """Scores pictures against real ones.

    Args:
        judge: the independent classifier.
        images: real pictures.
    """

    def __init__(self, judge: keras.Model, images: np.ndarray) -> None:
        features = judge.get_layer("features").output
        self.model = keras.Model(judge.inputs, [features, judge.outputs[0]])
        self.real = self.model.predict(images, verbose=0)[0]

    def score(self, images: np.ndarray, labels: np.ndarray) -> Scores:
        """Accuracy, and precision and recall by the features in front of its last layer."""
        features, logits = self.model.predict(images, verbose=0)
        precision, recall = kl.metrics.precision_recall(self.real, features)
        accuracy = float(np.mean(logits.argmax(axis=-1) == labels))
        return {"accuracy": accuracy, "precision": precision, "recall": recall}


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Where the first so many of each class are."""
    return np.concatenate([np.flatnonzero(labels == i)[:count] for i in range(len(CLASSES))])


def draw(
    ldm: kl.tasks.LatentDiffusion,
    classifier: kl.tasks.NoisyLatentClassifier | None,
    labels: np.ndarray,
    scale: float,
    steps: int,
) -> np.ndarray:
    """Pictures of some classes: led by a classifier from no class at all, or by the model itself."""
    settings = {"num_steps": steps, "sampler": "dpmpp_2m", "seed": 0, "batch_size": 100}
    if classifier is None:
        return ldm.generate({"class_label": labels}, guidance_scale=scale, **settings)
    return ldm.generate(
        {"class_label": np.full(len(labels), NO_CLASS)},
        guidance_scale=1.0,
        classifier=classifier,
        classifier_labels=labels,
        classifier_scale=scale,
        **settings,
    )


def show(drawn: dict[str, dict[float, np.ndarray]], count: int, shown: int = 2) -> Image.Image:
    """The first pictures of each class, a row for each scale."""
    side, left, top = 48, 70, 34
    rows = sum(len(by_scale) for by_scale in drawn.values())
    size = (left + side * len(CLASSES) * shown, (top + 8) * len(drawn) + side * rows)
    canvas = Image.new("RGB", size, "white")
    pen, y = ImageDraw.Draw(canvas), 0
    for title, by_scale in drawn.items():
        pen.text((4, y), title, fill="black")
        for i, name in enumerate(CLASSES):
            pen.text((left + (i + 0.5) * side * shown, y + top - 16), name, fill="black", anchor="ma")
        y += top
        for scale, images in by_scale.items():
            pen.text((4, y + side / 2), f"scale {scale:g}", fill="black", anchor="lm")
            for place in range(len(CLASSES) * shown):
                picture = images[place // shown * count + place % shown, :, :, 0]
                tile = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
                canvas.paste(tile, (left + place * side, y))
            y += side
        y += 8
    return canvas


def plot(scores: dict[str, dict[float, Scores]]) -> Image.Image:
    """A frame for each guidance, a line for each score."""
    width, height, margin = 460, 320, 46
    canvas = Image.new("RGB", (width * len(scores), height), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (title, by_scale) in enumerate(scores.items()):
        left, right, bottom = i * width + margin, (i + 1) * width - 70, height - margin
        pen.text(((left + right) / 2, 10), title, fill="black", anchor="ma")
        for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            y = bottom - value * (bottom - margin)
            pen.line((left, y, right, y), fill="lightgray")
            pen.text((left - 6, y), f"{value:g}", fill="black", anchor="rm")
        xs = np.linspace(left, right, len(by_scale))
        for x, scale in zip(xs, by_scale, strict=True):
            pen.text((x, bottom + 8), f"{scale:g}", fill="black", anchor="ma")
        pen.text(((left + right) / 2, bottom + 24), "scale", fill="black", anchor="ma")
        for name, color in COLORS.items():
            values = [s[name] for s in by_scale.values()]
            line = [(x, bottom - v * (bottom - margin)) for x, v in zip(xs, values, strict=True)]
            pen.line(line, fill=color, width=2)
            for x, y in line:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)
            pen.text((right + 6, line[-1][1]), name, fill=color, anchor="lm")
    return canvas


def table(scores: dict[str, dict[float, Scores]]) -> str:
    """The scores in Markdown."""
    names = list(COLORS)
    lines = ["| guidance | scale | " + " | ".join(names) + " |", "|---|---" + "|---" * len(names) + "|"]
    for title, by_scale in scores.items():
        for scale, found in by_scale.items():
            cells = " | ".join(f"{found[name]:.3f}" for name in names)
            lines.append(f"| {title} | {scale:g} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains what is not there yet, draws, scores."""
    parser = argparse.ArgumentParser(description="Guidance by a classifier and without, measured.")
    parser.add_argument(
        "--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), metavar="FOLDER"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/fashion_mnist"), metavar="FOLDER")
    parser.add_argument("--num-images", type=int, help="train on fewer pictures, for a quick try")
    parser.add_argument("--epochs", type=int, nargs=4, default=(3, 8, 3, 4), metavar="N")
    parser.add_argument("--per-class", type=int, default=100, help="pictures of each class to draw")
    parser.add_argument("--steps", type=int, default=25)
    arguments = parser.parse_args()
    images, labels = load(arguments.data, "train", arguments.num_images)
    test_images, test_labels = load(arguments.data, "t10k", None)
    output, count, epochs = arguments.output, arguments.per_class, arguments.epochs
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    first = kept(output / "autoencoder.keras", lambda: make_autoencoder(images, epochs[0]))
    ldm = kept(
        output / "diffusion.keras",
        lambda: make_diffusion(first.autoencoder, images, labels, epochs[1]),
    )
    classifier = kept(
        output / "classifier.keras", lambda: make_classifier(ldm, images, labels, epochs[2])
    )
    test = {"moments": ldm.encode_moments(test_images), "class_label": test_labels}
    known = classifier.evaluate(test, batch_size=128, verbose=0, return_dict=True)["accuracy"]
    print(f"Accuracy on test pictures over all levels of noise: {known:.3f}")
    judge = kept(output / "judge.keras", lambda: make_judge(images, labels, epochs[3]))

    chosen = first_of_each(test_labels, count)
    real, wanted = test_images[chosen], test_labels[chosen]
    scorer = Judge(judge, real)
    decoded = ((first.predict(real, verbose=0) + 1) * 127.5).round().astype(np.uint8)
    for name, pictures in (("Test pictures", real), ("Their reconstructions", decoded)):
        print(f"{name}: the judge's accuracy {scorer.score(pictures, wanted)['accuracy']:.3f}")

    drawn: dict[str, dict[float, np.ndarray]] = {}
    for title, guide, scales in (
        ("classifier-free guidance", None, FREE_SCALES),
        ("classifier guidance", classifier, CLASSIFIER_SCALES),
    ):
        drawn[title] = {s: draw(ldm, guide, wanted, s, arguments.steps) for s in scales}
    scores = {
        title: {scale: scorer.score(pictures, wanted) for scale, pictures in by_scale.items()}
        for title, by_scale in drawn.items()
    }
    show(drawn, count).save(output / "guidance.png")
    plot(scores).save(output / "curve.png")
    (output / "table.md").write_text(table(scores), encoding="utf-8")
    print("\n" + table(scores))


if __name__ == "__main__":
    kl.enable_batch_parallelism()
    main()
