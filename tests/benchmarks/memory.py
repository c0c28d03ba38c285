"""Memory of a training step, and of attention over many tokens; time beside it.

    python tests/benchmarks/memory.py rematerialize
    python tests/benchmarks/memory.py diffusers --batch 16
    python tests/benchmarks/memory.py attention --tokens 16384

`rematerialize`: two steps of `fit` of a U-Net of about 100 million parameters, with and without it,
each in a process of its own, in turns. Memory is the most that the process had, and what of it the steps
added to weights and optimizer; seconds are those of the second step, medians of the rounds.

`diffusers`: the same of a U-Net with cross-attention of about 100 million parameters in keras_ldm and in
diffusers with PyTorch, which take turns (it needs the extra `parity`).

`attention`: softmax attention of 8 heads, forward whole and in chunks, and in chunks with its gradient;
whole, that would need some 30 GiB for 16,384 tokens.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, when run as a script

from tests.benchmarks.resident import resident
from tests.benchmarks.workers import UNets, rates

HEADS = 8


def training_step(rematerialize: bool, batch: int, side: int) -> dict[str, float]:
    """In a process of its own."""
    import keras
    import numpy as np

    import keras_ldm as kl

    unet = kl.models.UNet(
        (192, 384, 576), num_res_blocks=2, context_dim=None, num_heads=8, rematerialize=rematerialize
    )
    pixels = kl.models.IdentityFirstStage(4)
    task = kl.tasks.LatentDiffusion(pixels, unet, latent_scale=1.0, ema_decay=None)
    task.compile()
    task.optimizer.build(task.trainable_variables)
    before = resident("VmRSS")
    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seconds.append(time.perf_counter() - self.start)

    images = np.random.default_rng(0).uniform(-1, 1, (2 * batch, side, side, 4)).astype("float32")
    task.fit(images, batch_size=batch, verbose=0, callbacks=[Clock()])
    peak = resident("VmHWM")
    return {
        "parameters": unet.count_params(),
        "peak": peak,
        "step": peak - before,
        "seconds": seconds[-1],
    }


def attention(chunks: bool, tokens: int, with_gradient: bool) -> dict[str, float]:
    """In a process of its own."""
    import numpy as np
    from keras import ops

    from keras_ldm import layers
    from keras_ldm.backend import attention as module
    from keras_ldm.backend import compile_function, gradient

    if not chunks:
        module.MOST_SCORES = 10**18

    def attend(x: Any) -> Any:
        return layers.attend(x, x, x, HEADS)

    x = np.random.default_rng(0).normal(size=(1, tokens, HEADS * 40))
    x = ops.convert_to_tensor(x, "float32")
    run = (lambda x: gradient(lambda x: ops.square(attend(x)), x)) if with_gradient else attend
    compiled = compile_function(run, [])
    before = resident("VmHWM")
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        ops.convert_to_numpy(compiled([], x))
        seconds.append(time.perf_counter() - start)
    return {"peak": resident("VmHWM"), "step": resident("VmHWM") - before, "seconds": seconds[-1]}


def beside_diffusers(rounds: int, batch: int, side: int) -> None:
    """Memory and seconds of a step of both libraries."""
    networks = UNets((160, 320, 640), 4, side, (1, 2), 384, 24, heads=(8, 8, 8), batch_size=batch)
    memory: dict[str, float] = {}
    jobs = {library: (networks, library) for library in ("keras", "torch")}
    found = rates(jobs, 6, rounds, memory)
    print("| | most memory | seconds |\n|---|---|---|")
    for library, name in (("keras", "keras_ldm"), ("torch", "diffusers + torch")):
        print(f"| {name} | {memory[library]:.2f} GiB | {1 / found[library]:.2f} |")


def in_a_process(*arguments: Any) -> dict[str, float]:
    command = [sys.executable, __file__, "one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def compare(rows: dict[str, tuple[Any, ...]], rounds: int) -> None:
    """Prints the table."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, arguments in rows.items():
            found[name].append(in_a_process(*arguments))
    print("| | most memory | of that the step's | seconds |\n|---|---|---|---|")
    for name, runs in found.items():
        peak, step = (max(run[key] for run in runs) for key in ("peak", "step"))
        seconds = statistics.median(run["seconds"] for run in runs)
        print(f"| {name} | {peak:.2f} GiB | {step:.2f} GiB | {seconds:.2f} |")


def main() -> None:
    """Runs it."""
    if sys.argv[1:2] == ["one"]:
        kind, *values = sys.argv[2:]
        numbers = [json.loads(value.lower()) for value in values]
        print(json.dumps({"step": training_step, "attention": attention}[kind](*numbers)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("rematerialize", "diffusers", "attention"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="of the latents")
    parser.add_argument("--tokens", type=int, default=16_384)
    arguments = parser.parse_args()
    sizes = arguments.batch, arguments.side
    if arguments.what == "rematerialize":
        compare({"as it is": ("step", False, *sizes), "`rematerialize`": ("step", True, *sizes)},
                arguments.rounds)  # fmt: skip
    elif arguments.what == "diffusers":
        beside_diffusers(arguments.rounds, *sizes)
    else:
        compare(
            {
                f"{'in chunks' if chunks else 'whole'}, {'gradient' if gradient else 'forward'}": (
                    "attention", chunks, arguments.tokens, gradient,
                )
                for gradient, chunks in ((False, False), (False, True), (True, True))
            },
            arguments.rounds,
        )  # fmt: skip


if __name__ == "__main__":
    main()
