"""What the experiments share: pictures, networks of each factor, trainings measured as they run.

All is on Fashion-MNIST, 60,000 pictures of ten kinds of clothes, with a margin: 32x32x1. Distances are
of the features of a small classifier of these pictures, the judge, and the Inception Score is of its
classes: numbers compare among these experiments, and with no published ones.

Trainings have equal compute: so many minutes of the processor's time, of all cores together, which does
not depend on what else the machine does. Everything that takes long is kept in the output folder, and
taken from there when a script starts again or another one needs it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_ldm as kl

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion_mnist import CLASSES, first_of_each, kept, load, make_judge
from quickstart import steps_of

BATCH_SIZE, FIRST_STAGE_BATCH_SIZE = 64, 32
STEPS = 15  # of DPM-Solver++(2M), wherever something else is not said
SHARES = tuple(2.0**-i for i in range(5, -1, -1))  # of the compute, after which a training is measured
Scores = dict[str, float]


@dataclass(frozen=True)
class Size:
    """The networks of a factor.

    Args:
        latent_channels: of the first stage.
        channels: widths of the U-Net's levels: the smaller the latents, the fewer levels fit, and the
            wider they are, so that all U-Nets have about as many parameters.
        num_res_blocks: residual blocks of each level.
    """

    latent_channels: int
    channels: tuple[int, ...]
    num_res_blocks: int = 1


SIZES = {
    1: Size(1, (16, 16, 32, 48)),
    2: Size(2, (16, 32, 48)),
    4: Size(3, (32, 48)),
    8: Size(4, (32, 48)),
    16: Size(16, (32, 48)),
    32: Size(64, (48,), 2),
}


@dataclass(frozen=True)
class Run:
    """A first stage, and a diffusion model on it.

    Args:
        factor: of the first stage; 1 for pixels.
        kind: KL or VQ.
        scale: what latents are multiplied by; None for one over their standard deviation.
        whole_time: whether the diffusion model has the time of a first stage, too.
    """

    factor: int = 4
    kind: Literal["kl", "vq"] = "kl"
    scale: float | None = None
    whole_time: bool = False

    @property
    def first_stage(self) -> str:
        """The name of the first stage's file."""
        return f"first_stage_{self.kind}_f{self.factor}"

    @property
    def name(self) -> str:
        """The name of the diffusion model's file."""
        name = f"diffusion_{self.kind}_f{self.factor}" + ("" if self.scale is None else "_as_it_is")
        return name + ("_whole_time" if self.whole_time else "")


@dataclass
class Point:
    """What a training has come to.

    Args:
        steps: steps so far.
        minutes: of the processor's time so far.
        scores: of what the model draws by then.
    """

    steps: int
    minutes: float
    scores: Scores = field(default_factory=dict)


