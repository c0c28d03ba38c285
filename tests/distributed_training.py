"""Trainings on several devices or in several processes, each in a process of its own.

    python -m tests.distributed_training devices OUT
    python -m tests.distributed_training process OUT RANK PORT PORT... [own]

The first trains on one device and on several, the second as one of several processes, each with a port,
with "own" from data of its own. Both write losses and weights of each kind of training to OUT. JAX needs
the flag --xla_force_host_platform_device_count for several devices.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ldm.backend import num_processes, process_index, whole_values
from keras_ldm.callbacks import Checkpoints, TerminateOnNaN, agreement
from keras_ldm.models import AutoencoderKL, PatchDiscriminator, layout_map
from keras_ldm.tasks import AutoencoderTask, LatentDiffusion, Task, TextToImage
from tests.scripts import worker_configuration
from tests.tasks.tiny import (
    TinyAutoencoder,
    TinyUNet,
    images,
    numpy,
    pairs,
    pixel_autoencoder,
    real_unet,
    text_encoder,
    text_to_image,
)

EXAMPLES, BATCH, EPOCHS = 16, 8, 5  # ten steps


class Supplied(LatentDiffusion):
    """Takes timesteps and noise from the data: replicas and processes draw their own."""

    def preprocess(self, batch: Any) -> Any:
        return {**super().preprocess(batch), "timesteps": batch["timesteps"], "noise": batch["noise"]}

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self._begin_batch()
        latents = self.latent_space.draw(inputs, self.seed_generator)
        return self.predict_noised(latents, inputs["timesteps"], inputs["noise"], {}, training=training)


def supplied() -> tuple[Task, Any]:
    task = Supplied(pixel_autoencoder(), TinyUNet((16,)), latent_scale=1.0, ema_decay=0.9)
    rng = np.random.default_rng(3)
    return task, {
        "image": images(EXAMPLES),
        "timesteps": rng.integers(0, 1000, EXAMPLES).astype("int32"),
        "noise": rng.standard_normal((EXAMPLES, 8, 8, 3)).astype("float32"),
    }


def diffusion() -> tuple[Task, Any]:
    return text_to_image(dropout=0.1, ema_decay=0.9), pairs(EXAMPLES)


def real_diffusion() -> tuple[Task, Any]:
    unet = real_unet(context_dim=8)
    task = TextToImage(TinyAutoencoder(), unet, text_encoder(), tokenizer=None, ema_decay=0.9)
    return task, pairs(EXAMPLES)


def first_stage() -> tuple[Task, Any]:
    model = AutoencoderKL((8,), 4, num_res_blocks=0, groups=4)  # with attention in its middle
    return AutoencoderTask(
        model, discriminator=PatchDiscriminator(8, 1), discriminator_start=3, ema_decay=0.9
    ), images(EXAMPLES)


Make = Callable[[], tuple[Task, Any]]
Scope = Callable[[], AbstractContextManager[Any]]  # entered once for each task


def train(
    name: str,
    make: Make,
    results: dict[str, Any],
    scope: Scope = nullcontext,
    own: Callable[[Any], Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Task:
    """Trains, and adds losses and weights to the results."""
    with scope():
        keras.utils.set_random_seed(0)
        task, data = make()
        optimizer = keras.optimizers.AdamW(1e-2, epsilon=1e-3, global_clipnorm=0.1)  # which clips
        task.compile(optimizer, diagnostics=True)
    if own is not None:
        data = own(data)
    history = task.fit(
        data,
        batch_size=BATCH if own is None else None,
        epochs=EPOCHS,
        verbose=0,
        validation_data=data,
        shuffle=False,
        callbacks=list(callbacks),
    ).history
    for measure, values in history.items():
        results[f"{name}/{measure}"] = np.array(values)
    task.finish_average()
    with whole_values(task.variables):
        for i, variable in enumerate(task.variables):
            results[f"{name}/{i}"] = numpy(variable)
    return task


class SignalTo(keras.callbacks.Callback):
    """Sends SIGTERM to one of the processes, at a batch."""

    def __init__(self, process: int, at: int) -> None:
        super().__init__()
        self.process, self.at, self.batches = process, at, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches += 1
        if self.batches == self.at and process_index(self.model) == self.process:
            os.kill(os.getpid(), signal.SIGTERM)


def train_twice(name: str, make: Make, results: dict[str, Any], scope: Scope = nullcontext) -> Task:
    """Trains until the second process is told to end, and then with a task made anew."""
    folder = Path(sys.argv[2]).parent / name.replace(" ", "_")
    agreement._SECONDS = 0.0  # asks at every batch
    teller = SignalTo(process=1, at=3)
    try:
        train(name, make, {}, scope, callbacks=[teller, Checkpoints(folder)])
    except SystemExit as end:
        results[f"end of {name}"] = end.code, teller.batches
    return train(name, make, results, scope, callbacks=[Checkpoints(folder)])


def train_past_nan(name: str, results: dict[str, Any], scope: Scope = nullcontext) -> None:
    """Each second batch has a loss that is no number."""

    def make() -> tuple[Task, Any]:
        task, data = supplied()
        data["noise"][BATCH:] = np.nan
        return task, data

    checkpoints = Checkpoints(Path(sys.argv[2]).parent / name.replace("/", "_"), every_batches=1)
    folder = Path(sys.argv[2]).parent / "nan batches"
    guard = TerminateOnNaN(folder, roll_back=checkpoints, most=EPOCHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(name, make, results, scope, callbacks=[guard, checkpoints])
    results[f"steps of {name}"] = guard.steps


def on_devices(results: dict[str, Any]) -> None:
    """One device, then several."""
    if keras.backend.backend() == "tensorflow":
        task, data = with_tensorflow(results)
    else:
        task, data = with_jax(results)
    uneven = {key: value[:13] for key, value in data.items()}
    results["uneven loss"] = task.fit(uneven, batch_size=BATCH, verbose=0).history["loss"]
    outputs = task.predict(uneven, batch_size=BATCH, verbose=0)
    results["uneven rows"] = [len(value) for value in outputs.values()]
    results["uneven targets"] = outputs["target"]
    results["targets"] = task.predict(data, batch_size=BATCH, verbose=0)["target"][:13]


def with_tensorflow(results: dict[str, Any]) -> tuple[Task, Any]:
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    train("one/supplied", supplied, results)
    train_past_nan("one/nan", results)
    task = train("several/supplied", supplied, results, strategy.scope)
    with strategy.scope():
        other, data = supplied()
        other.compile(keras.optimizers.Adam(gradient_accumulation_steps=2))
    results["accumulating"] = error_of(other.fit, data, batch_size=BATCH, verbose=0)
    with strategy.scope():
        drawn = LatentDiffusion(pixel_autoencoder(), TinyUNet(), latent_scale=1.0)
    keys = tf.function(lambda: strategy.run(drawn.seed_generator.next))()
    results["keys"] = np.stack([numpy(key) for key in strategy.experimental_local_results(keys)])
    return task, supplied()[1]


def with_jax(results: dict[str, Any]) -> tuple[Task, Any]:
    train_past_nan("one/nan", results)
    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    data = keras.distribution.DataParallel()
    model = keras.distribution.ModelParallel(layout_map=layout_map(mesh), batch_dim_name="batch")

    def compare(name: str, make: Make, distribution: Any) -> list[Task]:
        tasks = [train(f"one/{name}", make, results)]
        with distribution.scope():
            return [*tasks, train(f"several/{name}", make, results)]

    compare("first stage", first_stage, model)
    one, several = compare("real diffusion", real_diffusion, model)
    for name, task in (("one", one), ("several", several)):
        values = [v.value for v in (*task.unet.variables, *task.ema.averages)]
        results[f"{name} bytes"] = sum(v.addressable_shards[0].data.nbytes for v in values)
    results["one drawn"] = one.generate(captions := pairs(3)["caption"], seed=1, num_steps=2)
    with model.scope():
        results["several drawn"] = several.generate(captions, seed=1, num_steps=2)
    _, task = compare("diffusion", diffusion, data)
    keras.distribution.set_distribution(data)
    return task, pairs(EXAMPLES)


def as_process(results: dict[str, Any], rank: int, *ports: int, own: bool) -> None:
    """One of several."""
    address, processes = f"localhost:{ports[0]}", len(ports)
    kinds: dict[str, Make] = {}
    twice: dict[str, Make] = {"supplied": supplied}
    scope: Scope = nullcontext
    if keras.backend.backend() == "tensorflow":
        scope = as_worker(rank, ports)
    elif keras.backend.backend() == "jax":
        keras.distribution.initialize(address, processes, rank)
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=not own))
        # Who sees a part of the data cannot measure the scale of the latents.
        kinds, twice = ({"first stage": first_stage}, {}) if own else ({}, {"diffusion": diffusion})
    else:
        import torch

        torch.distributed.init_process_group("gloo", f"tcp://{address}", rank=rank, world_size=processes)

    def part(data: Any) -> Any:
        rows = np.arange(EXAMPLES).reshape(-1, processes, BATCH // processes)[:, rank]
        if isinstance(data, dict):
            return [{key: value[these] for key, value in data.items()} for these in rows]
        return [data[these] for these in rows]

    for name, make in kinds.items():
        train(name, make, results, scope, own=part)
    for name, make in twice.items():
        task = train_twice(name, make, results, scope)
    if not own:
        results["errors of all"] = errors_of_all(scope)
        if keras.backend.backend() != "torch":
            train_past_nan("nan", results, scope)
    if keras.backend.backend() == "jax" and not own:
        mesh = keras.distribution.DeviceMesh((1, 4), ("batch", "model"))  # over both processes
        layout = layout_map(mesh)
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
        )
        task = train_twice("real diffusion", real_diffusion, results)
        task.save(Path(sys.argv[2]).parent / "divided.keras")
    if keras.backend.backend() == "tensorflow":
        after_training(task, results)
        with task.distribute_strategy.scope():
            file = Path(sys.argv[2]).with_suffix(".keras")
            results["within the scope"] = [
                error_of(task.fit, supplied()[1], verbose=0),
                error_of(task.save, file),
            ]
            task.compile(steps_per_execution=2)
        results["several steps"] = error_of(task.fit, supplied()[1], batch_size=BATCH, verbose=0)


def as_worker(rank: int, ports: Sequence[int]) -> Scope:
    """Where one of several workers of TensorFlow makes its task."""
    import tensorflow as tf

    os.environ["TF_CONFIG"] = worker_configuration(rank, ports)
    scope: Scope = tf.distribute.MultiWorkerMirroredStrategy().scope
    return scope


def after_training(task: Task, results: dict[str, Any]) -> None:
    """What else a task does: evaluates, predicts rows that do not divide, writes checkpoints."""
    _, data = supplied()
    results["process"] = process_index(task), num_processes(task)
    results["evaluated"] = task.evaluate(data, batch_size=BATCH, verbose=0)
    uneven = {key: value[:13] for key, value in data.items()}
    results["targets"] = task.predict(uneven, batch_size=BATCH, verbose=0)["target"]
    folder = Path(sys.argv[2]).parent / "checkpoints"
    task.fit(data, batch_size=BATCH, verbose=0, callbacks=[Checkpoints(folder)])
    results["batches"] = numpy(task.batches)


def error_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    try:
        function(*args, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def errors_of_all(scope: Scope) -> list[str]:
    """What one process cannot do ends all, with an error in each, before anything is trained."""
    with scope():
        task, data = supplied()
        task.compile()
    folder = Path(sys.argv[2]).parent / "damaged"
    folder.mkdir(exist_ok=True)
    if process_index(task) == 0:
        (folder / "checkpoint-00000001.safetensors").write_bytes(b"cut short")
    fit = partial(task.fit, data, batch_size=BATCH, verbose=0)
    some = [Checkpoints(folder)] if process_index(task) == 0 else []
    return [error_of(fit, callbacks=[Checkpoints(folder)]), error_of(fit, callbacks=some)]


if __name__ == "__main__":
    found: dict[str, Any] = {}
    if sys.argv[1] == "devices":
        on_devices(found)
    else:
        numbers = [int(argument) for argument in sys.argv[3:] if argument != "own"]
        as_process(found, *numbers, own="own" in sys.argv)
    np.savez(Path(sys.argv[2]), **found)
