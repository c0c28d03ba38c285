"""The average of the weights: how it moves, when it moves, and what it leaves alone."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.tasks import ExponentialMovingAverage
from tests.tasks.tiny import (
    captions,
    largest_difference,
    latent_diffusion,
    numpy,
    pairs,
    state,
    text_to_image,
)

pytestmark = pytest.mark.backend
BATCH = 4


class Recorder(keras.callbacks.Callback):
    """The trained weights after each batch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.weights.append([numpy(v) for v in self.model.trainable_variables])


def sgd(**kwargs):
    return keras.optimizers.SGD(learning_rate=0.05, **kwargs)


def reference(start, updates, max_decay=0.9999, done=0, average=None):
    """LitEma in NumPy, from the weights after each update of the optimizer."""
    average = [w.astype(np.float64) for w in (average or start)]
    for n, weights in enumerate(updates, done + 1):
        decay = min(max_decay, (1 + n) / (10 + n))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    return average


def averages(task):
    return [numpy(a) for a in task.ema.averages]


def agree(task, expected):
    return all(np.allclose(a, e, atol=1e-6) for a, e in zip(averages(task), expected, strict=True))


def train(task, count=3 * BATCH, epochs=2, **kwargs):
    recorder = Recorder()
    task.fit(pairs(count), batch_size=BATCH, epochs=epochs, callbacks=[recorder], verbose=0, **kwargs)
    return recorder.weights


# === The layer ===


def test_follows_the_formula() -> None:
    sources = [keras.Variable(np.array([1.0, 2.0], "float32")), keras.Variable(np.float32(3.0))]
    ema = ExponentialMovingAverage(sources, max_decay=0.3)
    start = [numpy(v) for v in sources]
    values = [[start[0] * k, start[1] - k] for k in range(1, 8)]
    for weights in values:
        for source, value in zip(sources, weights, strict=True):
            source.assign(value)
        ema.update()
    expected = reference(start, values, max_decay=0.3)  # the warm-up ends at the fourth update
    assert np.allclose(numpy(ema.averages[0]), expected[0], rtol=1e-6)
    assert np.allclose(numpy(ema.averages[1]), expected[1], rtol=1e-6)
    assert int(ema.updates) == 7


def test_update_that_is_not_due_changes_nothing() -> None:
    source = keras.Variable(np.ones(2, "float32"))
    ema = ExponentialMovingAverage([source])
    source.assign(np.zeros(2, "float32"))
    ema.update(ops.convert_to_tensor(False))
    assert numpy(ema.averages[0]).tolist() == [1.0, 1.0]
    assert int(ema.updates) == 0


def test_restart_copies() -> None:
    source = keras.Variable(np.ones(2, "float32"))
    ema = ExponentialMovingAverage([source])
    source.assign(np.full(2, 5.0, "float32"))
    ema.update()
    ema.restart()
    source.assign(np.zeros(2, "float32"))
    assert numpy(ema.averages[0]).tolist() == [5.0, 5.0]
    assert int(ema.updates) == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_decay_out_of_range(decay) -> None:
    with pytest.raises(ValueError, match=r"EMA decay in \[0, 1\).*Received"):
        latent_diffusion(ema_decay=decay)


def test_average_is_state_but_not_trained() -> None:
    task = text_to_image()
    trained = {id(v) for v in task.trainable_variables}
    kept = {id(v) for v in task.non_trainable_variables}
    assert len(task.ema.averages) == len(task.trainable_variables)
    assert all(id(a) in kept and id(a) not in trained for a in task.ema.averages)


# === In training ===


def test_average_over_training_is_that_of_the_weights_after_each_update() -> None:
    task = text_to_image(latent_scale=1.0)
    task.compile(sgd())
    start = [numpy(v) for v in task.trainable_variables]
    weights = train(task)
    assert len(weights) == 6
    assert max(np.abs(w - s).max() for w, s in zip(weights[-1], start, strict=True)) > 1e-3
    # Training takes the last update in at its next step.
    assert agree(task, reference(start, weights[:-1]))
    task.finish_average()
    assert agree(task, reference(start, weights))
    task.finish_average()
    assert agree(task, reference(start, weights))
    weights += train(task)
    task.finish_average()
    assert agree(task, reference(start, weights))
    assert int(task.ema.updates) == 12


