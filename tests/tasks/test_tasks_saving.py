"""Files: everything comes back, training goes on as if nothing had happened, damage is named."""

import os
import zipfile

import keras
import numpy as np
import pytest

from keras_ldm.tasks import AutoencoderTask, LatentDiffusion, Task, TextToImage, load
from tests.tasks.tiny import (
    autoencoder_task,
    captions,
    images,
    largest_difference,
    latent_diffusion,
    numpy,
    pairs,
    real_autoencoder_task,
    real_text_to_image,
    state,
    text_to_image,
)

pytestmark = pytest.mark.usefixtures("eagerly")

BATCH = 4
TOLERANCE = {"tensorflow": 0.0, "jax": 1e-6, "torch": 1e-6}[keras.backend.backend()]


# === Continuing ===


def check_continues(task, data, folder, epochs=2):
    """Trains, saves, and trains on: the task itself and what comes back from the file."""
    task.fit(data, batch_size=BATCH, epochs=1, verbose=0)
    task.save(folder / "task.keras")
    saved = state(task)
    loaded = keras.saving.load_model(folder / "task.keras")
    assert type(loaded) is type(task)
    assert largest_difference(state(task), saved)[0] == 0.0
    assert largest_difference(state(loaded), saved)[0] == 0.0
    histories = [
        each.fit(data, batch_size=BATCH, epochs=epochs, verbose=0).history["loss"]
        for each in (task, loaded)
    ]
    assert np.allclose(*histories, rtol=TOLERANCE, atol=0)
    difference, where = largest_difference(state(task), state(loaded))
    assert difference <= TOLERANCE, where
    assert largest_difference(state(task), saved)[0] > 1e-3
    return loaded


@pytest.mark.backend
@pytest.mark.usefixtures("traced")
def test_text_to_image_continues_as_the_unsaved_one(tmp_path) -> None:
    task = real_text_to_image(dropout=0.2, caption_dropout=0.4)
    states = [v for v in task.variables if v.name == "seed_generator_state"]
    assert len(states) > 4  # training, evaluation, captions, dropouts
    task.compile(keras.optimizers.AdamW(1e-2, weight_decay=1e-2, epsilon=1e-8, global_clipnorm=1.0))
    check_continues(task, pairs(), tmp_path)


@pytest.mark.backend
def test_autoencoder_continues_as_the_unsaved_one(tmp_path) -> None:
    check_continues(autoencoder_task(), images(), tmp_path)


def test_real_autoencoder_continues_as_the_unsaved_one(tmp_path) -> None:
    check_continues(real_autoencoder_task(), images(), tmp_path)


@pytest.mark.backend
def test_accumulation_goes_on_in_the_middle(tmp_path) -> None:
    task = text_to_image(dropout=0.2)
    task.compile(keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2))
    loaded = check_continues(task, pairs(), tmp_path, epochs=1)  # saved after three batches
    assert int(loaded.ema.updates) == 2
    assert int(loaded.ema.pending) == 2


@pytest.mark.backend
def test_checkpoint_of_an_interrupted_run_continues_the_uninterrupted_one(tmp_path) -> None:
    whole = text_to_image(dropout=0.2)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "epoch{epoch}.keras", verbose=0)
    arguments = {
        "batch_size": BATCH,
        "validation_data": pairs(4, seed=5),
        "epochs": 4,
        "verbose": 0,
    }
    history = whole.fit(pairs(), callbacks=[checkpoint], **arguments)
    assert sorted(os.listdir(tmp_path)) == [f"epoch{i}.keras" for i in (1, 2, 3, 4)]
    resumed = load(tmp_path / "epoch2.keras")
    assert int(resumed.batches) == 6
    rest = resumed.fit(pairs(), initial_epoch=2, **arguments)
    for key in ("loss", "val_loss"):
        assert np.allclose(rest.history[key], history.history[key][2:], rtol=TOLERANCE, atol=0)
    difference, where = largest_difference(state(whole), state(resumed))
    assert difference <= TOLERANCE, where


@pytest.mark.backend
def test_steps_continue_in_the_middle_of_a_pass(tmp_path) -> None:
    def steps(task, epochs):
        return task.fit(images(), batch_size=BATCH, steps_per_epoch=2, epochs=epochs, verbose=0).history[
            "loss"
        ]

    whole = steps(autoencoder_task(), 4)
    task = autoencoder_task()
    assert steps(task, 1) == whole[:1]
    task.save(tmp_path / "task.keras")
    assert np.allclose(steps(load(tmp_path / "task.keras"), 3), whole[1:], rtol=TOLERANCE, atol=0)


@pytest.mark.backend
def test_weights_alone_keep_seeds_and_average(tmp_path) -> None:
    task = text_to_image(dropout=0.2)
    task.fit(pairs(), batch_size=BATCH, verbose=0)
    task.save_weights(tmp_path / "task.weights.h5")
    other = text_to_image(seed=1, dropout=0.2)
    other.load_weights(tmp_path / "task.weights.h5")
    ours, theirs = ({v.path: numpy(v) for v in t.variables} for t in (task, other))
    assert [v.tolist() for v in ours.values()] == [v.tolist() for v in theirs.values()]


# === What comes back ===


