"""The training of the shipped model: it goes on where it was stopped, and leaves what it says."""

import importlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_ldm as kl
from keras_ldm.files import read_tensors
from tests.tasks.tiny import captions, images, text_to_image

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("train_emoji")


class Stop(Exception):
    pass


def train_for_four_epochs(example, folder: Path):
    """What is there of a small training goes on; checkpoints come every two epochs."""

    def task():
        keras.utils.set_random_seed(0)
        made = text_to_image()
        made.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, 12)))
        return made

    data = {"image": images(6), "caption": np.array(captions(6))}
    trained, history = example.resume(folder / "model.keras", task)
    example.train(trained, history, folder / "model.keras", data, 2, 4, 2)
    return trained, history


@pytest.fixture(scope="module")
def whole(example, tmp_path_factory):
    """A training that was not stopped."""
    return train_for_four_epochs(example, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_stopped_training_ends_with_the_same_weights(
    example, whole, tmp_path, monkeypatch, stopped_after
):
    """Some of what was done is done again."""
    at_end = example.Checkpoint.on_epoch_end

    def stop(self, epoch, logs=None):
        at_end(self, epoch, logs)
        if epoch + 1 == stopped_after:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(example.Checkpoint, "on_epoch_end", stop)
        train_for_four_epochs(example, tmp_path)
    again, record_again = train_for_four_epochs(example, tmp_path)
    for expected, actual in zip(whole[0].weights, again.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (expected, actual)))
    assert [epoch["loss"] for epoch in whole[1]] == [epoch["loss"] for epoch in record_again]
    assert all(epoch["seconds"] > 0 for epoch in record_again)
    assert train_for_four_epochs(example, tmp_path)[1] == record_again  # nothing is left to do


def test_caption_variants(example) -> None:
    variants = example.caption_variants(("sun", "red heart"), (("warm", "sky"), ()))
    assert list(variants[:6]) == ["sun", "red heart"] * 3
    assert variants[6].startswith("sun, ") and set(variants[6][5:].split(", ")) <= {"warm", "sky"}
    assert variants[7] == "red heart"


def test_words_that_were_never_seen_are_forgotten(example) -> None:
    task = text_to_image(tokenizer="bert_uncased")
    table = task.conditioner.embedders["caption"].encoder.token_embedding.embeddings
    before = keras.ops.convert_to_numpy(table)
    words = np.array(["red heart"])
    example.forget_unseen_words(task, words)
    preprocess = task.conditioner.embedders["caption"].preprocess
    seen = np.unique(np.concatenate([preprocess(words), preprocess(np.array([""]))]))
    for values in (table, *(a for source, a in task.ema.pairs() if source is table)):
        after = keras.ops.convert_to_numpy(values)
        np.testing.assert_array_equal(after[seen], before[seen])
        assert np.count_nonzero(np.abs(after).sum(axis=1)) == len(seen) < len(after)


def test_leaves_what_it_says(tmp_path) -> None:
    command = [sys.executable, str(EXAMPLES / "train_emoji.py"), "--output", str(tmp_path)]
    command += ["--num-images", "12", "--autoencoder-epochs", "1", "--diffusion-epochs", "1"]
    result = subprocess.run(
        [*command, "--score-images", "8"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Reconstruction PSNR" in result.stdout and "over 8 prompts" in result.stdout
    for name in ("reconstructions.png", "samples.png", "losses.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 5, name
    task = kl.presets.small_text_to_image()
    kl.weights.native.load(task, tmp_path / "emoji.safetensors")
    with read_tensors(tmp_path / "emoji.safetensors") as tensors:
        assert {tensors[name].dtype for name in tensors} == {np.dtype("float16")}
    assert (tmp_path / "diffusion.keras").exists()
