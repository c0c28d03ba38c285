"""What drawing costs besides the network.

    python tests/benchmarks/sampling.py loop --unet
    python tests/benchmarks/sampling.py program

`loop` times each sampler's step over a network that does nothing, on latents of Stable Diffusion's size,
and with `--unet` one call of a U-Net of its size, for guidance (4 GB, two minutes). `program` draws with
the preset `emoji`, step by step and in one compiled program.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from keras import ops

import keras_ldm as kl

NAMES = kl.samplers.sampler_names()


def milliseconds(function, repeats: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def loop(with_unet: bool) -> None:
    """The samplers' own time a step."""
    schedule = kl.diffusion.scaled_linear_schedule()
    x = ops.convert_to_tensor(np.zeros((1, 64, 64, 4), "float32"))
    longest = 0.0
    for name in NAMES:
        sampler = kl.samplers.get_sampler(name)
        sigmas = sampler.grid(schedule, 20)

        def run(sampler=sampler, sigmas=sigmas) -> None:
            ops.convert_to_numpy(sampler.function(lambda x, sigma: x, x, sigmas, seed=0))

        run()
        step = milliseconds(run, 9) / (len(sigmas) - 1)
        longest = max(longest, step)
        print(f"{name:16} {step:.2f} ms a step")
    if with_unet:
        unet = kl.models.UNet(
            (320, 640, 1280, 1280), attention_levels=(0, 1, 2), num_heads=8, context_dim=768
        )
        inputs = {
            "latents": ops.convert_to_tensor(np.zeros((2, 64, 64, 4), "float32")),
            "timesteps": ops.convert_to_tensor(np.zeros(2, "float32")),
            "context": ops.convert_to_tensor(np.zeros((2, 77, 768), "float32")),
        }
        function = kl.backend.compile_function(unet, unet.variables)
        values = kl.backend.values_of(unet.variables)
        call = lambda: ops.convert_to_numpy(function(values, inputs))  # noqa: E731
        call()
        network = milliseconds(call, 3)
        print(f"U-Net, a batch of two: {network:.0f} ms; the longest step {longest / network:.3%} of it")


def program(num_steps: int = 20, rounds: int = 5) -> None:
    """A picture step by step, and in one program."""
    task = kl.tasks.TextToImage.from_preset("emoji")

    def draw(compile_loop: bool) -> None:
        task.generate(
            "tiger face",
            sampler="dpmpp_2m",
            num_steps=num_steps,
            seed=0,
            progress=False,
            compile_loop=compile_loop,
        )

    times: dict[bool, list[float]] = {False: [], True: []}
    for compile_loop in times:
        draw(compile_loop)
    for _ in range(rounds):
        for compile_loop, seen in times.items():
            seen.append(milliseconds(lambda c=compile_loop: draw(c), 1))
    steps, whole = (statistics.median(times[c]) for c in (False, True))
    print(f"{num_steps} steps: {steps:.0f} ms step by step, {whole:.0f} ms in one program")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("loop").add_argument("--unet", action="store_true")
    commands.add_parser("program")
    arguments = parser.parse_args()
    if arguments.command == "loop":
        loop(arguments.unet)
    else:
        program()


if __name__ == "__main__":
    main()
