"""`keras-ldm generate`: pictures from prompts."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

EXAMPLES = """examples:
  keras-ldm generate "red heart" --preset emoji -o heart.png
  keras-ldm generate "red heart" --model runs/quickstart/text_to_image.keras -o heart.png
  keras-ldm generate "red heart" "blue heart" --model M.keras --seed 7 --guidance-scale 3 -o row.png
"""


def add_parser(subparsers: Any) -> None:
    """Adds the command to those of `keras-ldm`."""
    parser = subparsers.add_parser(
        "generate",
        help="draw pictures from prompts",
        description="Draws one picture for each prompt and writes them side by side.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what to draw")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--model", metavar="PATH", help="a saved .keras file, or a checkpoint")
    where.add_argument("--preset", metavar="NAME", help="the name of a preset")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="picture to write")
    parser.add_argument("--negative-prompt", metavar="PROMPT", help="what to lead away from")
    parser.add_argument("--num-steps", type=int, default=50, help="sampler steps (default: 50)")
    parser.add_argument("--guidance-scale", type=float, help="default: the model's")
    parser.add_argument("--sampler", default="ddim", help="default: ddim")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--image-size", type=int, metavar="SIDE", help="default: as trained")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Draws and writes.

    Raises:
        FileNotFoundError: if the model or the output's folder does not exist.
        ValueError: if an argument makes no sense.
    """
    output = Path(arguments.output)
    if Image.registered_extensions().get(output.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"Expected an output such as picture.png. Received: {str(output)!r}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"Expected a folder that exists. Received: {str(output.parent)!r}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_ldm.files import atomic_path
    from keras_ldm.tasks import TextToImage
    from keras_ldm.tasks.loading import ENDINGS

    if arguments.model is not None and not arguments.model.endswith(ENDINGS):
        raise ValueError(
            f"Expected a model saved as .keras, or a checkpoint. Received: {arguments.model!r}"
        )
    task = TextToImage.from_preset(arguments.model or arguments.preset)
    images = task.generate(
        arguments.prompts,
        negative_prompts=arguments.negative_prompt,
        num_steps=arguments.num_steps,
        guidance_scale=arguments.guidance_scale,
        sampler=arguments.sampler,
        seed=arguments.seed,
        image_size=arguments.image_size,
    )
    with atomic_path(output) as temporary:
        Image.fromarray(np.concatenate(list(images), axis=1)).save(temporary)
    print(output)
