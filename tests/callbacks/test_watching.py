"""What a training says of itself: gradients, losses by timestep, speed, and that it has gone wrong."""

import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_ldm.callbacks import Checkpoints, TerminateOnNaN, Throughput
from keras_ldm.tasks import LinearWarmUp, Task
from tests.tasks.tiny import (
    autoencoder_task,
    images,
    latent_diffusion,
    numpy,
    pairs,
    state,
    text_to_image,
)

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]
RATE = 1e-3


def weights(task):
    return [numpy(variable).copy() for variable in task.trainable_variables]


# === Diagnostics ===


@pytest.mark.usefixtures("traced")
def test_gradient_norm_is_how_far_gradient_descent_goes() -> None:
    task = text_to_image()
    task.compile(keras.optimizers.SGD(RATE, global_clipnorm=1e9), diagnostics=True)
    norms = []
    for _ in range(2):
        before = weights(task)
        history = task.fit(pairs(4), batch_size=4, verbose=0).history
        way = [(b - a).ravel() / RATE for a, b in zip(weights(task), before, strict=True)]
        norms.append(np.linalg.norm(np.concatenate(way)))
        assert history["gradient_norm"] == [pytest.approx(norms[-1], rel=1e-3)]
    assert abs(norms[0] / norms[1] - 1) > 1e-3  # other noise


