"""A training that is interrupted comes out as one that is not; what is saved stays whole."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ldm.callbacks import Checkpoints
from keras_ldm.models import AutoencoderKL, PatchDiscriminator
from keras_ldm.tasks import AutoencoderTask, load
from keras_ldm.tasks.checkpoint import Snapshot, check_whole, read_progress
from tests.tasks.tiny import (
    autoencoder_task,
    images,
    largest_difference,
    latent_diffusion,
    pairs,
    state,
)

BATCH, EPOCHS, LENGTH = 4, 3, 3  # ten examples: three batches an epoch
TOLERANCE = {"tensorflow": 0.0, "jax": 1e-6, "torch": 1e-6}[keras.backend.backend()]
# Tracing takes longer than these trainings; `test_killed_training` has traced ones.
COMPILE = {"run_eagerly": True} if keras.backend.backend() == "tensorflow" else {}


class Interrupted(BaseException):
    """No `Exception`: nothing may catch it."""


class Interrupt(keras.callbacks.Callback):
    """Ends the process, as it were, before a batch."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_begin(self, batch, logs=None):
        if self.batches == 0:
            raise Interrupted
        self.batches -= 1


def diffusion():
    task = latent_diffusion(dropout=0.2)
    task.compile(keras.optimizers.AdamW(1e-2, weight_decay=1e-2, global_clipnorm=1.0), **COMPILE)
    return task


def first_stage():
    """On PyTorch with a discriminator, which elsewhere takes a minute to trace."""
    keras.utils.set_random_seed(0)
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 8)
    if keras.backend.backend() != "torch":
        task = autoencoder_task(learn_log_variance=True, ema_decay=0.9)
        task.compile(keras.optimizers.Adam(schedule), **COMPILE)
        return task
    task = AutoencoderTask(
        AutoencoderKL((4, 4), 2, num_res_blocks=0, middle_attention=False, groups=2),
        discriminator=PatchDiscriminator(3, 1),
        discriminator_start=2,
        learn_log_variance=True,
        ema_decay=0.9,
    )
    second = keras.optimizers.Adam(1e-3)
    task.compile(keras.optimizers.Adam(schedule), discriminator_optimizer=second, **COMPILE)
    return task


class Shuffled(keras.utils.PyDataset):
    """Draws a new order after each epoch, as users write it."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(3)
        self.on_epoch_end()

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        rows = self.order[index * BATCH : (index + 1) * BATCH]
        return {key: value[rows] for key, value in pairs().items()}

    def on_epoch_end(self):
        self.order = self.rng.permutation(10)


class Stream:
    """Has another order in each pass."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        order = np.random.default_rng(self.passes).permutation(10)
        for start in range(0, 10, BATCH):
            rows = order[start : start + BATCH]
            yield {key: value[rows] for key, value in pairs().items()}


def endless():
    rng = np.random.default_rng(0)
    while True:
        rows = rng.permutation(10)[:BATCH]
        yield {key: value[rows] for key, value in pairs().items()}


def tf_data():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(pairs())
    return data.shuffle(10, seed=3, reshuffle_each_iteration=True).batch(BATCH)


ARRAYS = {"batch_size": BATCH}
STEPS = {"steps_per_epoch": LENGTH}
DATA = {
    "arrays": (pairs, ARRAYS),
    "arrays, some steps": (pairs, {**ARRAYS, "steps_per_epoch": 2}),
    "PyDataset": (Shuffled, {}),
    "stream": (Stream, {}),
    "stream, some steps": (Stream, {"steps_per_epoch": 2}),
    "generator": (endless, STEPS),
}
if keras.backend.backend() == "tensorflow":
    DATA["tf.data"] = (tf_data, {})


def train(task, data=None, callbacks=(), epochs=EPOCHS, **kwargs):
    """Two examples of validation; the data are arrays by default."""
    if data is None:
        data, kwargs = pairs(), {**ARRAYS, **kwargs}
    if not task.compiled:
        task.compile(**COMPILE)
    validation = {"validation_data": pairs(2, seed=7), "validation_batch_size": 2}
    history = task.fit(data, epochs=epochs, verbose=0, callbacks=list(callbacks), **validation, **kwargs)
    return history.history, history.epoch


