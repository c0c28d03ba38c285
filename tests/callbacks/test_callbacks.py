"""Pictures of a training: what is on them, when they come, as files and in TensorBoard."""

import sys

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_ldm.callbacks import CodebookHistogram, ReconstructionGrid
from keras_ldm.images import to_uint8
from keras_ldm.models import VQModel
from keras_ldm.tasks import AutoencoderTask
from tests.tasks.tiny import TinyAutoencoder, autoencoder_task, images

pytestmark = [pytest.mark.backend, pytest.mark.usefixtures("eagerly")]

CODES = 8


@pytest.fixture
def vq_task() -> AutoencoderTask:
    keras.utils.set_random_seed(0)
    model = VQModel((8,), 2, CODES, num_res_blocks=1, groups=4, middle_attention=False)
    task = AutoencoderTask(model)
    task.compile(keras.optimizers.Adam(1e-3))
    return task


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))


def test_reconstructions_stand_under_their_images(tmp_path) -> None:
    task, shown = autoencoder_task(), images(5)
    grid = ReconstructionGrid(shown, tmp_path / "new" / "folder", columns=3)
    task.fit(images(), batch_size=5, epochs=1, verbose=0, callbacks=[grid])
    (file,) = (tmp_path / "new" / "folder").iterdir()
    assert file.name == "reconstructions_0001.png"
    sheet = np.asarray(Image.open(file)).reshape(2, 2, 16, 3, 16, 3)  # rows of pairs, columns
    expected = to_uint8(task.predict(shown, verbose=0))
    for i in range(5):
        row, column = divmod(i, 3)
        assert np.array_equal(sheet[row, 0, :, column], shown[i])
        assert np.abs(sheet[row, 1, :, column].astype(int) - expected[i]).max() <= 1
    assert (sheet[1, :, :, 2] == 255).all()


@pytest.mark.parametrize(
    ("every", "epochs", "drawn"), [(1, 2, [1, 2]), (2, 5, [2, 4, 5]), (3, 3, [3]), (4, 2, [2])]
)
def test_pictures_come_every_so_many_epochs_and_at_the_end(every, epochs, drawn, tmp_path) -> None:
    task = autoencoder_task()
    grid = ReconstructionGrid(images(2), tmp_path, every=every)
    task.fit(images(5), batch_size=5, epochs=epochs, verbose=0, callbacks=[grid])
    assert names(tmp_path) == [f"reconstructions_{epoch:04d}.png" for epoch in drawn]


def test_epochs_are_counted_from_initial_epoch(tmp_path) -> None:
    task = autoencoder_task()
    grid = ReconstructionGrid(images(2), tmp_path)
    task.fit(images(5), batch_size=5, epochs=8, initial_epoch=7, verbose=0, callbacks=[grid])
    assert names(tmp_path) == ["reconstructions_0008.png"]


def test_codes_are_counted(vq_task, tmp_path) -> None:
    counted = CodebookHistogram(images(6), tmp_path, batch_size=4)
    vq_task.fit(images(), batch_size=5, epochs=1, verbose=0, callbacks=[counted])
    assert names(tmp_path) == ["codebook_0001.png"]
    indices = np.asarray(vq_task.code_indices(images(6), verbose=0))
    counts = np.bincount(indices.ravel(), minlength=CODES)
    shares = counts[counts > 0] / counts.sum()
    assert counted.usage == pytest.approx((counts > 0).mean())
    assert counted.perplexity == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
    assert Image.open(tmp_path / "codebook_0001.png").size == (640, 320)


def test_pictures_in_tensorboard(vq_task, tmp_path) -> None:
    watchers = [
        ReconstructionGrid(images(2), tmp_path / "files", log_dir=tmp_path / "logs"),
        CodebookHistogram(images(2), log_dir=tmp_path / "logs", every=2),
    ]
    vq_task.fit(images(5), batch_size=5, epochs=2, verbose=0, callbacks=watchers)
    events = EventAccumulator(str(tmp_path / "logs" / "pictures"), size_guidance={"images": 0})
    events.Reload()
    assert [e.step for e in events.Images("reconstructions")] == [1, 2]
    assert [e.step for e in events.Images("codebook")] == [2]
    last = events.Images("reconstructions")[-1]
    file = Image.open(tmp_path / "files" / "reconstructions_0002.png")
    (tmp_path / "logged.png").write_bytes(last.encoded_image_string)
    assert np.array_equal(Image.open(tmp_path / "logged.png"), file)
    assert (last.width, last.height) == file.size


def test_without_tensorboard(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match=r"pip install tensorboard"):
        ReconstructionGrid(images(2), log_dir=tmp_path)
    ReconstructionGrid(images(2), tmp_path)


def test_grey_images_are_drawn(tmp_path) -> None:
    task = AutoencoderTask(TinyAutoencoder(image_channels=1))
    task.compile(keras.optimizers.Adam(1e-3))
    grey = images()[..., :1]
    task.fit(grey, batch_size=5, verbose=0, callbacks=[ReconstructionGrid(grey[:2], tmp_path)])
    sheet = np.asarray(Image.open(tmp_path / "reconstructions_0001.png"))
    assert sheet.shape == (32, 32, 3) and np.array_equal(sheet[:16, :16, 0], grey[0, ..., 0])


@pytest.mark.parametrize("kind", [ReconstructionGrid, CodebookHistogram])
def test_bad_arguments(kind, tmp_path) -> None:
    with pytest.raises(ValueError, match="`folder`.*`log_dir`.*neither"):
        kind(images(2))
    with pytest.raises(ValueError, match="`every`.*0"):
        kind(images(2), tmp_path, every=0)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError, match="file"):
        kind(images(2), file)
    with pytest.raises(NotADirectoryError, match="file"):
        kind(images(2), log_dir=file)


def test_what_cannot_be_drawn(tmp_path) -> None:
    for bad in (images(2)[0], images(0), np.zeros((2, 16, 16, 4), "uint8")):
        with pytest.raises(ValueError, match="at least one image"):
            ReconstructionGrid(bad, tmp_path)
    with pytest.raises(ValueError, match="finite"):
        ReconstructionGrid(np.full((1, 16, 16, 3), np.nan, "float32"), tmp_path)
    with pytest.raises(ValueError, match="`columns`"):
        ReconstructionGrid(images(2), tmp_path, columns=0)
    task = autoencoder_task()
    with pytest.raises(ValueError, match="VQModel.*AutoencoderTask"):
        task.fit(images(), verbose=0, callbacks=[CodebookHistogram(images(2), tmp_path)])
    assert not names(tmp_path)


def test_code_indices_need_a_codebook(vq_task) -> None:
    indices = np.asarray(vq_task.code_indices(images(3), verbose=0))
    assert indices.shape == (3, 16, 16) and set(indices.flat) <= set(range(CODES))
    with pytest.raises(ValueError, match="VQModel"):
        autoencoder_task().code_indices(images(3))
