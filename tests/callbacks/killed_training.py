"""Trainings that are killed again and again, each in a process of its own.

    python -m tests.callbacks.killed_training FOLDER KILLS

TensorFlow takes longer to import than these trainings take: one process imports it, and computes
nothing, so that its children can be forked. Each kind of training runs once without interruption, then
under as many kills as asked for, at moments drawn at random, and to its end. Says what came of it in
JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ldm.callbacks import Checkpoints
from keras_ldm.models import AutoencoderKL, PatchDiscriminator
from keras_ldm.tasks import AutoencoderTask, Task
from tests.tasks.tiny import images, pairs, state, text_to_image

BATCH, EPOCHS = 4, 40  # of ten examples, the last batch with two: 120 batches
WITHIN = 0.05  # seconds after a batch before a kill, more than a batch and its file take


def first_stage() -> tuple[Task, Any]:
    keras.utils.set_random_seed(0)
    model = AutoencoderKL((4, 4), 2, num_res_blocks=0, middle_attention=False, groups=2)
    task = AutoencoderTask(
        model, discriminator=PatchDiscriminator(3, 1), discriminator_start=5, ema_decay=0.9
    )
    task.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 120)))
    return task, images()


def diffusion() -> tuple[Task, Any]:
    task = text_to_image(dropout=0.2)
    task.compile(keras.optimizers.AdamW(1e-2, weight_decay=1e-2, global_clipnorm=1.0))
    return task, pairs()


KINDS = {"first stage": first_stage, "diffusion": diffusion}


class Tell(keras.callbacks.Callback):
    """Writes a byte when a batch is through, and its checkpoint begun."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        os.write(self.pipe, b"!")


def train(kind: str, folder: Path | None, result: Path, pipe: int) -> None:
    """In a process of its own: trains to the end, and writes all weights."""
    task, data = KINDS[kind]()
    callbacks: list[keras.callbacks.Callback] = [Tell(pipe)]
    if folder is not None:
        callbacks.append(Checkpoints(folder, every_batches=1))
    history = task.fit(data, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    np.savez(result, history=history.history["loss"], **state(task))


def start(kind: str, folder: Path | None, result: Path) -> tuple[int, int]:
    """Forks; gives the process and where it tells that it trains."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        os.dup2(2, 1)  # stdout is for the parent's JSON
        train(kind, folder, result, writing)
        status = 0
    except BaseException as error:
        print(f"{kind}: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def finish(child: int, reading: int) -> bool:
    """Waits for the end, and says whether it was a good one."""
    _, status = os.waitpid(child, 0)
    os.close(reading)
    return status == 0


def newest(folder: Path) -> int:
    numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob("checkpoint-*")]
    return max(numbers, default=0)


def run(kind: str, folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """What came of one kind of training."""
    undisturbed, killed = folder / "undisturbed.npz", folder / "killed.npz"
    folder.mkdir()
    if not finish(*start(kind, None, undisturbed)):
        raise RuntimeError(f"The undisturbed {kind} failed.")
    places = []
    while len(places) < kills:
        child, reading = start(kind, folder / "checkpoints", killed)
        if rng.random() < 0.2:  # while it builds, reads the checkpoint or traces
            time.sleep(rng.uniform(0, 3))
        else:
            for _ in range(rng.randint(1, 80 // kills)):
                os.read(reading, 1)
            time.sleep(rng.uniform(0, WITHIN))
        os.kill(child, signal.SIGKILL)
        if finish(child, reading):
            break  # it was through before
        places.append(newest(folder / "checkpoints"))
    if not finish(*start(kind, folder / "checkpoints", killed)):
        raise RuntimeError(f"The {kind} did not go on after {places}.")
    with np.load(undisturbed) as expected, np.load(killed) as found:
        different = [name for name in expected if expected[name].tobytes() != found[name].tobytes()]
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {"kills at": places, "different": different[:5], "files": left}


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(0)
    print(json.dumps({kind: run(kind, folder / kind, kills, rng) for kind in KINDS}))


if __name__ == "__main__":
    main()
