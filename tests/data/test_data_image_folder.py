"""Folders: pictures found, captions paired, broken files named and left out."""

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ldm.data import find_images, image_folder, load_image_folder

COLOURS = {
    "red": (200, 0, 0),
    "green": (0, 200, 0),
    "blue": (0, 0, 200),
    "grau grün": (90, 120, 90),
}


@pytest.fixture
def folder(tmp_path):
    for name, suffix in zip(COLOURS, ("png", "PNG", "webp", "png"), strict=True):
        place = tmp_path / "deep" / "er" if name == "blue" else tmp_path
        place.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if suffix == "webp" else {}
        Image.new("RGB", (40, 30), COLOURS[name]).save(place / f"{name}.{suffix}", **options)
    return tmp_path


def pairs(dataset):
    """Caption -> colour of the middle pixel, over one pass."""
    found = {}
    for batch in dataset.as_numpy_iterator():
        for image, caption in zip(batch["image"], batch["caption"], strict=True):
            size = image.shape[0]
            found[caption.decode()] = tuple(image[size // 2, size // 2].tolist())
    return found


def test_every_colour_carries_its_name_at_each_pass(folder):
    dataset = image_folder(folder, image_size=16, batch_size=3)
    assert dataset.element_spec["image"] == tf.TensorSpec((None, 16, 16, 3), tf.uint8)
    assert dataset.element_spec["caption"] == tf.TensorSpec((None,), tf.string)
    assert int(dataset.cardinality()) == 2
    for _ in range(3):
        assert pairs(dataset) == COLOURS


@pytest.mark.parametrize("verify", [True, False])
def test_captions_from_a_file(folder, verify):
    (folder / "captions.csv").write_text(
        "file_name,caption\nred.png,eins\ngreen.PNG,zwei\n"
        "deep/er/blue.webp,drei 猫\ngrau grün.png,vier\n",
        encoding="utf-8",
    )
    words = ("eins", "zwei", "drei 猫", "vier")
    expected = dict(zip(words, COLOURS.values(), strict=True))
    assert pairs(image_folder(folder, verify=verify)) == expected
    images, captions = load_image_folder(folder, image_size=8)
    assert images.shape == (4, 8, 8, 3)
    assert {c: tuple(i[4, 4].tolist()) for i, c in zip(images, captions, strict=True)} == expected


def test_mapping_and_not_recursive(folder):
    names = find_images(folder, recursive=False)
    assert names == ("grau grün.png", "green.PNG", "red.png")
    captions = {name: f"<{name}>" for name in names}
    found = pairs(image_folder(folder, captions, recursive=False))
    assert found == {f"<{name}>": COLOURS[Path(name).stem] for name in names}


def test_pictures_are_listed_sorted_without_hidden_ones(folder):
    (folder / ".cache").mkdir()
    for name in (".cache/a.png", "._red.png", "notes.md"):
        (folder / name).write_bytes(b"x")
    assert find_images(folder) == ("deep/er/blue.webp", "grau grün.png", "green.PNG", "red.png")


def test_broken_pictures_are_named_counted_and_left_out(folder, caplog):
    (folder / "bad one.png").write_text("no picture")
    data = (folder / "red.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        dataset = image_folder(folder, batch_size=2)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("bad one.png" in message for message in messages) == 1
    assert sum("cut.png" in message for message in messages) == 1
    assert messages[-1] == "Skipped 2 broken pictures of 6."
    assert int(dataset.cardinality()) == 2
    assert pairs(dataset) == COLOURS
    images, captions = load_image_folder(folder)
    assert sorted(captions) == sorted(COLOURS)
    assert len(images) == 4


def test_without_verifying_a_broken_picture_ends_the_iteration(folder):
    (folder / "bad.png").write_text("no picture")
    dataset = image_folder(folder, verify=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"bad\.png"):
        pairs(dataset)


def test_all_broken(tmp_path):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_text("no picture")
    for read in (image_folder, load_image_folder):
        with pytest.raises(ValueError, match="Received: 2, all broken"):
            read(tmp_path)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "file.png").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("x")
    for read in (image_folder, load_image_folder, find_images):
        with pytest.raises(FileNotFoundError, match=r"Received: '.*nowhere'"):
            read(tmp_path / "nowhere")
        with pytest.raises(NotADirectoryError, match=r"Received: '.*file\.png'"):
            read(tmp_path / "file.png")
        with pytest.raises(ValueError, match=r"\.webp.*Received: none in '.*empty'"):
            read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"image_size": 0}, "0"),
        ({"crop": "middle"}, "'middle'"),
        ({"max_shift": -1}, "-1"),
        ({"batch_size": 0}, "4 pictures, batch_size=0"),
        ({"batch_size": 5, "drop_remainder": True}, "4 pictures, batch_size=5"),
    ],
)
def test_arguments_are_checked_before_pictures_are_read(folder, monkeypatch, options, received):
    def read_all(*args, **kwargs):
        raise AssertionError("pictures were read first")

    module = sys.modules["keras_ldm.data.image_folder"]  # the attribute is the function
    monkeypatch.setattr(module, "read_all", read_all)
    with pytest.raises(ValueError, match=f"Received: {received}"):
        image_folder(folder, **options)
    if set(options) <= {"image_size", "crop"}:
        with pytest.raises(ValueError, match=f"Received: {received}"):
            load_image_folder(folder, **options)


