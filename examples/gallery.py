"""Draw the gallery of the preset `emoji`: what it does well, and what it does not.

    python examples/gallery.py --output gallery

One picture a section, in under a minute on 2 cores:

    captions.png         captions of the training set, drawn above the real emoji
    combinations.png     prompts that are in no caption
    guidance.png         guidance scales from 1 to 8
    seeds.png            the same prompts from several seeds
    interpolation.png    on the way from one seed's noise to another's, and from prompt to prompt
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from quickstart import grid

import keras_ldm as kl

CAPTIONS = [
    "red heart",
    "pizza",
    "tiger face",
    "rocket",
    "rose",
    "soccer ball",
    "flag france",
    "sunflower",
    "red apple",
    "violin",
]
COMBINATIONS = [
    "green cat face",
    "sad apple",
    "purple apple",
    "blue rose",
    "smiling pizza",
    "red tree",
    "purple car",
    "cat with heart",
    "flag pizza",
    "angry sun",
]
SCALES = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0]


def main() -> None:
    """Draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gallery"), metavar="FOLDER")
    parser.add_argument("--num-steps", type=int, default=30)
    arguments = parser.parse_args()
    output, steps = arguments.output, {"num_steps": arguments.num_steps}
    output.mkdir(parents=True, exist_ok=True)

    task = kl.tasks.TextToImage.from_preset("emoji")
    emoji = kl.data.load_emoji()
    real = emoji.images[[emoji.captions.index(caption) for caption in CAPTIONS]]
    grid([task.generate(CAPTIONS, seed=0, **steps), real], CAPTIONS).save(output / "captions.png")

    drawn = [task.generate(COMBINATIONS, seed=seed, **steps) for seed in (0, 1)]
    grid(drawn, COMBINATIONS).save(output / "combinations.png")

    prompts = ["red heart", "tiger face", "green cat face"]
    columns = [task.generate(prompts, guidance_scale=s, seed=0, **steps) for s in SCALES]
    rows = [np.stack([column[i] for column in columns]) for i in range(len(prompts))]
    grid(rows, [f"guidance {scale:g}" for scale in SCALES]).save(output / "guidance.png")

    seeds = list(range(8))
    rows = [task.generate([p] * 8, seed=seeds, **steps) for p in ("dog", "house", "blue bird")]
    grid(rows, [f"seed {seed}" for seed in seeds]).save(output / "seeds.png")

    rows = [
        task.interpolate(start, end, num_images=8, seeds=seeds, **steps)
        for start, end, seeds in (
            ("cat", None, (0, 1)),
            ("cat", "dog", (0, 0)),
            ("sun", "pizza", (0, 0)),
            ("red heart", "green apple", (0, 0)),
        )
    ]
    grid(rows).save(output / "interpolation.png")
    for path in sorted(output.glob("*.png")):
        print(path)


if __name__ == "__main__":
    main()
