"""Train on several devices: the same task, whatever shares its batches or its weights.

    python examples/several_devices.py --virtual 2
    KERAS_BACKEND=torch torchrun --nproc-per-node 2 examples/several_devices.py
    export XLA_FLAGS=--xla_force_host_platform_device_count=8
    KERAS_BACKEND=jax python examples/several_devices.py

The first takes `tf.distribute.MirroredStrategy`, the second a process for each device, the last
`keras.distribution`. `--widths 4`, on JAX, lets four devices share the weights and the rest the batches.
Several processes on JAX each run the last line with `--address`, `--processes` and `--rank`. On
TensorFlow each runs the first without `--virtual`, with `TF_CONFIG` set, for
`tf.distribute.MultiWorkerMirroredStrategy`. Without virtual devices, GPUs or TPUs are taken as they are
found; virtual ones show that it works, and are no faster.

It trains a small U-Net on latents of the emoji, and leaves in `runs/several_devices/`:

    checkpoints/      from which the same command goes on
    history.json      loss, images per second, memory
    model.keras       the task
"""

import argparse
import json
import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_ldm as kl
from keras_ldm.backend import process_index


def connect(arguments: argparse.Namespace) -> AbstractContextManager[Any]:
    """Sets the backend's engine up; what is made within the scope is on all devices."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if "TF_CONFIG" in os.environ:
            return tf.distribute.MultiWorkerMirroredStrategy().scope()
        cpu = tf.config.list_physical_devices("CPU")[0]
        if arguments.virtual:
            devices = [tf.config.LogicalDeviceConfiguration()] * arguments.virtual
            tf.config.set_logical_device_configuration(cpu, devices)
            names = [device.name for device in tf.config.list_logical_devices("CPU")]
            return tf.distribute.MirroredStrategy(names).scope()
        return tf.distribute.MirroredStrategy().scope()
    if backend == "torch":
        import torch

        if "RANK" in os.environ:  # set by torchrun
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return nullcontext()

    if arguments.address:
        keras.distribution.initialize(arguments.address, arguments.processes, arguments.rank)
    devices = keras.distribution.list_devices()
    if arguments.widths == 1:
        distribution = keras.distribution.DataParallel(devices=devices)
    else:
        shape = (len(devices) // arguments.widths, arguments.widths)
        mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
        distribution = keras.distribution.ModelParallel(
            layout_map=kl.models.layout_map(mesh), batch_dim_name="batch"
        )
    keras.distribution.set_distribution(distribution)
    return nullcontext()


def make_task() -> kl.tasks.TextToImage:
    """A new U-Net and text encoder over the first stage of the preset `emoji`."""
    keras.utils.set_random_seed(0)
    first_stage = kl.tasks.TextToImage.from_preset("emoji").autoencoder
    task = kl.tasks.TextToImage(
        first_stage,
        kl.models.UNet(
            (64, 128),
            first_stage.latent_channels,
            first_stage.latent_channels,
            num_res_blocks=1,
            context_dim=64,
        ),
        kl.models.TransformerTextEncoder(dim=64, num_layers=1, max_length=24, num_heads=4, head_dim=16),
        caption_dropout=0.1,
        ema_decay=0.99,
    )
    rate = kl.tasks.LinearWarmUp(1e-3, warm_up_steps=50)
    task.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2, global_clipnorm=1.0))
    return task


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/several_devices"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="of all devices together")
    parser.add_argument("--examples", type=int, default=1892)
    parser.add_argument("--virtual", type=int, default=0, help="devices that the CPU plays; TensorFlow")
    parser.add_argument("--widths", type=int, default=1, help="devices that share weights; JAX")
    parser.add_argument("--address", help="host:port of the first process; JAX")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rank", type=int, default=0, help="of this process")
    arguments = parser.parse_args()

    with connect(arguments):
        task = make_task()
    emoji = kl.data.load_emoji()
    data = {
        "image": emoji.images[: arguments.examples],
        "caption": np.array(emoji.captions[: arguments.examples]),
    }
    history = task.fit(
        data,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        callbacks=[
            kl.callbacks.Throughput(),
            kl.callbacks.Checkpoints(arguments.output / "checkpoints"),
        ],
    ).history
    if process_index(task) == 0:
        known = {name: [v if math.isfinite(v) else None for v in vs] for name, vs in history.items()}
        (arguments.output / "history.json").write_text(json.dumps(known, indent=2, allow_nan=False))
        for name, values in history.items():
            print(f"{name}: {values[-1]:.4g}")
    task.save(arguments.output / "model.keras")  # in all processes; the first writes


if __name__ == "__main__":
    main()
