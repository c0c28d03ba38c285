"""Open a checkpoint of the original latent-diffusion code, look at what it does, and train it on.

    python examples/original_checkpoint.py kl-f8/model.ckpt --images photos --image-size 256
    python examples/original_checkpoint.py kl-f8/model.ckpt --epochs 1
    python examples/original_checkpoint.py ffhq256/model.ckpt --num-images 4
    python examples/original_checkpoint.py cin256-v2/model.ckpt --class-label 207 360 --guidance-scale 3
    python examples/original_checkpoint.py txt2img/model.ckpt --caption "a red heart" --guidance-scale 5

Where to find the checkpoints: docs/guides/original_checkpoints.md. The configuration lies beside the
checkpoint as `config.yaml`, or is named with --config. An autoencoder reconstructs pictures, those of
a folder or emoji of the package; a diffusion model draws. The script leaves in
`runs/original_checkpoint/`:

    pictures.png    pictures and their reconstructions, or what was drawn
    tuned.ckpt      with --epochs, the autoencoder after training on the pictures, in the same format
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image

import keras_ldm as kl


def pictures(folder: Path | None, size: int) -> np.ndarray:
    """Those of a folder, or emoji of the package, uint8."""
    if folder is not None:
        return kl.data.load_image_folder(folder, image_size=size)[0]
    emoji = kl.data.load_emoji().images[:8]
    resized = [Image.fromarray(picture).resize((size, size)) for picture in emoji]
    return np.stack([np.asarray(picture) for picture in resized])


def side_by_side(rows: list[np.ndarray]) -> Image.Image:
    """Rows of pictures under each other."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


def reconstruct(autoencoder: kl.models.AutoencoderKL | kl.models.VQModel, options: argparse.Namespace):
    """Pictures and what the autoencoder makes of them, after training if that is wanted."""
    images = pictures(options.images, options.image_size)
    task = kl.tasks.AutoencoderTask(autoencoder)
    if options.epochs:
        task.compile(keras.optimizers.Adam(options.learning_rate, beta_1=0.5, beta_2=0.9))
        task.fit(images, batch_size=2, epochs=options.epochs)
        kl.weights.compvis.save(autoencoder, options.output / "tuned.ckpt")
        print(f"Wrote {options.output / 'tuned.ckpt'}")
    outputs = ((task.predict(images, batch_size=2, verbose=0) + 1) * 127.5).round().astype(np.uint8)
    psnr = kl.metrics.PeakSignalToNoiseRatio(peak=255)
    psnr.update_state(images, outputs)
    print(f"Reconstruction PSNR of {len(images)} pictures: {float(psnr.result()):.2f} dB")
    return [images[:8], outputs[:8]]


def draw(task: kl.tasks.LatentDiffusion, options: argparse.Namespace):
    """Pictures for the conditions that were given."""
    conditions = {"caption": options.caption, "class_label": options.class_label}
    conditions = {name: value for name, value in conditions.items() if value is not None}
    if "class_label" in conditions:
        conditions["class_label"] = np.array(conditions["class_label"])
    images = task.generate(
        conditions or None,
        num_images=None if conditions else options.num_images,
        num_steps=options.num_steps,
        guidance_scale=options.guidance_scale,
        sampler=options.sampler,
        seed=options.seed,
        image_size=options.drawn_size,
    )
    return [images]


def main() -> None:
    """Opens, reconstructs or draws, and perhaps trains."""
    parser = argparse.ArgumentParser(description="Use a checkpoint of the original code.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config", type=Path, help="by default the config.yaml beside it")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/original_checkpoint"), metavar="FOLDER"
    )
    group = parser.add_argument_group("for an autoencoder")
    group.add_argument("--images", type=Path, metavar="FOLDER", help="by default emoji of the package")
    group.add_argument("--image-size", type=int, default=64, metavar="SIDE")
    group.add_argument("--epochs", type=int, default=0, help="of training on the pictures")
    group.add_argument("--learning-rate", type=float, default=1e-5)
    group = parser.add_argument_group("for a diffusion model")
    group.add_argument("--caption", nargs="+")
    group.add_argument("--class-label", nargs="+", type=int)
    group.add_argument("--num-images", type=int, default=4, help="for a model without conditions")
    group.add_argument("--num-steps", type=int, default=50)
    group.add_argument("--guidance-scale", type=float, default=1.0)
    group.add_argument("--sampler", default="ddim", help="ddim, ddpm or plms")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--drawn-size", type=int, metavar="SIDE", help="by default as trained")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    model = kl.weights.compvis.load(options.checkpoint, options.config)
    print(f"Opened a {type(model).__name__} with {model.count_params():,} numbers")
    is_task = isinstance(model, kl.tasks.LatentDiffusion)
    rows = draw(model, options) if is_task else reconstruct(model, options)
    side_by_side(rows).save(options.output / "pictures.png")
    print(f"Wrote {options.output / 'pictures.png'}")


if __name__ == "__main__":
    main()
