"""`keras-ldm train`: from a file or from flags, begun and gone on with."""

import os

import keras
import numpy as np
import pytest

from keras_ldm.cli import build_parser, main
from keras_ldm.cli.training.plan import read_plan
from keras_ldm.data import load_emoji
from keras_ldm.tasks import AutoencoderTask, TextToImage, load
from tests.tasks.tiny import autoencoder_task, images, largest_difference, numpy, state

CONFIG = """
import keras
from tests.tasks.tiny import autoencoder_task, images

def make_task():
    task = autoencoder_task()
    eagerly = keras.backend.backend() == "tensorflow"  # tracing takes longer than the training
    task.compile(keras.optimizers.Adam(1e-2), run_eagerly=eagerly)
    return task

def make_data():
    return images()

def make_validation_data():
    return images(2, seed=5)

fit = {"epochs": 2, "batch_size": 4, "verbose": 0, "validation_batch_size": 2}
"""


@pytest.fixture
def config(tmp_path):
    def write(text=CONFIG):
        path = tmp_path / "config.py"
        path.write_text(text)
        return str(path)

    return write


def fails(capsys, *arguments):
    capsys.readouterr()
    assert main(["train", *arguments]) == 2
    return capsys.readouterr().err


# === A file ===


@pytest.mark.backend
def test_trains_as_fit_does_and_goes_on(config, tmp_path, capsys) -> None:
    output = tmp_path / "runs" / "new"
    assert main(["train", config(), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == str(output / "model.keras")
    assert "val_loss: " in said
    assert main(["train", config(), "--output", str(output), "--epochs", "3"]) == 0
    assert "Going on from" in capsys.readouterr().out
    expected = autoencoder_task()
    expected.compile(keras.optimizers.Adam(1e-2), run_eagerly=keras.backend.backend() == "tensorflow")
    expected.fit(images(), batch_size=4, epochs=3, verbose=0)
    difference, where = largest_difference(state(expected), state(load(output / "model.keras")))
    assert difference <= 1e-6, where
    assert sorted(os.listdir(output)) == ["checkpoints", "model.keras"]
    assert sorted(os.listdir(output / "checkpoints")) == [
        ".lock",
        ".unfinished",
        "checkpoint-00000006.safetensors",
        "checkpoint-00000009.safetensors",
        "task.keras",
    ]


def test_flags_come_before_the_file(config, tmp_path, capsys) -> None:
    flags = ["--epochs", "3", "--batch-size", "5", "--steps-per-epoch", "1", "--keep", "1"]
    best = ["--keep-best", "1", "--monitor", "loss", "--mode", "max"]
    arguments = [config(), "--output", str(tmp_path / "out"), *flags, *best]
    assert main(["train", *arguments]) == 0
    assert int(load(tmp_path / "out" / "model.keras").batches) == 3
    names = {name for name in os.listdir(tmp_path / "out" / "checkpoints") if name[0] == "c"}
    assert "checkpoint-00000003.safetensors" in names
    assert "best checkpoint by loss: " in capsys.readouterr().out


def test_callbacks_of_the_file_and_tensorboard(config, tmp_path) -> None:
    text = (
        CONFIG
        + f"""
def make_callbacks():
    return [keras.callbacks.CSVLogger({str(tmp_path / "log.csv")!r})]
"""
    )
    log = ["--log-dir", str(tmp_path / "board")] if keras.backend.backend() == "tensorflow" else []
    assert main(["train", config(text), "--output", str(tmp_path / "out"), *log]) == 0
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert (tmp_path / "board").is_dir() == bool(log)


def test_ctrl_c(config, tmp_path, capsys) -> None:
    text = (
        CONFIG
        + """
class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

def make_callbacks():
    return [Stop()]
"""
    )
    assert main(["train", config(text), "--output", str(tmp_path / "out")]) == 130
    said = capsys.readouterr().out
    assert "The same command goes on from" in said
    assert "checkpoint-00000003.safetensors" in said


# === Trying out ===


@pytest.mark.backend
def test_dry_run_counts_and_writes_nothing(config, tmp_path, capsys) -> None:
    path = config()
    assert main(["train", path, "--dry-run", "--epochs", "7"]) == 0
    said = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    said = {name.strip(): value.strip() for name, value in said.items()}
    task = autoencoder_task()
    count = sum(int(np.prod(v.shape)) for v in task.trainable_variables)
    assert said["task"] == "AutoencoderTask"
    assert said["gradients"] == f"{4 * count / 2**20:,.1f} MiB"
    assert said["batch: image"] == "(4, 16, 16, 3)"
    assert said["an epoch"].startswith("3 batches, about ")
    assert "second step" in said
    assert "7 epochs" in said
    assert np.isfinite(float(said["loss"]))
    assert os.listdir(tmp_path) == ["config.py"]


# === Flags alone ===


def test_a_preset_on_pictures(tmp_path) -> None:
    emoji = load_emoji()
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(emoji.images[number]).save(folder / f"{number}.png")
    arguments = ["--data", str(folder), "--image-size", "32", "--batch-size", "4", "--output", "out"]

    def plan_of(*more):
        return read_plan(build_parser().parse_args(["train", *more, *arguments]))

    plan = plan_of("--preset", "small_autoencoder")
    task, data = plan.make_task(), plan.make_data()
    assert isinstance(task, AutoencoderTask)
    assert data["image"].shape == (4, 32, 32, 3)
    assert len(data["caption"]) == 4
    assert plan.fit == {"batch_size": 4}
    task.preprocess(data)  # it takes them
    task.save(tmp_path / "first.keras")
    stage = ["--first-stage", str(tmp_path / "first.keras")]
    task = plan_of("--preset", "small_text_to_image", *stage).make_task()
    assert isinstance(task, TextToImage)
    kernel = load(tmp_path / "first.keras").autoencoder.to_moments.kernel
    assert np.array_equal(numpy(task.autoencoder.to_moments.kernel), numpy(kernel))


# === What is wrong ===


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("def make_data", "def data"), r"Expected a function make_data() in "),
        (("def make_task", "make_task = 3\ndef task"), "Received: 3"),
        (("def make_validation_data", "def make_validation"), "Received: ['make_validation']"),
        (("verbose", "verbosity"), "Received: {'epochs': 2, 'batch_size': 4, 'verbosity': 0"),
        (("fit = {", "fit = [", "}", "]"), "as a dictionary of some of"),
        (("return task", "return task.autoencoder"), "make_task() to give a keras_ldm task"),
    ],
)
def test_a_file_that_makes_no_sense(change, message, config, tmp_path, capsys) -> None:
    text = CONFIG
    if len(change) == 4:
        text = text[: text.index("fit = {")] + 'fit = ["epochs"]\n'
    else:
        assert change[0] in text
        text = text.replace(*change)
    assert message in fails(capsys, config(text), "--output", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py", "--output", "out"], "Expected a Python file. Received: 'missing.py'"),
        (["CONFIG"], "Expected --output"),
        (["CONFIG", "--output", "out", "--data", "emoji"], "--data with --preset alone"),
        (["--preset", "small_autoencoder", "--output", "out"], "Expected --data with --preset"),
        (["--preset", "small_autoencoder", "--data", "nowhere", "--output", "out"], "nowhere"),
        (
            ["--preset", "small_text_to_image", "--data", "emoji", "--output", "out"],
            "Expected --first-stage with --preset small_text_to_image",
        ),
        (
            ["--preset", "emoji", "--data", "emoji", "--image-size", "32", "--output", "out"],
            "Expected --image-size 64 with emoji. Received: 32",
        ),
        (["--preset", "stable", "--data", "emoji", "--output", "out"], "Received: 'stable'"),
        (["CONFIG", "--output", "out", "--keep", "0"], "`keep` as an int >= 1"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message, config, tmp_path, monkeypatch, capsys) -> None:
    path = config()
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *[path if x == "CONFIG" else x for x in arguments])
    assert not (tmp_path / "out").exists()


