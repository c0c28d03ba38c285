"""The first stage with all its losses: speed beside diffusers and PyTorch, the adaptive weight's cost.

    python tests/benchmarks/first_stage.py throughput
    python tests/benchmarks/first_stage.py adaptive
    python tests/benchmarks/first_stage.py learning
    python tests/benchmarks/first_stage.py tiles --model FOLDER/photographs_kl_f8/autoencoder.keras

`throughput` takes about fifteen minutes on 2 cores (it needs the extra `parity`), `adaptive` ten. A step
trains the autoencoder and the discriminator on 16 pictures of 64x64 in float32, with LPIPS of VGG16; the
numbers are medians of runs that alternate, each in a process of its own.

`learning` runs `examples/train_autoencoder.py` with each kind, factor and kind of pictures, with LPIPS
and discriminator and without, for as many steps, and prints the scores of pictures that were kept: PSNR,
SSIM, LPIPS and the codes in use. It takes about an hour and a half; runs that are there already, in
`--output`, are not repeated. `tiles` decodes a photograph of 2048x2048 whole and in tiles, each in a
process of its own, and prints the memory above that of the loaded model, and how far apart they are.
"""

import argparse
import itertools
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests.benchmarks`, when run as a script

from tests.benchmarks.resident import resident
from tests.benchmarks.workers import FirstStages, rates

ROOT = Path(__file__).parents[2]
STAGES = {
    "KL, f4": FirstStages((32, 64, 128)),
    "KL, f8": FirstStages((32, 64, 128, 128)),
    "VQ, f4, 1,024 codes": FirstStages((32, 64, 128), num_codes=1024),
}
STEPS = 12
SIDE = 2048
PICTURE = Path("/usr/share/backgrounds/umang_by_Abhishek_Mudgal.jpg")  # not trained on
LEARNING = ["--epochs", "4", "--steps-per-epoch", "160", "--batch-size", "4"]


def throughput(rounds: int) -> None:
    """Steps a second of both libraries."""
    print("| | keras_ldm | diffusers + torch | ratio |\n|---|---|---|---|")
    for name, networks in STAGES.items():
        jobs = {library: (networks, library) for library in ("keras", "torch")}
        ours, theirs = rates(jobs, STEPS, rounds).values()
        print(f"| {name} | {ours:.2f}/s | {theirs:.2f}/s | {ours / theirs:.2f} |", flush=True)


def adaptive(rounds: int) -> None:
    """What a step with the adaptive weight costs, of one with a fixed weight."""
    print("| | fixed | adaptive | cost |\n|---|---|---|---|")
    for name, networks in STAGES.items():
        jobs = {
            "fixed": (replace(networks, adaptive=False), "keras"),
            "adaptive": (networks, "keras"),
        }
        fixed, weighted = rates(jobs, STEPS, rounds).values()
        print(f"| {name} | {fixed:.2f}/s | {weighted:.2f}/s | {fixed / weighted:.2f} |", flush=True)


def learn(data: str, kind: str, factor: int, pixels_only: bool, output: Path) -> dict[str, float]:
    """The scores of one training."""
    name = f"{data}_{kind}_f{factor}" + ("_pixels" if pixels_only else "")
    scores = output / name / "scores.json"
    if not scores.exists():
        command = [sys.executable, ROOT / "examples" / "train_autoencoder.py", *LEARNING]
        command += ["--data", data, "--kind", kind, "--factor", str(factor), "--output", scores.parent]
        command += ["--pixels-only"] * pixels_only
        print(f"{name} ...", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, capture_output=True)
    return json.loads(scores.read_text())


def learning(output: Path) -> None:
    """Scores after equal steps, with LPIPS and discriminator and without."""
    print("| | loss | PSNR | SSIM | LPIPS | codes in use |\n|---|---|---|---|---|---|")
    for data, kind, factor in itertools.product(("photographs", "emoji"), ("kl", "vq"), (4, 8)):
        both = [learn(data, kind, factor, pixels_only, output) for pixels_only in (True, False)]
        lower = 1 - both[1]["lpips"] / both[0]["lpips"]
        for loss, found in zip(("pixels alone", "LPIPS and discriminator"), both, strict=True):
            cells = [f"{data}, {kind.upper()}, f{factor}", loss, f"{found['psnr']:.1f} dB"]
            cells += [f"{found['ssim']:.3f}", f"{found['lpips']:.3f}"]
            cells[-1] += "" if found is both[0] else f" ({-lower:+.0%})"
            cells.append(f"{found['code_usage']:.0%}" if kind == "vq" else "")
            print("| " + " | ".join(cells) + " |", flush=True)


def encode(model: Path, picture: Path, output: Path) -> None:
    """Saves the latents of the middle of a picture."""
    import keras

    import keras_ldm as kl

    with Image.open(picture) as opened:
        if min(opened.size) < SIDE:
            raise ValueError(f"Expected a picture of {SIDE}x{SIDE} or more. Received: {opened.size}")
        left, top = ((side - SIDE) // 2 for side in opened.size)
        image = np.asarray(opened.convert("RGB").crop((left, top, left + SIDE, top + SIDE)))[None]
    autoencoder = kl.tasks.load(model).averaged_autoencoder()
    moments = autoencoder.moments_in_tiles(image)
    np.save(output, keras.ops.convert_to_numpy(autoencoder.distribution(moments).mode()))


def decode(model: Path, latents: Path, whole: bool, output: Path) -> None:
    """Decodes latents; saves the picture, and the memory and the time it took, with compiling."""
    import keras_ldm as kl

    autoencoder = kl.tasks.load(model).averaged_autoencoder()
    given, tiling = np.load(latents), kl.models.Tiling(tile_size=SIDE if whole else 512)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    start = time.perf_counter()
    decoded = autoencoder.decode_in_tiles(given, tiling)
    seconds = time.perf_counter() - start
    np.savez(output, decoded=decoded, memory=resident("VmHWM") - before, seconds=seconds)


def tiles(model: Path, picture: Path) -> None:
    """Memory and time of both ways to decode, and the difference."""
    context = multiprocessing.get_context("spawn")

    def run(target: Callable[..., None], *arguments: Any) -> None:
        process = context.Process(target=target, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)

    decoded = {}
    with tempfile.TemporaryDirectory() as folder:
        latents = Path(folder) / "latents.npy"
        run(encode, model, picture, latents)
        for name, whole in (("whole", True), ("in tiles of 512", False)):
            path = Path(folder) / f"{whole}.npz"
            run(decode, model, latents, whole, path)
            with np.load(path) as found:
                decoded[name] = found["decoded"].clip(-1, 1)
                print(f"{name}: {found['memory']:.2f} GiB above the model, {found['seconds']:.0f} s")
    one, other = decoded.values()
    print(f"apart by {np.abs(one - other).mean() * 127.5:.3f} grey levels on average")


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["throughput", "adaptive", "learning", "tiles"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/first_stages"), metavar="FOLDER")
    parser.add_argument("--model", type=Path, help="for tiles: a saved AutoencoderTask")
    parser.add_argument("--picture", type=Path, help="for tiles: of at least 2048x2048", default=PICTURE)
    arguments = parser.parse_args()
    if arguments.what == "learning":
        learning(arguments.output)
    elif arguments.what == "tiles":
        tiles(arguments.model, arguments.picture)
    else:
        {"throughput": throughput, "adaptive": adaptive}[arguments.what](arguments.rounds)


if __name__ == "__main__":
    main()