def test_missing_captions_are_reported(folder):
    with pytest.raises(ValueError, match=r"none for 3 of 4"):
        image_folder(folder, {"red.png": "red"})


def test_passes_repeat_with_the_seed_and_differ(tmp_path):
    ramp = np.linspace(0, 255, 120).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (40, 120, 3)).copy()
    for number in range(12):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")

    def two_passes(seed, **options):
        dataset = image_folder(
            tmp_path, image_size=20, crop="random", batch_size=5, seed=seed, **options
        )
        return [
            [
                (batch["caption"].tolist(), batch["image"].tobytes())
                for batch in dataset.as_numpy_iterator()
            ]
            for _ in range(2)
        ]

    first = two_passes(0)
    assert first == two_passes(0)
    assert first != two_passes(1)
    assert [c for c, _ in first[0]] != [c for c, _ in first[1]]
    still = two_passes(0, shuffle=False)
    assert [c for c, _ in still[0]] == [c for c, _ in still[1]]
    assert [i for _, i in still[0]] != [i for _, i in still[1]]  # other crops


def test_shift_and_flip_reach_the_pictures(tmp_path):
    picture = Image.new("RGB", (16, 16), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 8, 16))
    for number in range(64):
        picture.save(tmp_path / f"{number}.png")

    def left_columns(**options):
        (batch,) = image_folder(tmp_path, image_size=16, batch_size=64, **options).as_numpy_iterator()
        return batch["image"][:, 0, :, 0]

    assert {row.tobytes() for row in left_columns()} == {bytes([255] * 8 + [0] * 8)}
    flipped = left_columns(random_flip=True)
    assert {row.tobytes() for row in flipped} == {
        bytes([255] * 8 + [0] * 8),
        bytes([0] * 8 + [255] * 8),
    }
    assert {int((row == 255).sum()) for row in left_columns(max_shift=2)} == {6, 7, 8, 9, 10}


def test_long_reading_shows_a_progress_bar(folder, monkeypatch, capsys):
    image_folder(folder)
    assert "Reading pictures" not in capsys.readouterr().err
    monkeypatch.setattr("keras_ldm.data.image_files._PATIENCE", 0)
    image_folder(folder)
    assert "Reading pictures: 100%" in capsys.readouterr().err


def test_arrays_load_where_tensorflow_is_not_installed(folder):
    script = f"""
        import sys
        import types

        # The package without its __init__, which takes only the backends that can train.
        package = types.ModuleType("keras_ldm")
        package.__path__ = ["keras_ldm"]
        sys.modules["keras_ldm"] = package

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "tensorflow":
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Absent())
        import keras_ldm.data as data
        emoji = data.load_emoji()
        assert emoji.images.shape == (1892, 64, 64, 3)
        images, captions = data.load_image_folder({str(folder)!r}, image_size=16)
        assert images.shape == (4, 16, 16, 3) and "red" in captions
        data.shift_images(images, 2, __import__("numpy").random.default_rng(0))
        sys.modules["keras_ldm.data.image_folder"].read_all = None  # must not be come to
        for build in (emoji.dataset, lambda: data.image_folder({str(folder)!r})):
            try:
                build()
            except ImportError as error:
                assert "pip install tensorflow" in str(error), error
            else:
                raise AssertionError("built a pipeline without TensorFlow")
        assert "tensorflow" not in sys.modules
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "fine", done.stderr