def test_another_backend_than_the_one_at_work(config, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    other = "jax" if keras.backend.backend() != "jax" else "torch"
    said = fails(capsys, config(), "--output", str(tmp_path / "out"), "--backend", other)
    assert "before Keras is imported" in said


@pytest.mark.backend
def test_a_checkpoint_draws(tmp_path, capsys) -> None:
    keras.utils.set_random_seed(0)
    config = tmp_path / "config.py"
    config.write_text(
        """
import numpy as np
from keras_ldm.models import TransformerTextEncoder
from keras_ldm.tasks import TextToImage
from tests.tasks.tiny import TinyAutoencoder, TinyUNet, images

def make_task():
    encoder = TransformerTextEncoder(dim=8, num_layers=1, max_length=6, num_heads=2, head_dim=4)
    return TextToImage(TinyAutoencoder(), TinyUNet(context_dim=8), encoder, image_size=16)

def make_data():
    return {"image": images(4), "caption": np.array(["a", "b", "c", "d"], object)}

fit = {"batch_size": 4, "verbose": 0}
"""
    )
    assert main(["train", str(config), "--output", str(tmp_path / "out")]) == 0
    picture = tmp_path / "picture.png"
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-00000001.safetensors"
    drawn = ["generate", "a", "--num-steps", "2", "-o", str(picture)]
    assert main([*drawn, "--model", str(checkpoint)]) == 0
    first = picture.read_bytes()
    assert main([*drawn, "--model", str(tmp_path / "out" / "model.keras")]) == 0
    assert picture.read_bytes() == first
    assert isinstance(load(checkpoint), TextToImage)