@pytest.mark.backend
def test_loaded_task_draws_the_same_images_and_measures_the_same(tmp_path) -> None:
    task = text_to_image(
        parameterization="v", timesteps="stratified", weighting="min_snr", loss="l1", per_channel=True
    )
    task.fit(pairs(), batch_size=BATCH, verbose=0)
    task.save(tmp_path / "task.keras")
    loaded = TextToImage.from_preset(tmp_path / "task.keras")

    def look(t):
        drawn = t.generate(captions(2), num_steps=3, seed=4, progress=False)
        return drawn, t.evaluate(pairs(4), batch_size=2, verbose=0)

    (drawn, loss), (drawn_again, loss_again) = look(task), look(loaded)
    assert drawn.shape == (2, 16, 16, 3)
    assert (drawn == drawn_again).all()
    assert loss == pytest.approx(loss_again, rel=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("make", [autoencoder_task, latent_diffusion, text_to_image])
def test_untrained_task_comes_back(make, tmp_path) -> None:
    task = make()
    task.save(tmp_path / "task.keras")
    loaded = load(tmp_path / "task.keras")
    assert loaded.get_config() == task.get_config()
    assert [numpy(v).tolist() for v in loaded.variables] == [numpy(v).tolist() for v in task.variables]
    assert len(loaded.trainable_variables) == len(task.trainable_variables)


@pytest.mark.backend
def test_every_argument_comes_back(tmp_path) -> None:
    parts = text_to_image()
    task = TextToImage(
        parts.autoencoder,
        parts.unet,
        parts.conditioner.embedders["caption"].encoder,
        tokenizer=None,
        parameterization="x0",
        weighting="min_snr",
        timesteps="stratified",
        loss="l1",
        latent_scale=0.5,
        ema_decay=0.9,
        image_size=(16, 32),
        caption_dropout=0.25,
        seed=3,
        name="mine",
    )
    task.save(tmp_path / "task.keras")
    loaded = load(tmp_path / "task.keras")
    assert loaded.parameterization == "x0"
    assert loaded.weighting.gamma == 5.0
    assert loaded.timesteps == "stratified"
    assert loaded.loss_name == "l1"
    assert loaded.latent_space.scale == 0.5
    assert loaded.ema_decay == loaded.ema.max_decay == 0.9
    assert loaded.image_size == (16, 32)
    assert loaded.seed == 3
    assert loaded.name == "mine"
    embedder = loaded.conditioner.embedders["caption"]
    assert embedder.dropout_rate == 0.25
    assert embedder.tokenizer is None
    assert np.array_equal(loaded.schedule.betas, task.schedule.betas)


# === Writing ===


@pytest.mark.backend
@pytest.mark.parametrize("name", ["task.h5", "task", "task.keras.zip", ""])
def test_path_that_is_no_keras_file(name, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"ends in '\.keras'.*Received: "):
        autoencoder_task().save(tmp_path / name)
    assert not os.listdir(tmp_path)


@pytest.mark.backend
def test_folders_are_made_and_nothing_is_overwritten_unasked(tmp_path) -> None:
    task, path = autoencoder_task(), tmp_path / "a" / "b" / "task.keras"
    task.save(str(path))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="task.keras"):
        task.save(path, overwrite=False)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["task.keras"]


@pytest.mark.backend
def test_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    task, path = autoencoder_task(), tmp_path / "task.keras"
    task.save(path)
    before = path.read_bytes()

    def fail(self, store):
        raise OSError("No space left on device")

    monkeypatch.setattr(type(task.autoencoder.to_images), "save_own_variables", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            task.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["task.keras"]


# === Reading what is no such file ===


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "task.keras"
    autoencoder_task().save(path)
    return path


@pytest.mark.backend
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_truncated_file(share, saved, tmp_path) -> None:
    whole = saved.read_bytes()
    path = tmp_path / "cut.keras"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"Expected a \.keras file.*cut\.keras.*truncated"):
        load(path)


@pytest.mark.backend
def test_damaged_file(saved, tmp_path) -> None:
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        place = archive.getinfo("model.weights.h5").header_offset + 3000
    content[place] ^= 0xFF
    path = tmp_path / "damaged.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'model.weights.h5' is damaged"):
        load(path)


@pytest.mark.backend
def test_foreign_files(tmp_path) -> None:
    archive = tmp_path / "foreign.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(ValueError, match=r"config\.json.*are missing"):
        load(archive)
    text = tmp_path / "text.keras"
    text.write_text("weights go here")
    with pytest.raises(ValueError, match=r"Expected a \.keras file.*something else"):
        TextToImage.from_preset(text)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", "")
        file.writestr("metadata.json", "{}")
    with pytest.raises(ValueError, match=r"foreign\.keras', which cannot be loaded"):
        load(archive)


@pytest.mark.backend
@pytest.mark.parametrize("name", ["missing.keras", "folder.keras"])
def test_missing_file(name, tmp_path) -> None:
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(FileNotFoundError, match=f"Expected a saved model.*{name}"):
        load(tmp_path / name)


@pytest.mark.backend
def test_file_of_another_kind_of_task(saved) -> None:
    assert isinstance(AutoencoderTask.from_preset(saved), AutoencoderTask)
    assert isinstance(Task.from_preset(str(saved)), AutoencoderTask)
    with pytest.raises(ValueError, match=r"Expected a TextToImage.*task\.keras.*AutoencoderTask"):
        TextToImage.from_preset(saved)


@pytest.mark.backend
def test_unknown_preset_lists_those_there_are() -> None:
    expected = r"\['emoji', 'small_autoencoder', 'small_text_to_image'\].*Received: 'stable'"
    with pytest.raises(ValueError, match=expected):
        LatentDiffusion.from_preset("stable")