def interrupt(make, folder, batches, data=None, epochs=EPOCHS, **kwargs):
    """A process that ends after so many batches."""
    checkpoints = Checkpoints(folder, every_batches=1, verbose=False)
    with pytest.raises(Interrupted):
        train(make(), data, [Interrupt(batches), checkpoints], epochs, **kwargs)
    assert checkpoints.newest is not None


def check_same(whole, task, found, expected):
    assert found[1] == expected[1]
    for name, values in expected[0].items():
        assert np.allclose(found[0][name], values, rtol=TOLERANCE, atol=0), name
    difference, where = largest_difference(state(whole), state(task))
    assert difference <= TOLERANCE, where


# === Going on ===


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.backend if k in ("arrays", "generator") else ()) for k in DATA],
)
def test_goes_on_with_the_batch_that_would_have_come(kind, tmp_path) -> None:
    make_data, kwargs = DATA[kind]
    whole = diffusion()
    expected = train(whole, make_data(), **kwargs)
    a_epoch = kwargs.get("steps_per_epoch", LENGTH)
    interrupt(diffusion, tmp_path, 2 * a_epoch - 1, make_data(), **kwargs)
    resumed = diffusion()
    checkpoints = Checkpoints(tmp_path, every_batches=1, verbose=False)
    found = train(resumed, make_data(), [checkpoints], **kwargs)
    check_same(whole, resumed, found, expected)
    assert checkpoints.newest.name == f"checkpoint-{EPOCHS * a_epoch:08d}.safetensors"
    check_same(whole, load(checkpoints.newest), found, expected)


def test_goes_on_after_one_interruption_and_another(tmp_path) -> None:
    whole = first_stage()
    expected = train(whole, images(), epochs=2, **ARRAYS)
    for batches in (1, 3):
        interrupt(first_stage, tmp_path, batches, images(), epochs=2, **ARRAYS)
    resumed = first_stage()
    found = train(resumed, images(), [Checkpoints(tmp_path, verbose=False)], 2, **ARRAYS)
    check_same(whole, resumed, found, expected)


@pytest.mark.backend
def test_goes_on_where_the_average_waits_for_an_update(tmp_path) -> None:
    def make():
        task = latent_diffusion(dropout=0.2)
        task.compile(keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2), **COMPILE)
        return task

    whole = make()
    expected = train(whole)
    interrupt(make, tmp_path, 4)
    resumed = make()
    check_same(
        whole, resumed, train(resumed, callbacks=[Checkpoints(tmp_path, verbose=False)]), expected
    )


def test_what_other_callbacks_do_at_the_end_of_an_epoch_is_saved(tmp_path) -> None:
    class Slower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.5 * self.model.optimizer.learning_rate
            logs["extra"] = float(epoch)

    whole = diffusion()
    expected = train(whole, callbacks=[Slower()])
    first = [Checkpoints(tmp_path, verbose=False), Slower()]  # it runs last, wherever it stands
    train(diffusion(), callbacks=first, epochs=2)
    resumed = diffusion()
    found = train(resumed, callbacks=[Checkpoints(tmp_path, verbose=False), Slower()])
    check_same(whole, resumed, found, expected)
    assert found[0]["extra"] == [0.0, 1.0, 2.0]


def test_a_training_that_is_through_has_nothing_left_to_do(tmp_path, capsys) -> None:
    task = diffusion()
    expected = train(task, callbacks=[Checkpoints(tmp_path)])
    assert not capsys.readouterr().out
    again = diffusion()
    found = train(again, callbacks=[Checkpoints(tmp_path), Interrupt(0)])
    check_same(task, again, found, expected)
    assert "Going on from" in (said := capsys.readouterr().out)
    assert "checkpoint-00000009.safetensors, at the beginning of epoch 4: it is over." in said
    longer = train(again, callbacks=[Checkpoints(tmp_path)], epochs=EPOCHS + 1)
    assert longer[1] == [0, 1, 2, 3]
    assert longer[0]["loss"][:3] == expected[0]["loss"]
    check_same(again, again, train(again, epochs=1), ({}, [0]))  # without: from the first epoch, as ever


