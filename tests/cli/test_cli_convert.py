"""`keras-ldm convert`: what comes back from each kind of file, and what is refused."""

import shutil

import keras
import numpy as np
import pytest

import keras_ldm
from keras_ldm.callbacks import Checkpoints
from keras_ldm.cli.main import main
from keras_ldm.files import write_ckpt
from keras_ldm.models import AutoencoderKL
from keras_ldm.tasks import AutoencoderTask
from keras_ldm.weights import compvis
from keras_ldm.weights.compvis.names import autoencoder_names
from tests.golden.original import FOLDER, Original, deviation
from tests.tasks.tiny import images, real_autoencoder_task

pytestmark = pytest.mark.backend


@pytest.fixture
def original(tmp_path):
    """A checkpoint of the original code, with its configuration."""
    path = tmp_path / "original" / "model.ckpt"
    path.parent.mkdir()
    write_ckpt(path, Original("kl-f4").checkpoint())
    shutil.copy(FOLDER / "kl-f4" / "config.yaml", path.with_name("config.yaml"))
    return path


def test_from_the_original_and_back(original, tmp_path, capsys) -> None:
    ours, theirs = tmp_path / "ours.keras", tmp_path / "again.safetensors"
    assert main(["convert", str(original), "-o", str(ours)]) == 0
    assert capsys.readouterr().out.strip() == str(ours)
    known = Original("kl-f4")
    model = keras_ldm.tasks.load(ours)
    assert deviation(model.encode(known["x"]).mean, known["mean"]) < 1e-4
    assert main(["convert", str(ours), "-o", str(theirs)]) == 0
    again = compvis.load(theirs, original.with_name("config.yaml"))
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    elsewhere = original.with_name("config.yaml").rename(tmp_path / "other.yaml")
    assert main(["convert", str(original), "-o", str(ours)]) == 2  # there is such a file
    assert main(["convert", str(original), "-o", str(ours), "--overwrite"]) == 2  # no configuration
    arguments = ["convert", str(original), "-o", str(ours), "--overwrite", "--config", str(elsewhere)]
    assert main(arguments) == 0


def test_from_a_training(tmp_path) -> None:
    """A checkpoint becomes a task, and its averaged weights a checkpoint of the original."""
    task = real_autoencoder_task(ema_decay=0.5)
    task.compile(keras.optimizers.Adam(1e-2))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    task.fit(images(4), batch_size=2, verbose=0, callbacks=[checkpoints])
    saved, written = tmp_path / "task.keras", tmp_path / "model.ckpt"
    assert main(["convert", str(checkpoints.newest), "-o", str(saved)]) == 0
    back = AutoencoderTask.from_preset(saved)
    for a, b in zip(task.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert main(["convert", str(saved), "-o", str(written)]) == 0
    found = AutoencoderKL.from_config(task.autoencoder.get_config())
    autoencoder_names(found).read_into(keras_ldm.files.read_tensors(written))
    average, last = task.averaged_autoencoder().get_weights(), task.autoencoder.get_weights()
    for a, b in zip(found.get_weights(), average, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(average, last, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.ckpt", "-o", "a.keras"], "Expected a file to read. Received: 'nothing.ckpt'"),
        (["{source}", "-o", "a.bin"], "ending in .keras, .ckpt or .safetensors. Received: 'a.bin'"),
        (["{source}", "-o", "no/folder/a.keras"], "a folder that exists. Received: 'no/folder'"),
        (["{source}", "-o", "a.keras", "--config", "c.yaml"], "Expected no --config"),
        (["{broken}", "-o", "a.keras"], "Expected a .keras file"),
    ],
)
def test_what_is_refused(arguments, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"source": tmp_path / "task.keras", "broken": tmp_path / "broken.keras"}
    real_autoencoder_task().save(files["source"])
    files["broken"].write_bytes(b"no")
    assert main(["convert", *(argument.format(**files) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("a.*"))