class Measuring(keras.callbacks.Callback):
    """Trains for so long, and measures the model as it goes on.

    The clock starts after the first step, whose time is that of tracing, and stands while measuring.

    Args:
        minutes: of the processor's time.
        measure: scores of the model as it is; None to measure nothing.
    """

    def __init__(self, minutes: float, measure: Callable[[], Scores] | None) -> None:
        super().__init__()
        self.minutes = minutes
        self.measure = measure
        self.points: list[Point] = []
        self.steps = 0
        self.started: float | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures, if it is time to, and stops at the last time."""
        self.steps += 1
        now = time.process_time()
        if self.started is None:
            self.started = now
            return
        minutes = (now - self.started) / 60
        if minutes < SHARES[len(self.points)] * self.minutes:
            return
        self.points.append(Point(self.steps, minutes))
        if self.measure is not None:
            self.points[-1].scores = self.measure()
            self.started += time.process_time() - now
        while len(self.points) < len(SHARES) and minutes >= SHARES[len(self.points)] * self.minutes:
            self.points.append(replace(self.points[-1]))
        self.model.stop_training = len(self.points) == len(SHARES)


@dataclass(frozen=True)
class Study:
    """The data, and what has been trained on them.

    Args:
        data: the folder of Fashion-MNIST.
        output: where models, curves and pictures are kept.
        minutes: of the processor's time for each diffusion model.
        first_stage_minutes: for each first stage.
        per_class: pictures of each class that are drawn to measure a model.
        num_images: how many pictures to train on; None for all.
    """

    data: Path
    output: Path
    minutes: float
    first_stage_minutes: float
    per_class: int
    num_images: int | None = None

    # === Pictures and what judges them ===

    @cached_property
    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Pictures to train on, `(N, 32, 32, 1)`, and their labels."""
        return load(self.data, "train", self.num_images)

    @cached_property
    def judge(self) -> keras.Model:
        """Gives features and logits of pictures."""
        judge = kept(self.output / "judge.keras", lambda: make_judge(*self.training, epochs=4))
        return keras.Model(judge.inputs, [judge.get_layer("features").output, judge.outputs[0]])

    @cached_property
    def real(self) -> tuple[np.ndarray, np.ndarray]:
        """Test pictures and labels."""
        return load(self.data, "t10k", None)

    @cached_property
    def _real_features(self) -> np.ndarray:
        return self.judge.predict(self.real[0], batch_size=500, verbose=0)[0]

    @property
    def labels(self) -> np.ndarray:
        """Of the pictures that are drawn to measure a model."""
        return np.repeat(np.arange(len(CLASSES)), self.per_class)

    def score(self, images: np.ndarray) -> Scores:
        """What the judge says of pictures.

        The distance is from all test pictures; precision and recall are beside as many as are drawn.
        """
        features, logits = self.judge.predict(images, batch_size=500, verbose=0)
        name = "the judge's features"
        distance = kl.metrics.frechet_distance(
            kl.metrics.FeatureStatistics.of(self._real_features, name),
            kl.metrics.FeatureStatistics.of(features, name),
        )
        chosen = first_of_each(self.real[1], self.per_class)
        precision, recall = kl.metrics.precision_recall(self._real_features[chosen], features)
        score = kl.metrics.inception_score(logits, num_splits=1)[0]
        return {"fid": distance, "is": score, "precision": precision, "recall": recall}

    @property
    def shown(self) -> np.ndarray:
        """Which of the drawn pictures are shown: the first two of each class."""
        return first_of_each(self.labels, min(2, self.per_class))

    @property
    def real_shown(self) -> np.ndarray:
        """Test pictures of the same classes."""
        return self.real[0][first_of_each(self.real[1], min(2, self.per_class))]

    # === Models ===

    def train(
        self, task: kl.tasks.Task, data: Any, clock: Measuring, batch_size: int = BATCH_SIZE
    ) -> None:
        """Until the clock says stop."""
        count = len(data["class_label"] if isinstance(data, dict) else data)
        epochs = 10**6 // steps_of(count, batch_size)  # more than there is time for
        task.fit(data, batch_size=batch_size, epochs=epochs, callbacks=[clock])

    def first_stage(self, run: Run) -> kl.models.FirstStage:
        """Perceptual compression by a factor; none at all by the factor 1."""
        if run.factor == 1:
            return kl.models.IdentityFirstStage(1)

        def train() -> kl.tasks.AutoencoderTask:
            levels = run.factor.bit_length()
            channels = (16, 32, 64, 64, 64, 64)[:levels]
            options = {"image_channels": 1, "num_res_blocks": 1, "groups": 8, "middle_attention": False}
            width = SIZES[run.factor].latent_channels
            model = (
                kl.models.AutoencoderKL(channels, width, **options)
                if run.kind == "kl"
                else kl.models.VQModel(channels, width, num_codes=512, **options)
            )
            task = kl.tasks.AutoencoderTask(model, ema_decay=0.998)
            task.compile(keras.optimizers.Adam(2e-3, beta_2=0.99, global_clipnorm=1.0))
            clock = Measuring(self.first_stage_minutes, None)
            self.train(task, self.training[0], clock, FIRST_STAGE_BATCH_SIZE)
            return task

        return kept(self.output / f"{run.first_stage}.keras", train).averaged_autoencoder()

    def reconstruction(self, run: Run) -> Scores:
        """What a first stage loses: scores of decoded test pictures, and their PSNR."""

        def measure() -> Scores:
            images = self.real[0]
            floats = self.first_stage(run).predict(images, batch_size=200, verbose=0)
            decoded = np.clip(np.round((floats + 1) * 127.5), 0, 255).astype(np.uint8)
            psnr = kl.metrics.PeakSignalToNoiseRatio(peak=255)
            psnr.update_state(images, decoded)
            return {**self.score(decoded), "psnr": float(psnr.result())}

        return self.scores(f"reconstruction_{run.first_stage}", measure)

    def make_diffusion(self, run: Run) -> kl.tasks.LatentDiffusion:
        """Draws with a class, and without one: class `NO_CLASS`. Not trained."""
        size = SIZES[run.factor]
        unet = kl.models.UNet(
            size.channels,
            size.latent_channels,
            size.latent_channels,
            num_res_blocks=size.num_res_blocks,
            attention_levels=(len(size.channels) - 1,),
            num_heads=4,
            scale_shift=True,
            groups=16,
            num_classes=len(CLASSES) + 1,
        )
        embedder = kl.conditioning.ClassEmbedder(len(CLASSES) + 1, None, dropout=0.1)
        return kl.tasks.LatentDiffusion(
            self.first_stage(run),
            unet,
            kl.conditioning.Conditioner({"class_label": embedder}),
            latent_scale=1.0 if run.factor == 1 else run.scale,
            image_size=32,
            ema_decay=0.995,
        )

    def diffusion(self, run: Run) -> tuple[kl.tasks.LatentDiffusion, list[Point]]:
        """A trained model, and how it came to be what it is."""
        curve = self.output / f"{run.name}.json"

        def train() -> kl.tasks.LatentDiffusion:
            keras.utils.set_random_seed(0)
            task = self.make_diffusion(run)
            rate = keras.optimizers.schedules.CosineDecay(
                0.0, 1, alpha=1.0, warmup_target=1e-3, warmup_steps=200
            )
            task.compile(keras.optimizers.AdamW(rate, beta_2=0.99, global_clipnorm=1.0))
            minutes = self.minutes + (self.first_stage_minutes if run.whole_time else 0)
            clock = Measuring(minutes, lambda: self.score(self.draw(task)))
            images, labels = self.training
            data = {"moments": task.encode_moments(images), "class_label": labels}
            self.train(task, data, clock)
            write_json(curve, [asdict(point) for point in clock.points])
            return task

        task = kept(self.output / f"{run.name}.keras", train)
        return task, [Point(**point) for point in json.loads(curve.read_text())]

    def draw(self, task: kl.tasks.LatentDiffusion, **settings: Any) -> np.ndarray:
        """As many pictures of each class, uint8 `(N, 32, 32, 1)`, of the same noise each time."""
        settings = {
            "guidance_scale": 1.0, "num_steps": STEPS, "sampler": "dpmpp_2m", "seed": 0,
            "batch_size": 200, **settings,
        }  # fmt: skip
        conditions = settings.pop("conditions", {"class_label": self.labels})
        return task.generate(conditions, **settings)

    # === What is kept ===

    def scores(self, name: str, measure: Callable[[], Scores]) -> Scores:
        """Scores of a file, or new ones that are kept there."""
        path = self.output / "scores" / f"{name}.json"
        if not path.exists():
            print(name, flush=True)
            write_json(path, measure())
        return json.loads(path.read_text())

    def drawn(self, name: str, draw: Callable[[], np.ndarray]) -> tuple[Scores, np.ndarray]:
        """Scores of pictures, and those of them that are shown; drawn and kept if they are not there."""
        path = self.output / "drawn" / f"{name}.npz"
        if not path.exists():
            print(name, flush=True)
            images = draw()
            with kl.files.atomic_write(path) as file:
                np.savez(file, shown=images[self.shown], **self.score(images))
        with np.load(path) as file:
            return {key: float(file[key]) for key in file if key != "shown"}, file["shown"]


def write_json(path: Path, value: Any) -> None:
    """Writes beside, and renames."""
    with kl.files.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def study(description: str) -> Study:
    """The study that the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    data = Path("/usr/share/datasets/fashion-mnist")
    parser.add_argument("--data", type=Path, default=data, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("runs/paper"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=6.0, help="of CPU time for a diffusion model")
    parser.add_argument("--first-stage-minutes", type=float, default=8.0, help="for a first stage")
    parser.add_argument("--per-class", type=int, default=100, help="pictures of each class to draw")
    parser.add_argument("--num-images", type=int, help="train on fewer pictures, for a quick try")
    arguments = parser.parse_args()
    load(arguments.data, "t10k", 1)  # missing data are named before anything else
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    found = Study(**vars(arguments))
    settings = {name: value for name, value in vars(arguments).items() if name not in ("data", "output")}
    path = found.output / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise ValueError(
            f"Expected the settings of what is in {found.output}, {path.read_text()}, "
            f"or another --output. Received: {settings}"
        )
    write_json(path, settings)
    return found


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