@pytest.mark.backend
def test_training_goes_on_while_a_file_is_written(tmp_path) -> None:
    task = diffusion()
    train(task, epochs=1)
    before, snapshot = state(task), Snapshot(task)
    progress = some_progress(tmp_path)
    train(task, epochs=1)
    assert largest_difference(before, state(task))[0] > 1e-3
    shutil.copy(tmp_path / "other" / "task.keras", tmp_path)
    thread = threading.Thread(target=snapshot.write, args=(tmp_path / "late.safetensors", progress))
    thread.start()
    thread.join()
    assert largest_difference(before, state(load(tmp_path / "late.safetensors")))[0] == 0.0


def test_what_others_do_at_the_beginning_of_an_epoch_is_done_once(tmp_path) -> None:
    def callbacks():
        return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)]

    whole = diffusion()
    expected = train(whole, callbacks=callbacks())
    with pytest.raises(Interrupted):
        first = [Interrupt(4), Checkpoints(tmp_path, every_batches=1), *callbacks()]
        train(diffusion(), callbacks=first)
    resumed = diffusion()
    found = train(resumed, callbacks=[Checkpoints(tmp_path), *callbacks()])
    check_same(whole, resumed, found, expected)


@pytest.mark.parametrize("kind", ["arrays", "generator"])
def test_a_training_that_was_stopped_in_an_epoch_trains_the_rest_of_it(kind, tmp_path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = int(self.model.batches) == 4

    make_data, kwargs = DATA[kind]
    whole = diffusion()
    expected = train(whole, make_data(), **kwargs)
    task = diffusion()
    train(task, make_data(), [Checkpoints(tmp_path), Stop()], **kwargs)
    assert int(task.batches) == 4
    resumed = diffusion()
    found = train(resumed, make_data(), [Checkpoints(tmp_path)], **kwargs)
    check_same(whole, resumed, found, expected)


def test_a_training_that_was_ended_is_over_until_more_epochs_are_asked_for(tmp_path) -> None:
    class End(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):  # as `EarlyStopping` brings back the best weights
            if self.model.stop_training:
                self.model.unet.conv_out.bias.assign([1.0, 2.0, 3.0])

    ended = diffusion()
    train(ended, callbacks=[Checkpoints(tmp_path), End()])
    for _ in range(2):
        again = diffusion()
        assert train(again, callbacks=[Checkpoints(tmp_path), End()])[1] == [0, 1]
        assert largest_difference(state(ended), state(again))[0] == 0.0
    longer = diffusion()
    assert train(longer, callbacks=[Checkpoints(tmp_path)], epochs=4)[1] == [0, 1, 2, 3]


def test_more_steps_or_fewer_go_on_in_a_stream(tmp_path) -> None:
    def read(steps, epochs, callbacks):
        seen = []

        def numbers():
            for number in range(100):
                seen.append(number)
                yield {"image": np.full((2, 16, 16, 3), number, np.uint8)}

        task = latent_diffusion(latent_scale=1.0)
        task.compile(**COMPILE)
        task.fit(numbers(), steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=callbacks)
        return int(task.batches), seen

    assert read(4, 2, [Checkpoints(tmp_path)])[0] == 8
    batches, seen = read(2, 4, [Checkpoints(tmp_path)])
    assert batches == 12
    assert seen[:12] == list(range(12))


def test_a_second_fit_on_the_same_py_dataset_goes_on_with_it(tmp_path) -> None:
    whole = diffusion()
    expected = train(whole, Shuffled(), epochs=4)
    task, data = diffusion(), Shuffled()
    train(task, data, [Checkpoints(tmp_path)], 2)
    check_same(whole, task, train(task, data, [Checkpoints(tmp_path)], 4), expected)


def test_a_second_fit_on_the_same_generator_goes_on_with_it(tmp_path) -> None:
    whole, data = diffusion(), endless()
    expected = train(whole, data, epochs=4, **STEPS)
    task, data = diffusion(), endless()
    train(task, data, [Checkpoints(tmp_path)], 2, **STEPS)
    check_same(whole, task, train(task, data, [Checkpoints(tmp_path)], 4, **STEPS), expected)
    with pytest.raises(Interrupted):
        train(task, data, [Interrupt(2), checkpoints := Checkpoints(tmp_path)], 5, **STEPS)
    with pytest.raises(ValueError, match="Expected a new generator"):
        train(task, data, [checkpoints], 5, **STEPS)


def test_an_interruption_in_the_same_process(tmp_path) -> None:
    whole = diffusion()
    expected = train(whole)
    task, checkpoints = diffusion(), Checkpoints(tmp_path, every_batches=3)
    with pytest.raises(Interrupted):
        train(task, callbacks=[checkpoints, Interrupt(5)])
    assert int(task.batches) == 5
    check_same(whole, task, train(task, callbacks=[checkpoints]), expected)


def test_a_history_of_ones_own(tmp_path) -> None:
    train(diffusion(), callbacks=[keras.callbacks.History(), Checkpoints(tmp_path)], epochs=2)
    own = keras.callbacks.History()
    assert train(diffusion(), callbacks=[own, Checkpoints(tmp_path)])[1] == [0, 1, 2]


def test_logs_that_are_no_numbers(tmp_path) -> None:
    class Log(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update(array=np.arange(3.0), word="good", nothing=None)

    task = autoencoder_task()
    history = train(task, images(), [Log(), Checkpoints(tmp_path)], 3, **ARRAYS)[0]
    assert len(history["array"]) == 3
    assert set(train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 3, **ARRAYS)[0]) == {
        *history
    } - {"array", "word", "nothing"}


def some_progress(folder):
    train(diffusion(), callbacks=[Checkpoints(folder / "other")], epochs=1)
    return read_progress(next((folder / "other").glob("*.safetensors")))


# === What is kept ===


def test_newest_and_best_stay(tmp_path) -> None:
    class Measure(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["quality"] = [3.0, 9.0, float("nan"), 2.0, 0.0][epoch]

    options = {"keep": 1, "keep_best": 2, "monitor": "quality", "mode": "max", "verbose": False}
    checkpoints = Checkpoints(tmp_path, **options)
    train(autoencoder_task(), images(), [checkpoints, Measure()], 4, **ARRAYS)
    assert names(tmp_path) == [f"checkpoint-{n:08d}.safetensors" for n in (3, 6, 12)]
    checkpoints = Checkpoints(tmp_path, **options)
    train(autoencoder_task(), images(), [checkpoints, Measure()], 5, **ARRAYS)
    assert names(tmp_path) == [f"checkpoint-{n:08d}.safetensors" for n in (3, 6, 15)]
    assert checkpoints.best.name == "checkpoint-00000006.safetensors"
    assert read_progress(checkpoints.best).logs["quality"] == 9.0
    assert int(load(checkpoints.best).batches) == 6


def names(folder):
    assert not any((folder / ".unfinished").iterdir())
    return sorted(path.name for path in folder.glob("checkpoint*"))


def test_time_and_batches_say_when(tmp_path, monkeypatch) -> None:
    clock = iter(range(0, 10**6, 40))  # seconds, at each look
    monkeypatch.setattr("keras_ldm.callbacks.checkpoints.time.monotonic", lambda: next(clock))
    written = []
    write = Snapshot.write
    monkeypatch.setattr(Snapshot, "write", lambda s, p, x: written.append(p.name) or write(s, p, x))
    task = autoencoder_task()
    train(task, images(28), [Checkpoints(tmp_path / "a", every_minutes=2)], 1, **ARRAYS)
    assert [int(name[11:19]) for name in written] == [3, 6, 7]
    written.clear()
    task = autoencoder_task()
    train(
        task, images(28), [Checkpoints(tmp_path / "b", every_batches=4, every_minutes=None)], 1, **ARRAYS
    )
    assert [int(name[11:19]) for name in written] == [4, 7]


@pytest.mark.backend
def test_a_state_with_nan_is_not_saved(tmp_path) -> None:
    task = autoencoder_task()
    train(task, images(), [Checkpoints(tmp_path)], 1, **ARRAYS)
    bias = task.autoencoder.to_images.bias
    bias.assign(np.full(bias.shape, np.nan, "float32"))
    with pytest.warns(UserWarning, match="NaN or infinity after batch 6, of which there is no"):
        checkpoints = Checkpoints(tmp_path, keep=1)
        task.fit(images(), batch_size=BATCH, epochs=2, verbose=0, callbacks=[Poison(), checkpoints])
    assert names(tmp_path) == ["checkpoint-00000003.safetensors"]


class Poison(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        bias = self.model.autoencoder.to_images.bias
        bias.assign(np.full(bias.shape, np.nan, "float32"))


# === Damage ===


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_put_aside(damage, tmp_path) -> None:
    whole = diffusion()
    expected = train(whole, epochs=3)
    train(diffusion(), callbacks=[Checkpoints(tmp_path)], epochs=2)
    newest = tmp_path / "checkpoint-00000006.safetensors"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[-3] ^= 0x10
    parts = {"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}
    newest.write_bytes(parts.get(damage, b"nothing of the kind"))
    resumed = diffusion()
    with pytest.warns(UserWarning, match=r"checkpoint-00000006\.safetensors.*damaged' now"):
        found = train(resumed, callbacks=[Checkpoints(tmp_path)], epochs=3)
    check_same(whole, resumed, found, expected)
    assert names(tmp_path) == [
        "checkpoint-00000006.safetensors",
        "checkpoint-00000006.safetensors.damaged",
        "checkpoint-00000009.safetensors",
    ]


def test_none_is_whole(tmp_path) -> None:
    train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 2, **ARRAYS)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:500])
    for _ in range(2):  # whoever starts it again by himself loses nothing by that
        with pytest.raises(ValueError, match="Expected a whole checkpoint in .*2, all of them damaged"):
            train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 3, **ARRAYS)


