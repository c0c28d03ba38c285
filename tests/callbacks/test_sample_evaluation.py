"""Samples of a training and their measures: in files, logs and TensorBoard, and nothing disturbed."""

import csv
import random

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_ldm.callbacks.metrics_file import MetricsFile
from keras_ldm.callbacks.sample_evaluation import SampleEvaluation
from keras_ldm.conditioning import ClassEmbedder, Conditioner
from keras_ldm.images import NonFiniteImagesError
from keras_ldm.metrics.evaluation import evaluate_images
from keras_ldm.metrics.feature_extraction import extract_features
from keras_ldm.tasks import LatentDiffusion
from tests.metrics.tiny_features import TinyFeatures
from tests.tasks.tiny import (
    TinyAutoencoder,
    TinyUNet,
    autoencoder_task,
    captions,
    images,
    largest_difference,
    latent_diffusion,
    pairs,
    state,
    text_to_image,
)

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]

DRAWING = {"num_steps": 2, "num_images": 8}


@pytest.fixture(scope="module")
def network() -> TinyFeatures:
    return TinyFeatures()


@pytest.fixture(scope="module")
def real(network):
    return extract_features(network, images(20, seed=9), progress=False)


def fit(task, callbacks, data=None, **options):
    data = images() if data is None else data
    return task.fit(data, batch_size=5, verbose=0, callbacks=callbacks, **{"epochs": 1, **options})


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def cells(path, columns, size=16):
    """The pictures of a sheet, row by row."""
    sheet = np.asarray(Image.open(path))
    rows = sheet.shape[0] // size
    return sheet.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)


# === What is drawn and measured ===


def test_the_numbers_are_those_of_what_the_model_draws(network, real, tmp_path) -> None:
    task = latent_diffusion()
    watcher = SampleEvaluation(
        None, tmp_path / "new", reference=real, network=network, metrics=("kid", "pr"), columns=3,
        seed=4, feature_batch_size=3, sampler="euler", **DRAWING,
    )  # fmt: skip
    history = fit(task, [watcher]).history
    drawn = task.generate(num_images=8, num_steps=2, sampler="euler", seed=4, progress=False)
    features = extract_features(network, drawn, progress=False)
    expected = evaluate_images(features, real, ("kid", "pr"))
    assert watcher.evaluation.provenance == expected.provenance
    for name, value in expected.values.items():
        assert history[name] == [pytest.approx(value, rel=1e-4, abs=1e-6)]
    assert names(tmp_path / "new") == ["metrics.csv", "samples_0001.png"]
    shown = cells(tmp_path / "new" / "samples_0001.png", 3)
    assert shown.shape[0] == 9 and np.array_equal(shown[:8], drawn) and (shown[8] == 255).all()
    header, row = table(tmp_path / "new" / "metrics.csv")
    measured = ["kid", "kid_std", "precision", "recall"]
    assert header == ["epoch", *measured, "features", "images", "reference_images"]
    assert row[0] == "1" and [float(x) for x in row[1:5]] == [history[name][0] for name in measured]
    assert row[5:] == ["; ".join(features.descriptions.values()), "8", str(real.count)]


def test_noise_is_the_same_in_each_epoch(tmp_path) -> None:
    """A model that does not learn draws the same pictures; only the first ones are shown."""
    task = latent_diffusion()
    task.compile(keras.optimizers.SGD(0.0))
    fit(task, [SampleEvaluation(None, tmp_path, shown=2, **DRAWING)], epochs=2)
    a, b = (np.asarray(Image.open(tmp_path / f"samples_{i:04d}.png")) for i in (1, 2))
    assert a.shape == (16, 32, 3) and a.std() > 3
    assert np.array_equal(a, b)


def test_without_a_reference_it_only_draws(tmp_path) -> None:
    history = fit(latent_diffusion(), [SampleEvaluation(None, tmp_path, **DRAWING)])
    assert names(tmp_path) == ["samples_0001.png"] and set(history.history) == {"loss"}


def test_prompts_come_round_again(tmp_path) -> None:
    task, prompts = text_to_image(), captions(3)
    options = {"guidance_scale": 3.0, "num_steps": 2, "batch_size": 2}
    negative = captions(1, seed=5)
    watcher = SampleEvaluation(
        prompts, tmp_path, num_images=5, columns=5, negative_prompts=negative, **options
    )
    fit(task, [watcher], pairs())
    expected = task.generate(
        prompts[[0, 1, 2, 0, 1]], negative_prompts=negative, seed=0, progress=False, **options
    )
    assert np.array_equal(cells(tmp_path / "samples_0001.png", 5), expected)
    by_name = SampleEvaluation({"caption": prompts}, tmp_path, num_steps=2)
    assert by_name.num_images == 3
    fit(task, [by_name], pairs(), epochs=2, initial_epoch=1)
    assert names(tmp_path) == ["samples_0001.png", "samples_0002.png"]