def test_counts_updates_and_not_batches_under_accumulation() -> None:
    task = latent_diffusion(latent_scale=1.0)
    task.compile(sgd(gradient_accumulation_steps=2))
    start = [numpy(v) for v in task.trainable_variables]
    weights = train(task, count=5 * BATCH, epochs=1)
    assert (weights[0][0] == start[0]).all()
    assert (weights[1][0] != start[0]).any()
    updates = weights[1::2]
    task.finish_average()
    assert agree(task, reference(start, updates))
    assert int(task.ema.updates) == 2
    weights = train(task, count=3 * BATCH, epochs=1)  # begins in the middle of an accumulation
    updates += weights[0::2]
    task.finish_average()
    assert agree(task, reference(start, updates))
    assert int(task.ema.updates) == 4

    # Another optimizer accumulates from the beginning, and the average goes on.
    task.compile(sgd(gradient_accumulation_steps=3))
    updates += train(task, count=4 * BATCH, epochs=1)[2::3]
    task.finish_average()
    assert agree(task, reference(start, updates))
    task.compile(sgd())
    updates += train(task, count=2 * BATCH, epochs=1)
    task.finish_average()
    assert agree(task, reference(start, updates))
    assert int(task.ema.updates) == 7


def test_looking_at_the_average_does_not_change_training(tmp_path) -> None:
    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save(tmp_path / "look.keras")
            self.model.generate(captions(2), num_steps=2, seed=0, progress=False)

    states = []
    for look in (False, True):
        task = text_to_image(dropout=0.1, latent_scale=1.0)
        task.compile(sgd())
        if look:
            task.evaluate(pairs(), batch_size=BATCH, verbose=0)
        for _ in range(2):
            task.fit(
                pairs(),
                batch_size=BATCH,
                epochs=2,
                verbose=0,
                validation_data=pairs(4, seed=9) if look else None,
                callbacks=[Look()] if look else None,
            )
            if look:
                task.evaluate(pairs(), batch_size=BATCH, verbose=0)
                task.generate(captions(2), num_steps=2, progress=False)
        task.finish_average()
        states.append(
            {k: v for k, v in state(task).items() if "seed_generator" not in k and "pending" not in k}
        )
        states[-1]["seed"] = numpy(task.seed_generator.state)
    assert largest_difference(*states)[0] == 0.0


# === What uses it ===


def plant(task, value):
    """Sets the average of the last layer, and not its weights."""
    for source, average in zip(task.trainable_variables, task.ema.averages, strict=True):
        if source is task.unet.conv_out.bias:
            average.assign(np.full(average.shape, value, "float32"))


def test_generate_and_evaluate_use_the_average() -> None:
    task = text_to_image(latent_scale=1.0)
    train(task, epochs=1)
    task.finish_average()

    def look():
        latents = task.generate(captions(2), num_steps=2, seed=0, output="latents", progress=False)
        return latents, task.evaluate(pairs(4), batch_size=BATCH, verbose=0)

    weights = [numpy(v) for v in task.trainable_variables]
    before = look()
    plant(task, 3.0)
    after = look()
    assert np.abs(after[0] - before[0]).max() > 0.1
    assert after[1] > before[1] + 5.0  # every output is about 3 off
    assert all((numpy(v) == w).all() for v, w in zip(task.trainable_variables, weights, strict=True))

    task.unet.conv_out.bias.assign(np.full(3, 7.0, "float32"))
    again = look()
    assert (again[0] == after[0]).all()
    assert again[1] == after[1]


def test_without_average_the_weights_are_used() -> None:
    task = text_to_image(latent_scale=1.0, ema_decay=None)
    train(task, epochs=1)
    assert task.ema is None
    before = task.evaluate(pairs(4), batch_size=BATCH, verbose=0)
    task.unet.conv_out.bias.assign(np.full(3, 7.0, "float32"))
    assert task.evaluate(pairs(4), batch_size=BATCH, verbose=0) > before + 30.0


def test_weights_loaded_before_training_are_where_the_average_starts() -> None:
    task = latent_diffusion(latent_scale=1.0)
    task.unet.conv_out.bias.assign(np.full(3, 7.0, "float32"))
    task.generate(num_images=1, num_steps=1, image_size=16, progress=False)
    assert np.allclose(averages(task)[-1], 7.0)
    task.unet.conv_out.bias.assign(np.full(3, 8.0, "float32"))
    task.compile(sgd())
    start = [numpy(v) for v in task.trainable_variables]
    weights = train(task, epochs=1)
    task.finish_average()
    assert agree(task, reference(start, weights))


def test_compiled_parts_of_a_step_compute_the_same(monkeypatch) -> None:
    """Optimizer and average as XLA programs, which they are for more than a million weights.

    TensorFlow's kernel for Adam does not do for AMSGrad.
    """

    def values(least: int) -> list[np.ndarray]:
        monkeypatch.setattr("keras_ldm.backend.training._MIN_PARAMETERS", least)
        keras.utils.set_random_seed(0)
        task = text_to_image()
        task.compile(keras.optimizers.AdamW(0.01, global_clipnorm=1.0, amsgrad=True))
        train(task)
        task.finish_average()
        return [*map(numpy, task.trainable_variables), *averages(task)]

    plain, compiled = values(10**9), values(1)
    for expected, actual in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