def test_what_a_killed_process_left_is_cleared_away(tmp_path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / ".checkpoint-00000003.abc.keras").write_bytes(b"half")
    train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 1, **ARRAYS)
    assert names(tmp_path) == ["checkpoint-00000003.safetensors"]


def test_files_of_other_names_are_left_alone(tmp_path) -> None:
    train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 1, **ARRAYS)
    first = tmp_path / "checkpoint-00000003.safetensors"
    others = [tmp_path / f"checkpoint-{x}.safetensors" for x in ("00000003-good", "best", "lora")]
    for other in others:
        shutil.copy(first, other)
    checkpoints = Checkpoints(tmp_path, keep=1)
    train(autoencoder_task(), images(), [checkpoints], 3, **ARRAYS)
    assert checkpoints.newest.name == "checkpoint-00000009.safetensors"
    assert not first.exists()
    assert all(other.exists() for other in others)


# === Another training ===

LOCK = """
import fcntl, os, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


def lock(folder) -> subprocess.Popen:
    """Another process that trains into the folder, as far as anyone can tell."""
    command = [sys.executable, "-c", LOCK, str(folder / ".lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def test_one_process_at_a_time(tmp_path) -> None:
    found = []

    class Try(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(lock(tmp_path).communicate("")[1].splitlines()[-1].partition(":")[0])

    train(autoencoder_task(), images(), [Try(), Checkpoints(tmp_path)], 1, **ARRAYS)
    assert found == ["BlockingIOError"] * 3
    before = names(tmp_path)
    other = lock(tmp_path)  # the training is through
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(ValueError, match=f"no other process.*has process {os.getpid()} on "):
        train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 2, **ARRAYS)
    assert names(tmp_path) == before
    other.kill()
    other.communicate()
    assert train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 2, **ARRAYS)[1] == [0, 1]


def test_an_error_leaves_the_folder_to_others(tmp_path) -> None:
    interrupt(autoencoder_task, tmp_path, 2, images(), **ARRAYS)
    other = lock(tmp_path)
    assert other.communicate("")[0] == "locked\n"


@pytest.mark.backend
def test_of_another_task(tmp_path) -> None:
    train(diffusion(), callbacks=[Checkpoints(tmp_path)], epochs=1)
    before = sorted(path.read_bytes() for path in tmp_path.glob("*.safetensors"))
    other = latent_diffusion(dropout=0.3)
    with pytest.raises(ValueError, match=r"unet\.dropout 0\.2\. Received: 0\.3\. Another folder"):
        train(other, callbacks=[Checkpoints(tmp_path)])
    with pytest.raises(ValueError, match="Received: 'AutoencoderTask'"):
        train(autoencoder_task(), images(), [Checkpoints(tmp_path)], **ARRAYS)
    for optimizer in (keras.optimizers.SGD(1e-2), keras.optimizers.Adam(1e-2)):
        other = diffusion()
        other.compile(optimizer, **COMPILE)
        kind = type(optimizer).__name__
        with pytest.raises(ValueError, match=f"has the state of, AdamW. Received: {kind}$"):
            train(other, callbacks=[Checkpoints(tmp_path)])
    other = diffusion()
    rate = keras.optimizers.AdamW(1e-2, weight_decay=1e-2, global_clipnorm=1.0, amsgrad=True)
    other.compile(rate, **COMPILE)
    with pytest.raises(ValueError, match="Expected the weights and the optimizer"):
        train(other, callbacks=[Checkpoints(tmp_path)])
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.safetensors")) == before


def test_names_do_not_matter(tmp_path) -> None:
    train(diffusion(), callbacks=[Checkpoints(tmp_path)], epochs=1)
    other = latent_diffusion(dropout=0.2, name="another")
    other.compile(keras.optimizers.AdamW(1e-2, weight_decay=1e-2, global_clipnorm=1.0, name="mine"))
    assert train(other, callbacks=[Checkpoints(tmp_path)], epochs=2)[1] == [0, 1]


def test_data_of_another_length(tmp_path) -> None:
    interrupt(autoencoder_task, tmp_path, 2, images(), **ARRAYS)
    with pytest.raises(ValueError, match="Expected data with 3 batches an epoch.*Received: 4"):
        train(autoencoder_task(), images(14), [Checkpoints(tmp_path)], **ARRAYS)


def test_a_task_that_is_ahead(tmp_path) -> None:
    task = autoencoder_task()
    train(task, images(), [Checkpoints(tmp_path)], 1, **ARRAYS)
    train(task, images(), epochs=1, **ARRAYS)
    with pytest.raises(ValueError, match="have 3 batches. Received: one that was trained on 6.*anew"):
        train(task, images(), [Checkpoints(tmp_path)], 3, **ARRAYS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "`keep` as an int >= 1"),
        ({"keep_best": -1}, "`keep_best` as an int >= 0"),
        ({"every_batches": 1.5}, "`every_batches` as an int >= 1"),
        ({"every_minutes": 0}, "`every_minutes` > 0"),
        ({"mode": "largest"}, "'min' or 'max'"),
        ({"keep": None}, "`keep` as an int >= 1"),
        ({"keep_best": True}, "`keep_best` as an int >= 0"),
        ({"every_minutes": "10"}, "`every_minutes` > 0"),
        ({"stop_signals": ("SIGTERM",)}, "signals that can be caught"),
        ({"stop_signals": (signal.SIGKILL,)}, "signals that can be caught"),
    ],
)
def test_numbers_out_of_range(options, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path, **options)


def test_a_measure_that_there_is_not(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"\['kl_loss', 'loss'.*Received: 'fid'"):
        train(
            autoencoder_task(), images(), [Checkpoints(tmp_path, keep_best=1, monitor="fid")], **ARRAYS
        )


def test_a_measure_of_validation_may_be_missing_in_some_epochs(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_best=1)
    task = autoencoder_task()
    with pytest.warns(UserWarning, match="Received: 'val_loss'. Epoch 1 can be no best one"):
        train(task, images(), [checkpoints], 2, validation_freq=2, **ARRAYS)
    assert checkpoints.best.name == "checkpoint-00000006.safetensors"


def test_one_in_a_list_alone(tmp_path) -> None:
    both = [Checkpoints(tmp_path / "a"), Checkpoints(tmp_path / "b")]
    with pytest.raises(ValueError, match="Expected one Checkpoints.*Received: 2"):
        train(autoencoder_task(), images(), both, **ARRAYS)
    packed = keras.callbacks.CallbackList(both[:1], add_history=True)
    with pytest.raises(ValueError, match="Checkpoints in a list of callbacks. Received: a CallbackList"):
        autoencoder_task().fit(images(), batch_size=BATCH, callbacks=packed)
    task = autoencoder_task()
    task.fit(images(), batch_size=BATCH, callbacks=both[0], verbose=0)
    assert both[0].newest is not None
    with pytest.raises(ValueError, match="Expected `initial_epoch` <= 1.*Received: 2"):
        train(autoencoder_task(), images(), [both[0]], initial_epoch=2, **ARRAYS)


def test_outside_of_our_fit(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        Checkpoints(tmp_path / "file")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="Expected a task of keras_ldm"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), callbacks=[Checkpoints(tmp_path)], verbose=0)
    with pytest.raises(ValueError, match="while `fit` begins"):
        autoencoder_task().continue_at(1)


# === Where nothing can be written ===


def test_a_full_disk_stops_nothing(tmp_path) -> None:
    whole = diffusion()
    expected = train(whole)

    class Full(keras.callbacks.Callback):
        """No file can grow beyond 2,000 bytes in the second epoch."""

        def on_epoch_end(self, epoch, logs=None):
            checkpoints.newest  # noqa: B018  # waits for the file
            size = 2_000 if epoch == 1 else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    checkpoints = Checkpoints(tmp_path)
    task = diffusion()
    with pytest.warns(UserWarning, match=r"Expected to write a checkpoint.*File too large"):
        found = train(task, callbacks=[Full(), checkpoints], epochs=EPOCHS)
    check_same(whole, task, found, expected)
    assert names(tmp_path) == ["checkpoint-00000003.safetensors", "checkpoint-00000009.safetensors"]
    for path in tmp_path.glob("*.safetensors"):
        check_whole(path)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch) -> None:
    def refuse(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 1, **ARRAYS)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        train(autoencoder_task(), images(), [Checkpoints(tmp_path)], 2, **ARRAYS)
    task = autoencoder_task()
    with pytest.raises(PermissionError, match="Permission denied"):
        train(task, images(), [Checkpoints(tmp_path / "new")], **ARRAYS)
    assert int(task.batches) == 0


# === Signals ===


@pytest.mark.backend
def test_a_signal_saves_and_ends(tmp_path) -> None:
    class Send(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if int(self.model.batches) == 4 if keras.backend.backend() != "jax" else self.now():
                os.kill(os.getpid(), signal.SIGTERM)

        count = 0

        def now(self):
            self.count += 1
            return self.count == 5

    handler = signal.getsignal(signal.SIGTERM)
    whole = diffusion()
    expected = train(whole)
    with pytest.raises(SystemExit) as exit_:
        train(diffusion(), callbacks=[Send(), Checkpoints(tmp_path)])
    assert exit_.value.code == 128 + 15
    assert signal.getsignal(signal.SIGTERM) == handler
    assert names(tmp_path)[-1] == "checkpoint-00000005.safetensors"
    resumed = diffusion()
    check_same(whole, resumed, train(resumed, callbacks=[Checkpoints(tmp_path)]), expected)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_signal_after_an_error_has_its_old_meaning(tmp_path) -> None:
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        checkpoints = Checkpoints(tmp_path, stop_signals=(signal.SIGUSR1,))
        with pytest.raises(Interrupted):
            train(diffusion(), callbacks=[Interrupt(1), checkpoints])
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]


def test_a_signal_at_the_very_end(tmp_path) -> None:
    class Send(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        train(autoencoder_task(), images(), [Send(), Checkpoints(tmp_path)], 1, **ARRAYS)
    assert names(tmp_path) == ["checkpoint-00000003.safetensors"]


def test_a_child_has_the_default_meaning_of_a_signal(tmp_path) -> None:
    ends = []

    class Fork(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.write(writing, b"!")  # before that, Python forgets signals
                time.sleep(60)
                os._exit(0)
            os.read(reading, 1)
            os.kill(child, signal.SIGTERM)
            ends.append(os.WTERMSIG(os.waitpid(child, 0)[1]))

    train(autoencoder_task(), images(), [Fork(), Checkpoints(tmp_path)], 1, **ARRAYS)
    assert ends == [signal.SIGTERM]