def test_conditions_by_name(tmp_path) -> None:
    conditioner = Conditioner({"class_label": ClassEmbedder(4, 8, dropout=0.2)})
    task = LatentDiffusion(TinyAutoencoder(), TinyUNet(context_dim=8), conditioner)
    labels = np.arange(10) % 3
    watcher = SampleEvaluation({"class_label": [0, 2]}, tmp_path, num_images=3, columns=3, num_steps=2)
    fit(task, [watcher], {"image": images(), "class_label": labels})
    expected = task.generate({"class_label": [0, 2, 0]}, num_steps=2, seed=0, progress=False)
    assert np.array_equal(cells(tmp_path / "samples_0001.png", 3), expected)


# === When, and where the numbers go ===


def test_epochs_that_are_not_measured_have_nan(network, real, tmp_path) -> None:
    watchers = [
        SampleEvaluation(
            None, tmp_path, reference=real, network=network, metrics=["kid"], every=2, **DRAWING
        ),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
    ]
    history = fit(latent_diffusion(), watchers, epochs=3).history
    assert {name: len(values) for name, values in history.items()} == {"loss": 3, "kid": 3, "kid_std": 3}
    assert np.isnan(history["kid"]).tolist() == [True, False, False]
    header, *rows = table(tmp_path / "log.csv")
    logged = [float(row[header.index("kid")]) for row in rows]
    assert np.array_equal(logged, history["kid"], equal_nan=True)
    assert [row[0] for row in table(tmp_path / "metrics.csv")] == ["epoch", "2", "3"]


def test_a_model_that_gives_nan_is_not_measured(network, real, tmp_path) -> None:
    """It would draw black pictures, which may be close to real ones."""
    task = latent_diffusion()
    fit(task, [], epochs=1)
    for weight in task.unet.trainable_variables:
        weight.assign(weight * float("nan"))
    task.ema.restart() if task.ema is not None else None
    with pytest.raises(NonFiniteImagesError, match="finite images. Received: .* in 2 of 2"):
        task.generate(num_images=2, num_steps=2, progress=False)
    callback = SampleEvaluation(
        folder=tmp_path, num_images=4, reference=real, network=network, metrics=("kid",), num_steps=2
    )
    with pytest.warns(UserWarning, match="No picture of samples after epoch 1"):
        history = fit(task, [callback], epochs=1)
    assert np.isnan(history.history["kid"]).all() and callback.evaluation is None
    assert not list(tmp_path.glob("*.png"))
    assert [row[:3] for row in table(tmp_path / "metrics.csv")[1:]] == [["1", "nan", "nan"]]


def test_the_last_epoch_of_a_training_that_is_stopped(network, real, tmp_path) -> None:
    """Known as the last where the callback that stops it comes first; measured in any case."""

    def stopping():
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: setattr(task, "stop_training", True)
        )

    for folder, order in (("first", 1), ("last", -1)):
        task = latent_diffusion()
        watcher = SampleEvaluation(
            None, tmp_path / folder, reference=real, network=network, metrics=["kid"], every=5,
            log_dir=tmp_path / folder / "logs", **DRAWING,
        )  # fmt: skip
        history = fit(task, [stopping(), watcher][::order], epochs=9).history
        kid = watcher.evaluation.values["kid"]
        assert table(tmp_path / folder / "metrics.csv")[1][:2] == ["1", repr(kid)]
        events = EventAccumulator(str(tmp_path / folder / "logs" / "pictures"))
        events.Reload()
        assert [event.step for event in events.Scalars("samples/kid")] == [1]
        assert history["kid"] == [kid] if folder == "first" else np.isnan(history["kid"]).all()


def test_numbers_and_pictures_in_tensorboard(network, real, tmp_path) -> None:
    watcher = SampleEvaluation(
        None, log_dir=tmp_path, reference=real, network=network, metrics=("kid", "pr"), **DRAWING
    )
    history = fit(latent_diffusion(), [watcher], epochs=2).history
    events = EventAccumulator(str(tmp_path / "pictures"))
    events.Reload()
    assert [event.step for event in events.Images("samples")] == [1, 2]
    for name in ("kid", "kid_std", "precision", "recall"):
        found = events.Scalars(f"samples/{name}")
        assert [event.step for event in found] == [1, 2]
        assert [event.value for event in found] == pytest.approx(history[name], rel=1e-6)


def test_a_training_that_is_continued_continues_the_file(network, real, tmp_path) -> None:
    def watcher():
        return SampleEvaluation(
            None, tmp_path, reference=real, network=network, metrics=["kid"], **DRAWING
        )

    task, path = latent_diffusion(), tmp_path / "metrics.csv"
    fit(task, [watcher()], epochs=2)
    before = table(path)
    with open(path, "a") as file:
        file.write("3,0.12")  # the process ended here
    fit(task, [watcher()], epochs=4, initial_epoch=2)
    after = table(path)
    assert after[:3] == before and [row[0] for row in after] == ["epoch", "1", "2", "3", "4"]
    fit(task, [watcher()], epochs=3, initial_epoch=2)  # set back by an epoch
    assert [row[0] for row in table(path)] == ["epoch", "1", "2", "3"]
    other = SampleEvaluation(None, tmp_path, reference=real, network=network, metrics=["pr"], **DRAWING)
    with pytest.raises(ValueError, match=r"\['epoch', 'precision', 'recall', .*'kid'"):
        fit(task, [other])
    more = SampleEvaluation(
        None, tmp_path, reference=real, network=network, metrics=["kid"], **{**DRAWING, "num_images": 9}
    )
    with pytest.raises(ValueError, match="Expected rows measured with .*'images': '9'.*'images': '8'"):
        fit(task, [more])


