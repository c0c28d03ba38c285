"""`compile(metrics=...)`: what the logs and the history say is what is computed by hand."""

import keras
import numpy as np
import pytest

from keras_ldm.metrics import (
    DensityCoverage,
    FeatureStatistics,
    FrechetInceptionDistance,
    KernelInceptionDistance,
    PeakSignalToNoiseRatio,
    PrecisionRecall,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from keras_ldm.models import VQModel
from keras_ldm.tasks import AutoencoderTask, load
from tests.metrics.feature_networks import classifier, features, new_classifier
from tests.tasks.tiny import (
    autoencoder_task,
    images,
    latent_diffusion,
    pixel_autoencoder,
    text_to_image,
)

pytestmark = pytest.mark.backend

BATCH = 5
TOLERANCE = 1e-3 if keras.backend.backend() == "jax" else 1e-4
PICTURES, OTHERS = images(14), images(11, seed=7)
REAL = PICTURES.astype("float32") / 127.5 - 1


def fid(network, real, drawn):
    return frechet_distance(*(FeatureStatistics.of(features(network, x), "f") for x in (real, drawn)))


def psnr(real, drawn):
    errors = np.square(real / 127.5 - 1 - drawn.astype("float64")).mean(axis=(1, 2, 3)) / 4
    return np.mean(-10 * np.log10(errors))


def kid(network, real, drawn):
    x, y = features(network, real), features(network, drawn)
    sizes = [len(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    found = [
        kernel_distance(x[i * BATCH :][:size], y[i * BATCH :][:size], num_subsets=1, subset_size=size)[0]
        for i, size in enumerate(sizes)
        if size > 1
    ]
    return np.average(found, weights=[size for size in sizes if size > 1])


class Logs(keras.callbacks.Callback):
    """What the steps are given."""

    def __init__(self):
        super().__init__()
        self.train, self.test = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.train.append(dict(logs))

    def on_test_batch_end(self, batch, logs=None):
        self.test.append(dict(logs))


def standing_task(**metrics):
    """Trains without moving, and draws nothing at random."""
    task = AutoencoderTask(pixel_autoencoder())
    task.compile(keras.optimizers.SGD(0.0), **metrics)
    return task


# === Autoencoders ===


def test_history_and_evaluate_are_what_predict_gives() -> None:
    network = classifier()
    task = standing_task(
        metrics=[
            PeakSignalToNoiseRatio(),
            FrechetInceptionDistance(network),
            KernelInceptionDistance(network),
            PrecisionRecall(network, capacity=20),
        ]
    )
    logs = Logs()
    history = task.fit(
        PICTURES, batch_size=BATCH, epochs=2, validation_data=OTHERS, callbacks=[logs], verbose=0
    ).history
    found = task.evaluate(OTHERS, batch_size=BATCH, return_dict=True, verbose=0)
    for prefix, pictures, values in (
        ("", PICTURES, {name: history[name] for name in history}),
        ("val_", OTHERS, history),
        ("", OTHERS, {name: [value] for name, value in found.items()}),
    ):
        drawn = task.predict(pictures, batch_size=BATCH, verbose=0)
        measured = {
            "psnr": psnr(pictures, drawn),
            "fid": fid(network, pictures, drawn),
            **dict(
                zip(
                    ("precision", "recall"),
                    precision_recall(features(network, pictures), features(network, drawn)),
                    strict=True,
                )
            ),
        }
        if pictures is OTHERS:  # training shuffles, and batches matter
            measured["kid"] = kid(network, pictures, drawn)
        assert measured["fid"] > 1e-3
        for name, value in measured.items():
            assert values[prefix + name] == pytest.approx(
                [value] * len(values[prefix + name]), TOLERANCE
            )
    assert len(history["fid"]) == len(history["val_kid"]) == 2
    for steps in (logs.train, logs.test):
        assert len(steps) == 6  # no step computes one
        for name in ("fid", "kid", "precision", "recall"):
            assert all(np.isnan(step[name]) for step in steps)
        assert not any(np.isnan(step["psnr"]) for step in steps)


def test_steps_that_run_eagerly_do_not_compute_it_either() -> None:
    task = AutoencoderTask(pixel_autoencoder())
    metric = FrechetInceptionDistance(classifier())
    task.compile(keras.optimizers.SGD(0.0), metrics=[metric], run_eagerly=True, jit_compile=False)
    computed = []
    measure = metric._measure
    metric._measure = lambda: computed.append(1) or measure()
    history = task.fit(PICTURES[:10], batch_size=BATCH, verbose=0).history
    drawn = task.predict(PICTURES[:10], verbose=0)
    assert history["fid"] == pytest.approx([fid(classifier(), PICTURES[:10], drawn)], TOLERANCE)
    assert len(computed) == 1


def test_training_goes_on_as_without_metrics() -> None:
    """Weights, and those of the network, which no optimizer sees."""
    network = new_classifier()
    before = network.get_weights()
    assert network.trainable_variables
    tasks = [autoencoder_task(ema_decay=0.5) for _ in range(2)]
    tasks[1].compile(metrics=[FrechetInceptionDistance(network)])
    losses = [
        task.fit(PICTURES, batch_size=BATCH, epochs=2, verbose=0).history["loss"] for task in tasks
    ]
    assert losses[1] == pytest.approx(losses[0], 1e-5)
    assert len(tasks[0].variables) == len(tasks[1].variables)
    assert all(np.array_equal(x, y) for x, y in zip(network.get_weights(), before, strict=True))
    drawn = tasks[1].predict(OTHERS, verbose=0)  # with the averaged weights, as `evaluate`
    found = tasks[1].evaluate(OTHERS, batch_size=BATCH, return_dict=True, verbose=0)
    assert found["fid"] == pytest.approx(fid(network, OTHERS, drawn), TOLERANCE)


def test_a_codebook_beside_it() -> None:
    network = classifier()
    model = VQModel((4,), 3, num_codes=16, num_res_blocks=1, groups=2, middle_attention=False)
    task = AutoencoderTask(model)
    task.compile(metrics=[DensityCoverage(network, capacity=20, k=2), "mse"])
    found = task.evaluate(OTHERS, batch_size=BATCH, return_dict=True, verbose=0)
    drawn = task.predict(OTHERS, batch_size=BATCH, verbose=0)
    wanted = np.square(OTHERS / 127.5 - 1 - drawn).mean()
    assert {"density", "coverage", "code_usage"} < set(found)
    assert found["mse"] == pytest.approx(wanted, rel=1e-4)


def test_a_failed_training_leaves_the_metrics_whole(monkeypatch) -> None:
    """On JAX the first step has taken the state out of them when it fails."""
    metric = FrechetInceptionDistance(classifier())
    task = standing_task(metrics=[metric])

    def fail(*args, **kwargs):
        raise RuntimeError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "compute_loss", fail)
        with pytest.raises(RuntimeError, match="stop"):
            task.fit(PICTURES, batch_size=BATCH, verbose=0)
    assert all(np.isfinite(variable.numpy()).all() for variable in metric.variables)
    history = task.fit(PICTURES, batch_size=BATCH, verbose=0).history
    assert np.isfinite(history["fid"]).all()


# === Files ===


def test_a_saved_task_measures_on(tmp_path) -> None:
    """With two metrics of one network, of which the file has the weights once."""
    network = classifier()
    reference = FeatureStatistics.of(features(network, PICTURES), "other words")
    reference = FeatureStatistics(
        reference.mean, reference.covariance, 14, FrechetInceptionDistance(network).description
    )
    task = standing_task(
        metrics=[
            FrechetInceptionDistance(network),
            FrechetInceptionDistance(network, reference=reference, name="apart"),
            KernelInceptionDistance(network, "logits"),
        ]
    )
    found = task.evaluate(OTHERS, batch_size=BATCH, return_dict=True, verbose=0)
    task.save(tmp_path / "task.keras")
    loaded = load(tmp_path / "task.keras")
    loaded.save(tmp_path / "again.keras")  # before it has measured anything
    again = loaded.evaluate(OTHERS, batch_size=BATCH, return_dict=True, verbose=0)
    assert again == pytest.approx(found, rel=1e-5)
    assert again["apart"] != pytest.approx(again["fid"], rel=1e-2)
    third = load(tmp_path / "again.keras")
    again = third.evaluate(OTHERS, batch_size=BATCH, return_dict=True, verbose=0)
    assert again == pytest.approx(found, rel=1e-5)


def test_weights_of_a_file_are_not_put_into_other_networks(tmp_path) -> None:
    """Nor are they missed by a task without metrics."""
    first, second = classifier(), new_classifier(1)
    task = standing_task(metrics=[FrechetInceptionDistance(first)])
    task.save_weights(tmp_path / "task.weights.h5")
    before = second.get_weights()
    for other in (standing_task(metrics=[FrechetInceptionDistance(second)]), standing_task()):
        other.load_weights(tmp_path / "task.weights.h5")
    assert all(np.array_equal(x, y) for x, y in zip(second.get_weights(), before, strict=True))
    standing_task().save_weights(tmp_path / "plain.weights.h5")
    task.load_weights(tmp_path / "plain.weights.h5")


# === Other models ===


@pytest.mark.filterwarnings("ignore:The Fréchet distance")  # of the first step, on PyTorch
def test_a_model_of_others() -> None:
    """On PyTorch its steps compute results, too; the last one is the same."""
    network = classifier()
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Conv2D(3, 3, padding="same", data_format="channels_last")(inputs)
    model = keras.Model(inputs, outputs)
    metrics = [FrechetInceptionDistance(network), PrecisionRecall(network, capacity=20)]
    model.compile(keras.optimizers.SGD(0.0), loss="mse", metrics=metrics)
    logs = Logs()
    history = model.fit(REAL, REAL, batch_size=BATCH, verbose=0, callbacks=[logs]).history
    drawn = model.predict(REAL, verbose=0)
    wanted = fid(network, PICTURES, drawn)
    assert history["fid"] == pytest.approx([wanted], TOLERANCE)
    found = model.evaluate(REAL, REAL, batch_size=BATCH, verbose=0, return_dict=True)
    assert found["fid"] == pytest.approx(wanted, TOLERANCE)
    assert {"precision", "recall"} < set(found) and set(history) == set(found)
    eager = keras.backend.backend() == "torch"
    assert np.isnan(logs.train[-1]["fid"]) != eager


def test_a_model_of_others_from_its_file(tmp_path) -> None:
    """It has no weights of the network, and says so instead of measuring by others."""
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1, data_format="channels_last")(inputs))
    metric = FrechetInceptionDistance(classifier())
    model.compile("sgd", loss="mse", metrics=[metric])
    found = model.evaluate(REAL, REAL, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Expected the network of .*, pooled'"):
        loaded.evaluate(REAL, REAL, verbose=0)
    loaded.compile("sgd", loss="mse", metrics=[FrechetInceptionDistance(classifier())])
    again = loaded.evaluate(REAL, REAL, verbose=0, return_dict=True)
    assert again["fid"] == pytest.approx(found["fid"], TOLERANCE)


# === Refused ===


@pytest.mark.parametrize("make", [latent_diffusion, text_to_image])
def test_tasks_that_draw_nothing_in_a_step(make) -> None:
    task = make()
    for argument in ("metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"Expected no `{argument}`.*callbacks.SampleEvaluation"):
            task.compile(**{argument: [PeakSignalToNoiseRatio()]})
    task.compile(metrics=[])