def test_gradient_norm_is_the_mean_over_an_epoch_and_not_clipped() -> None:
    def train(**clipping):
        task = autoencoder_task()
        task.compile(keras.optimizers.SGD(0.0, **clipping), diagnostics=True)
        return task.fit(images(4), batch_size=2, epochs=2, shuffle=False, verbose=0).history

    free, clipped = train(), train(global_clipnorm=1e-3)
    assert clipped["gradient_norm"] == pytest.approx(free["gradient_norm"], rel=1e-6)
    norms = []
    for rows in (slice(0, 2), slice(2, 4)):
        task = autoencoder_task()
        task.seed_generator.state.assign(
            keras.ops.convert_to_tensor([0, rows.start // 2], dtype=task.seed_generator.state.dtype)
        )
        task.compile(keras.optimizers.SGD(0.0), diagnostics=True)
        norms += task.fit(images(4)[rows], batch_size=2, verbose=0).history["gradient_norm"]
    assert free["gradient_norm"][0] == pytest.approx(np.mean(norms), rel=1e-4)


if keras.backend.backend() != "jax":  # whose CPU has no float16

    @pytest.mark.usefixtures("traced")
    def test_gradient_norm_without_the_scale_of_the_loss() -> None:
        norms = {}
        for policy in ("float32", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            task = text_to_image()
            task.compile(keras.optimizers.SGD(0.0), diagnostics=True)
            assert ("LossScale" in type(task.optimizer).__name__) == (policy != "float32")
            task.fit(pairs(4), batch_size=4, epochs=4, verbose=0)  # until the scale has fallen
            task.seed_generator.state.assign(task.seed_generator.state * 0)
            history = task.fit(pairs(4), batch_size=4, verbose=0).history
            norms[policy] = history["gradient_norm"][0]
        assert norms["mixed_float16"] == pytest.approx(norms["float32"], rel=0.02)


def test_loss_by_quarter_of_the_timesteps() -> None:
    task, data = text_to_image(latent_scale=1.0), pairs(10)
    task.compile(diagnostics=True)
    measured = task.evaluate(data, batch_size=10, verbose=0, return_dict=True)
    generator = task.evaluation_seed_generator
    generator.state.assign(generator.state * 0)
    found = task({k: keras.ops.convert_to_tensor(v) for k, v in task.preprocess(data).items()})
    error = np.square(numpy(found["target"]) - numpy(found["output"])).mean(axis=(1, 2, 3))
    losses, quarters = error * numpy(found["weight"]), numpy(found["timesteps"]) // 250
    assert set(quarters) == {0, 1, 2, 3}
    assert measured["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    for quarter in range(4):
        expected = losses[quarters == quarter].mean()
        assert measured[f"loss_quarter{quarter + 1}"] == pytest.approx(expected, rel=1e-5)


def test_quarters_without_examples_are_no_zeros() -> None:
    task = latent_diffusion(latent_scale=1.0)
    task.compile(diagnostics=True)
    measured = task.evaluate(images(1), verbose=0, return_dict=True)
    quarters = [measured[f"loss_quarter{i}"] for i in (1, 2, 3, 4)]
    assert np.isnan(quarters).sum() == 3
    assert np.nansum(quarters) == pytest.approx(measured["loss"])


def test_diagnostics_are_saved_with_the_task(tmp_path) -> None:
    task = latent_diffusion()
    task.compile(diagnostics=True)
    before = task.fit(images(), batch_size=5, verbose=0).history
    task.save(tmp_path / "task.keras")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping variable loading")
        again = Task.from_preset(tmp_path / "task.keras")
    after = again.fit(images(), batch_size=5, verbose=0).history
    assert set(after) == set(before) >= {"gradient_norm", "loss_quarter1"}
    plain = latent_diffusion()
    assert set(plain.fit(images(), batch_size=5, verbose=0).history) == {"loss"}


@pytest.mark.usefixtures("traced")
def test_diagnostics_do_not_change_the_training(tmp_path) -> None:
    """Nor does a training that goes on from a checkpoint say other numbers."""

    def train(diagnostics=True, folder=None, epochs=3):
        task = latent_diffusion()
        task.compile(keras.optimizers.Adam(1e-2), diagnostics=diagnostics)
        callbacks = [Checkpoints(folder)] if folder else []
        history = task.fit(images(), batch_size=5, epochs=epochs, verbose=0, callbacks=callbacks)
        return state(task), history.history

    plain, watched = train(diagnostics=False), train()
    here = [value for name, value in watched[0].items() if "gradient_norms" not in name]
    for a, b in zip(plain[0].values(), here, strict=True):
        np.testing.assert_array_equal(a, b)
    assert plain[1]["loss"] == watched[1]["loss"]
    train(folder=tmp_path, epochs=2)
    again = train(folder=tmp_path)[1]
    assert set(again) == set(watched[1])
    for name, values in watched[1].items():
        assert again[name] == pytest.approx(values, rel=1e-6, nan_ok=True)


@pytest.mark.usefixtures("traced")
def test_compiled_again_measures_what_was_asked_for_last() -> None:
    task = latent_diffusion(latent_scale=1.0)
    optimizer = keras.optimizers.Adam(1e-3)
    for diagnostics, count in ((True, 6), (True, 6), (False, 1)):
        task.compile(optimizer, diagnostics=diagnostics)
        history = task.fit(images(), batch_size=5, verbose=0).history
        assert len(history) == count and len(task.metrics) == max(count - 1, 1)
        assert sum(v.name == "gradient_norms" for v in optimizer.variables) == 1


def test_a_list_of_callbacks_that_is_used_again() -> None:
    callbacks = keras.callbacks.CallbackList([], add_history=True)
    for diagnostics, count in ((True, 1), (True, 2), (False, 2)):  # Keras's history is never emptied
        task = latent_diffusion(latent_scale=1.0)
        task.compile(diagnostics=diagnostics)
        callbacks.set_model(task)
        history = task.fit(images(), batch_size=5, verbose=0, callbacks=callbacks).history
        assert len(history["gradient_norm"]) == count
    assert [type(c).__name__ for c in callbacks.callbacks] == ["History"]


def test_diagnostics_begin_in_a_training_that_goes_on(tmp_path) -> None:
    """At the beginning of an epoch and within one; the weights are those of a training without."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(numpy(self.model.batches)) == 5:
                raise KeyboardInterrupt

    def train(diagnostics, folder, epochs=2, **kwargs):
        task = latent_diffusion(latent_scale=1.0)
        task.compile(keras.optimizers.Adam(1e-2), diagnostics=diagnostics)
        callbacks = [Checkpoints(folder, every_batches=1), *kwargs.get("others", [])]
        history = task.fit(images(), batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks)
        return weights(task), history.history

    plain = train(False, tmp_path / "plain")
    train(False, tmp_path / "one", epochs=1)
    begun = train(True, tmp_path / "one")
    assert begun[1]["loss"] == pytest.approx(plain[1]["loss"], rel=1e-6)
    assert len(begun[1]["gradient_norm"]) == 1 and begun[1]["gradient_norm"][0] > 0
    with pytest.raises(KeyboardInterrupt):
        train(False, tmp_path / "two", others=[Stop()])
    with pytest.warns(UserWarning, match="the metrics and diagnostics that .* Those of epoch 2 begin"):
        within = train(True, tmp_path / "two")
    for found in (begun, within):
        for a, b in zip(plain[0], found[0], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    again = train(False, tmp_path / "two", epochs=3)  # and end in one
    assert "gradient_norm" in again[1] and len(again[1]["gradient_norm"]) == 1


# === Speed ===


def test_images_per_second(monkeypatch) -> None:
    """Of batches with 4, 4 and 2 images, each of which takes a quarter of a second on this clock."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("keras_ldm.callbacks.throughput.time.perf_counter", lambda: clock.now)

    class Slow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            clock.now += 0.25

        def on_epoch_end(self, epoch, logs=None):
            clock.now += 100.0  # does not count

    task = autoencoder_task()
    history = task.fit(
        images(10), batch_size=4, epochs=2, verbose=0, callbacks=[Slow(), Throughput(skip=2)]
    ).history
    assert history["images_per_second"] == pytest.approx([2 / 0.25, 10 / 0.75])
    assert 0.05 < history["memory_gib"][0] <= history["memory_gib"][1] < 100
    lone = autoencoder_task().fit(images(2), verbose=0, callbacks=[Throughput(1)]).history
    assert np.isnan(lone["images_per_second"]).all()
    with pytest.raises(ValueError, match="`skip` as an int >= 1. Received: 0"):
        Throughput(0)


# === NaN ===


def with_nan(count=12, batch=2, size=4):
    """Moments, one batch of which has NaN."""
    moments = np.random.default_rng(0).normal(size=(count, 8, 8, 6)).astype("float32")
    moments[batch * size] = np.nan
    return {"moments": moments}


def spoilt(**kwargs):
    task = latent_diffusion(latent_scale=1.0, ema_decay=0.9)
    task.compile(keras.optimizers.Adam(1e-2), **kwargs)
    return task


def test_a_training_with_nan_ends_and_says_where(tmp_path) -> None:
    data, guard = with_nan(), TerminateOnNaN(tmp_path / "nan")
    task = spoilt(diagnostics=True)
    with pytest.warns(UserWarning, match="at step 3, batch 3 of epoch 1.*The training ends") as said:
        history = task.fit(
            data, batch_size=4, epochs=5, shuffle=False, verbose=0, callbacks=[guard]
        ).history
    assert any("Received: loss, loss_quarter" in str(warning.message) for warning in said)
    assert len(history["loss"]) == 1 and guard.steps == [3]
    with np.load(tmp_path / "nan" / "nan_step_00000003.npz") as saved:
        assert set(saved) == {"moments", "before/moments"}
        np.testing.assert_array_equal(saved["moments"], data["moments"][8:])
        np.testing.assert_array_equal(saved["before/moments"], data["moments"][4:8])


def test_a_training_with_nan_goes_back_and_on(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", every_batches=1)
    guard = TerminateOnNaN(roll_back=checkpoints, most=2)
    task = spoilt()
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, float(logs["loss"])))

    with pytest.warns(UserWarning, match="goes on with the weights of 'checkpoint-00000002"):
        task.fit(
            with_nan(16), batch_size=4, epochs=2, shuffle=False, verbose=0,
            callbacks=[guard, Look(), checkpoints],
        )  # fmt: skip
    assert guard.steps == [3, 7] and int(numpy(task.batches)) == 8
    assert all(np.isfinite(value).all() for value in state(task).values())
    assert [batch for batch, loss in seen if np.isfinite(loss)] == [0, 1, 3, 0, 1, 3]
    draws = numpy(task.seed_generator.state)[1]
    assert draws == 3 * 8  # they go on, too
    with pytest.warns(UserWarning, match="The training ends"):  # no third time
        task.fit(
            with_nan(16), batch_size=4, epochs=5, shuffle=False, verbose=0,
            callbacks=[guard, checkpoints],
        )  # fmt: skip
    assert len(guard.steps) == 3


def test_going_back_at_the_end_of_an_epoch_measures_nothing(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path, every_batches=1)
    with pytest.warns(UserWarning, match="goes on with the weights"):
        history = spoilt().fit(
            with_nan(12), batch_size=4, epochs=2, shuffle=False, verbose=0,
            callbacks=[TerminateOnNaN(roll_back=checkpoints), checkpoints],
        ).history  # fmt: skip
    assert np.isnan(history["loss"]).all() and len(history["loss"]) == 2


def test_gradients_after_going_back_are_those_since(tmp_path) -> None:
    """As all measures of the epoch are."""

    class Norms(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            counts.append(float(numpy(self.model.gradient_norm.sums)[1]))

    counts, checkpoints = [], Checkpoints(tmp_path, every_batches=1)
    with pytest.warns(UserWarning, match="goes on with the weights"):
        history = spoilt(diagnostics=True).fit(
            with_nan(16), batch_size=4, shuffle=False, verbose=0,
            callbacks=[TerminateOnNaN(roll_back=checkpoints), Norms(), checkpoints],
        ).history  # fmt: skip
    assert counts == [1.0, 2.0, 0.0, 1.0] and np.isfinite(history["gradient_norm"]).all()


def test_the_batch_before_the_first_one_of_an_epoch(tmp_path) -> None:
    moments = with_nan(12)["moments"]
    moments[8] = 0.5
    last = moments[8:].copy()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"moments": moments[4 * index : 4 * index + 4]}

        def on_epoch_end(self):
            moments[0] = np.nan

    guard = TerminateOnNaN(tmp_path)
    with pytest.warns(UserWarning, match="step 4, batch 1 of epoch 2"):
        spoilt().fit(Batches(), epochs=3, verbose=0, callbacks=[guard])
    with np.load(tmp_path / "nan_step_00000004.npz") as saved:
        np.testing.assert_array_equal(saved["before/moments"], last)
        assert np.isnan(saved["moments"]).any()


def test_what_a_guard_cannot_watch(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match="`roll_back` among the callbacks of this `fit`"):
        spoilt().fit(with_nan(), verbose=0, callbacks=[TerminateOnNaN(roll_back=checkpoints)])
    if keras.backend.backend() != "torch":
        task = spoilt(steps_per_execution=2)
        with pytest.raises(ValueError, match="`steps_per_execution=1`.*Received: 2"):
            task.fit(with_nan(), verbose=0, callbacks=[TerminateOnNaN()])


def test_what_goes_back_is_what_was_saved(tmp_path) -> None:
    """All but batches and random states, which go on."""
    checkpoints = Checkpoints(tmp_path, every_batches=2)
    task, states = spoilt(), {}

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                task.jax_state_sync()
            states[batch] = state(task)

    with pytest.warns(UserWarning, match="checkpoint-00000002"):
        task.fit(
            with_nan(12), batch_size=4, shuffle=False, verbose=0,
            callbacks=[Keep(), TerminateOnNaN(roll_back=checkpoints), checkpoints],
        )  # fmt: skip
    before, after = states[1], state(task)
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert {name.split(" ")[1].split("/")[-1] for name in changed} == {"batches", "seed_generator_state"}


def test_arguments_of_a_guard(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="a folder"):
        TerminateOnNaN(tmp_path / "file")
    with pytest.raises(ValueError, match="`roll_back` as Checkpoints"):
        TerminateOnNaN(roll_back=tmp_path)
    with pytest.raises(ValueError, match="`most` as an int >= 1. Received: 0"):
        TerminateOnNaN(most=0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for callback in (TerminateOnNaN(), Throughput()):
        with pytest.raises(ValueError, match="a task of keras_ldm"):
            model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=[callback])


# === Learning rates ===


def test_warm_up() -> None:
    constant = LinearWarmUp(0.5, 4)
    assert [float(constant(n)) for n in (0, 1, 2, 3, 4, 99)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    cosine = keras.optimizers.schedules.CosineDecay(1.0, 10)
    both = LinearWarmUp(cosine, 2)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(both))
    for n in (0, 1, 5, 10):
        expected = float(cosine(n)) * min(1.0, (n + 1) / 2)
        assert float(both(n)) == pytest.approx(expected) == float(again(n))
    assert float(LinearWarmUp(np.float32(0.5), np.int64(4))(0)) == 0.125
    for arguments in ((-1.0, 3), ("fast", 3), (1.0, 0), (1.0, True), (True, 3)):
        with pytest.raises(ValueError, match="Expected `"):
            LinearWarmUp(*arguments)


def test_a_training_warms_up(tmp_path) -> None:
    task = autoencoder_task()
    task.compile(keras.optimizers.SGD(LinearWarmUp(1e-2, 4)), diagnostics=True)
    ways = []
    for _ in range(3):
        before = weights(task)
        norm = task.fit(images(2), batch_size=2, verbose=0).history["gradient_norm"][0]
        way = [(b - a).ravel() for a, b in zip(weights(task), before, strict=True)]
        ways.append(np.linalg.norm(np.concatenate(way)) / norm)
    assert ways == pytest.approx([0.0025, 0.005, 0.0075], rel=1e-2)
    task.save(tmp_path / "task.keras")
    again = Task.from_preset(tmp_path / "task.keras")
    assert float(again.optimizer.learning_rate) == pytest.approx(0.01)