def test_files_of_measures_that_are_damaged(tmp_path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv", ["kid"])
    for text in ("", "epo", "epoch,k"):
        (tmp_path / "metrics.csv").write_text(text)
        assert file.rows() == []
        file.write(3, {"kid": 0.5})
        assert table(tmp_path / "metrics.csv") == [["epoch", "kid"], ["3", "0.5"]]
    for row in ("4", "x,1.0", "4,1.0,2.0"):
        (tmp_path / "metrics.csv").write_text(f"epoch,kid\n{row}\n")
        with pytest.raises(ValueError, match="rows of"):
            file.write(5, {"kid": 0.5})


# === Training goes on as without ===


@pytest.mark.usefixtures("traced")
def test_training_is_not_disturbed(network, real, tmp_path) -> None:
    """Weights, averages, optimizer, every seed's state; the random states of Keras, NumPy, Python."""

    def train(callbacks):
        task = text_to_image(dropout=0.3)
        np.random.seed(5)
        random.seed(5)
        fit(task, callbacks, pairs(), epochs=2, validation_data=pairs(4))
        drawn = [
            np.asarray(keras.ops.convert_to_numpy(keras.random.normal((4,)))), np.random.rand(4),
            np.array([random.random()]),
        ]  # fmt: skip
        return state(task), drawn

    watcher = SampleEvaluation(
        captions(4), tmp_path, reference=real, network=network, metrics=["kid"], num_steps=2
    )
    plain, expected = train([])
    watched, drawn = train([watcher])
    assert len(table(tmp_path / "metrics.csv")) == 3
    difference, name = largest_difference(plain, watched)
    assert difference == 0, name
    assert any("seed_generator_state" in name for name in plain)
    for a, b in zip(expected, drawn, strict=True):
        assert np.array_equal(a, b)


# === What is refused ===


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sampler": "eular"}, "Expected a sampler among"),
        ({"num_steps": 0}, "num_steps"),
        ({"guidance_scale": 3.0}, "guidance_scale=1"),
        ({"etaa": 1.0}, "etaa"),
        ({"image_size": 15}, "divides by 2"),
    ],
)
def test_options_are_tried_before_training(options, match, tmp_path) -> None:
    task = latent_diffusion()
    with pytest.raises(ValueError, match=match):
        fit(task, [SampleEvaluation(None, tmp_path, **{**DRAWING, **options})])
    assert int(task.batches) == 0 and not names(tmp_path)


def test_models_that_do_not_draw_what_is_asked(tmp_path) -> None:
    for task, conditions, match in (
        (autoencoder_task(), None, "task that draws.*AutoencoderTask"),
        (latent_diffusion(), ["red heart"], "by name.*prompts for a LatentDiffusion"),
        (latent_diffusion(), {"class_label": [1]}, "unconditional"),
        (text_to_image(), None, "`conditions` with .'caption'"),
        (text_to_image(), {"class_label": [1]}, "'caption'"),
    ):
        with pytest.raises(ValueError, match=match):
            fit(task, [SampleEvaluation(conditions, tmp_path, num_steps=2)], pairs())
    assert not names(tmp_path)


def test_bad_arguments(network, real, tmp_path) -> None:
    for options, match in (
        ({"num_images": 0}, "`num_images` >= 1. Received: 0"),
        ({"columns": 0}, "`columns` >= 1"),
        ({"shown": 0}, "`shown` >= 1"),
        ({"seed": -1}, "`seed`.*-1"),
        ({"seed": None}, "`seed`.*None"),
        ({"output": "latents"}, r"Received: \['output'\]"),
        ({"reference": real}, "`network` to measure.*'fid', 'kid'.*None"),
        ({"network": network, "metrics": ["kid"]}, "'kid'.*Received: None"),
        ({"reference": real, "network": TinyFeatures(1)}, "the same features"),
        ({"reference": real, "network": network, "metrics": ["fud"]}, "'fud'"),
        ({"reference": real, "network": network, "metrics": "sfid"}, "InceptionV3"),
        ({"reference": real, "network": network, "num_images": 3, "metrics": "pr"}, "at least 4"),
        ({"reference": real.statistics(), "network": network, "metrics": "kid"}, "statistics"),
    ):
        with pytest.raises(ValueError, match=match):
            SampleEvaluation(None, tmp_path, **options)
    with pytest.raises(ValueError, match="one number of conditions"):
        SampleEvaluation({"a": [1, 2], "b": [1]}, tmp_path)
    with pytest.raises(ValueError, match="one number of conditions"):
        SampleEvaluation([], tmp_path)
    assert SampleEvaluation(None, tmp_path, reference=real, network=network).metrics == ("fid", "kid")
    of_statistics = SampleEvaluation(None, tmp_path, reference=real.statistics(), network=network)
    assert of_statistics.metrics == ("fid",)
