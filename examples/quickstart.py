"""Train text-to-image latent diffusion on 1,892 emoji, and draw with it.

    python examples/quickstart.py

The script trains both stages from nothing: an autoencoder that makes 64x64 pictures into small
latents, then a U-Net and a text encoder that turn noise into latents that fit a caption. It leaves in
`runs/quickstart/`:

    reconstructions.png    pictures and what the autoencoder makes of them
    samples.png            prompts, what the model draws for them, and the real picture
    losses.png             the losses of both stages
    text_to_image.keras    the model, for `keras-ldm generate "red heart" --model ...`

Times and scores on 2 cores: see README.md.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image, ImageDraw

import keras_ldm as kl

PROMPTS = ["red heart", "pizza", "tiger face", "sun", "flag france", "rocket", "rose", "soccer ball"]
GUIDANCE_SCALE = 3.0


def learning_rate(peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A short warm-up, then a cosine fall to a hundredth."""
    warmup = min(100, steps // 5)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.01, warmup_target=peak, warmup_steps=warmup
    )


def steps_of(count: int, batch_size: int) -> int:
    """Steps an epoch of so many examples."""
    return -(-count // batch_size)


def autoencoder_task(steps: int) -> kl.tasks.AutoencoderTask:
    """Stage one, perceptual compression, compiled for so many steps."""
    task = kl.presets.small_autoencoder()
    task.compile(keras.optimizers.Adam(learning_rate(2e-3, steps), beta_2=0.99))
    return task


def diffusion_task(autoencoder: kl.models.AutoencoderKL, steps: int) -> kl.tasks.TextToImage:
    """Stage two, semantic compression, compiled for so many steps."""
    task = kl.presets.small_text_to_image(autoencoder)
    task.compile(keras.optimizers.AdamW(learning_rate(2e-3, steps), beta_2=0.99, global_clipnorm=1.0))
    return task


def grid(rows: list[np.ndarray], labels: list[str] | None = None, scale: int = 2) -> Image.Image:
    """Rows of pictures under each other, with labels under the columns."""
    side = rows[0].shape[1] * scale
    height = len(rows) * side + (26 if labels else 0)
    canvas = Image.new("RGB", (side * len(rows[0]), height), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            tile = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
            canvas.paste(tile, (x * side, y * side))
    draw = ImageDraw.Draw(canvas)
    for x, label in enumerate(labels or []):
        draw.text((x * side + side / 2, height - 20), label, fill="black", anchor="ma")
    return canvas


def plot(curves: dict[str, list[float]]) -> Image.Image:
    """Each curve in a frame of its own, on a logarithmic scale."""
    width, height, margin = 420, 260, 40
    canvas = Image.new("RGB", (width * len(curves), height), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (title, values) in enumerate(curves.items()):
        logs = np.log(np.asarray(values))
        low, high = logs.min(), max(logs.max(), logs.min() + 1e-6)
        left, right = i * width + margin + 10, (i + 1) * width - 10
        xs = np.linspace(left, right, len(logs))
        ys = height - margin - (logs - low) / (high - low) * (height - 2 * margin)
        draw.rectangle((left, margin, right, height - margin), outline="lightgray")
        draw.line(list(zip(xs, ys, strict=True)), fill=(200, 30, 60), width=2)
        draw.text(((left + right) / 2, 12), title, fill="black", anchor="ma")
        draw.text((left - 4, margin), f"{values[0]:.3g}", fill="black", anchor="ra")
        draw.text((left - 4, height - margin - 10), f"{np.exp(low):.3g}", fill="black", anchor="ra")
        draw.text(((left + right) / 2, height - 30), f"{len(values)} epochs", fill="black", anchor="ma")
    return canvas


def plot_losses(first: list[float], second: list[float]) -> Image.Image:
    """The losses of both stages."""
    return plot({"autoencoder: mean squared error": first, "diffusion: loss": second})


def reconstruct(task: kl.tasks.AutoencoderTask, images: np.ndarray) -> tuple[Image.Image, float]:
    """Twelve pictures above what the autoencoder makes of them; and the PSNR of all, in dB."""
    reconstructions = ((task.predict(images, verbose=0) + 1) * 127.5).round()
    psnr = kl.metrics.PeakSignalToNoiseRatio(peak=255)
    psnr.update_state(images, reconstructions)
    shown = np.linspace(0, len(images) - 1, 12).astype(int)
    picture = grid([images[shown], reconstructions[shown].astype(np.uint8)])
    return picture, float(psnr.result())


def retrieval(
    task: kl.tasks.TextToImage,
    images: np.ndarray,
    captions: tuple[str, ...],
    count: int = 128,
    guidance_scale: float = GUIDANCE_SCALE,
) -> tuple[list[float], int]:
    """Draws the captions of every so many pictures; how often is the picture the nearest, by pixels?

    Returns:
        Retrieval@1 and @5 among all pictures, and how many captions were drawn.
    """
    every = max(1, len(images) // count)
    targets = np.arange(0, len(images), every)[:count]
    drawn = task.generate(
        [captions[i] for i in targets],
        num_steps=30,
        guidance_scale=guidance_scale,
        seed=1,
        batch_size=64,
    )
    return [kl.metrics.retrieval_at_k(drawn, images, targets, k) for k in (1, 5)], len(targets)


def draw_samples(
    task: kl.tasks.TextToImage, images: np.ndarray, captions: tuple[str, ...], guidance_scale: float
) -> Image.Image:
    """Pictures of some prompts above the real ones."""
    places = {caption: i for i, caption in enumerate(captions)}
    prompts = [p for p in PROMPTS if p in places] or list(captions[:8])
    drawn = task.generate(prompts, guidance_scale=guidance_scale, seed=0)
    return grid([drawn, images[[places[p] for p in prompts]]], prompts)


def main() -> None:
    """Trains, draws, scores."""
    parser = argparse.ArgumentParser(description="Train text-to-image on emoji and draw with it.")
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), metavar="FOLDER")
    parser.add_argument("--autoencoder-epochs", type=int, default=5)
    parser.add_argument("--diffusion-epochs", type=int, default=36)
    parser.add_argument("--num-images", type=int, help="train on fewer pictures, for a quick try")
    parser.add_argument("--score-images", type=int, default=128, help="pictures drawn for the score")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    start = time.time()

    emoji = kl.data.load_emoji()
    images = emoji.images[: arguments.num_images]
    captions = emoji.captions[: arguments.num_images]
    print(f"1. Autoencoder on {len(images)} pictures")
    epochs, batch_size = arguments.autoencoder_epochs, 8
    first_stage = autoencoder_task(epochs * steps_of(len(images), batch_size))
    first = first_stage.fit(images, batch_size=batch_size, epochs=epochs).history

    print("2. Latent diffusion on their latents and captions")
    epochs, batch_size = arguments.diffusion_epochs, 64
    ldm = diffusion_task(first_stage.autoencoder, epochs * steps_of(len(images), batch_size))
    data = {"moments": ldm.encode_moments(images), "caption": np.array(captions)}  # encoded once
    second = ldm.fit(data, batch_size=batch_size, epochs=epochs).history
    ldm.save(arguments.output / "text_to_image.keras")

    print("3. Drawing")
    picture, psnr = reconstruct(first_stage, images)
    picture.save(arguments.output / "reconstructions.png")
    draw_samples(ldm, images, captions, GUIDANCE_SCALE).save(arguments.output / "samples.png")
    plot_losses(first["reconstruction_loss"], second["loss"]).save(arguments.output / "losses.png")

    scores, count = retrieval(ldm, images, captions, arguments.score_images)
    print(f"\nReconstruction PSNR {psnr:.1f} dB")
    print(f"Retrieval@1 {scores[0]:.3f}, retrieval@5 {scores[1]:.3f} over {count} prompts")
    print(f"Total {(time.time() - start) / 60:.1f} minutes. Pictures and model:")
    for path in sorted(arguments.output.iterdir()):
        print(f"  {path}")


if __name__ == "__main__":
    kl.enable_batch_parallelism()
    main()
