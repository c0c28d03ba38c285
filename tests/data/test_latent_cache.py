"""Latents encoded once: what is in the files, and that training from them is training from images."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from itertools import chain
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ldm.callbacks import Checkpoints
from keras_ldm.data import LatentCache, cache_latents
from keras_ldm.files.tar_shards import Shard, write_shard
from keras_ldm.models import VQModel
from keras_ldm.tasks.inputs import TaskDataset
from tests.tasks.tiny import (
    TinyAutoencoder,
    images,
    largest_difference,
    latent_diffusion,
    numpy,
    state,
)

pytestmark = pytest.mark.usefixtures("eagerly")

COUNT = 10
WORDS = np.array([f"word {i} é" for i in range(COUNT)], object)


@pytest.fixture
def first_stage():
    keras.utils.set_random_seed(0)
    return TinyAutoencoder()


def data(count=COUNT):
    return {"image": images(count), "caption": WORDS[:count], "class_label": np.arange(count)}


def moments(first_stage):
    """Of the images, one by one and uncompiled."""
    return numpy(first_stage.moments((images(COUNT) / 127.5 - 1).astype("float32")))


def rows(cache):
    """All records in the order of their labels."""
    batches = [cache[i] for i in range(len(cache))]
    together = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    order = np.argsort(together["class_label"])
    return {name: values[order] for name, values in together.items()}


def labels(cache):
    return [cache[i]["class_label"].tolist() for i in range(len(cache))]


# === What is in it ===


@pytest.mark.backend
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_records_are_moments_and_conditions(dtype, first_stage, tmp_path) -> None:
    cache = cache_latents(
        data(), first_stage, tmp_path, batch_size=3, records_per_shard=5, dtype=dtype, progress=False
    )
    assert cache.num_records == COUNT
    assert [len(cache[i]["moments"]) for i in range(len(cache))] == [3, 3, 3, 1]
    found = rows(cache)
    assert found["moments"].dtype == np.float32
    tolerance = {"float32": 1e-6, "float16": 2e-3}[dtype]
    assert np.allclose(found["moments"], moments(first_stage), atol=tolerance)
    assert np.array_equal(found["moments"], found["moments"].astype(dtype))
    assert found["caption"].tolist() == WORDS.tolist()
    assert found["class_label"].tolist() == list(range(COUNT))
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        "latents-000-00000.tar",
        "latents-000-00001.tar",
    ]


def test_files_are_plain_tar_files(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, batch_size=4, progress=False)
    with tarfile.open(tmp_path / "latents-000-00000.tar") as archive:
        names = archive.getnames()
        assert names[:3] == [
            "00000000.caption.txt",
            "00000000.class_label.npy",
            "00000000.moments.npy",
        ]
        assert len(names) == 3 * COUNT
        text = archive.extractfile("00000003.caption.txt").read().decode()
        array = np.load(io.BytesIO(archive.extractfile("00000003.moments.npy").read()))
    assert text == WORDS[3]
    assert np.allclose(array, moments(first_stage)[3], atol=1e-6)


@pytest.mark.backend
def test_training_from_it_is_training_from_images(first_stage, tmp_path) -> None:
    cache = cache_latents(data(), first_stage, tmp_path, batch_size=5, progress=False)
    tasks = []
    for source in (cache, None):
        task = latent_diffusion(latent_scale=1.0)
        task.compile(keras.optimizers.Adam(1e-2))
        if source is None:
            again = LatentCache(tmp_path, 5)
            order = [label for batch in labels(again) for label in batch]
            source = [{"image": images()[order[i : i + 5]]} for i in (0, 5)]
        task.fit(source, epochs=1, verbose=0)
        tasks.append(task)
    difference, where = largest_difference(*(state(task) for task in tasks))
    assert difference < 1e-4, where


@pytest.mark.backend
def test_another_first_stage_is_noticed(first_stage, tmp_path) -> None:
    cache = cache_latents(data(), first_stage, tmp_path, progress=False)
    task = latent_diffusion(latent_scale=1.0)
    assert cache.first_stage == task.autoencoder.fingerprint()
    task.autoencoder.to_moments.bias.assign(0.1 + numpy(task.autoencoder.to_moments.bias))
    with pytest.raises(ValueError, match=f"was made with, {cache.first_stage}. Received: "):
        task.fit(cache, verbose=0)
    with pytest.raises(ValueError, match="was made with"):
        task.fit({"image": images(4)}, validation_data=cache, verbose=0)


def test_of_a_vector_quantized_model(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    model = VQModel((8,), 2, 6, num_res_blocks=1, groups=4, middle_attention=False)
    cache = cache_latents(data(), model, tmp_path, progress=False)
    assert np.allclose(rows(cache)["moments"], numpy(model.moments(images())), atol=1e-5)


# === Order ===


def test_each_pass_has_an_order_and_the_same_in_every_process(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, batch_size=2, records_per_shard=2, progress=False)
    passes = []
    for cache in (LatentCache(tmp_path, 4, seed=1), LatentCache(tmp_path, 4, seed=1)):
        read = []
        for _ in range(3):
            cache.on_epoch_begin()
            read.append(labels(cache))
            cache.on_epoch_end()
        passes.append(read)
        assert all(sorted(chain(*batches)) == list(range(COUNT)) for batches in read)
    assert passes[0] == passes[1]
    assert passes[0][0] != passes[0][1] != passes[0][2]
    assert labels(LatentCache(tmp_path, 4, seed=2)) != passes[0][0]
    assert labels(LatentCache(tmp_path, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    whole = LatentCache(tmp_path, 4, drop_remainder=True, shuffle=False)
    assert labels(whole) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_epochs_of_some_steps_go_through_each_pass_once(steps, first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, progress=False)
    trained = [0]
    cache = LatentCache(tmp_path, 4)
    dataset = TaskDataset(
        cache, dict, steps=steps, restart=False, batches_done=lambda: trained[0], seed=0
    )
    read = []
    for _ in range(6):
        dataset.on_epoch_begin()
        read += [dataset[i]["class_label"].tolist() for i in range(dataset.num_batches)]
        dataset.on_epoch_end()
        trained[0] += steps
    passes = [read[i : i + 3] for i in range(0, len(read), 3)]
    assert all(sorted(chain(*batches)) == list(range(COUNT)) for batches in passes)
    assert passes[0] != passes[1]


def test_processes_read_as_many_each(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, progress=False)
    parts = [LatentCache(tmp_path, 2, shard=(i, 3)) for i in range(3)]
    assert [part.num_records for part in parts] == [3, 3, 3]
    read = [label for part in parts for label in chain(*labels(part))]
    assert sorted(read) == list(range(9))


def test_a_training_from_it_goes_on(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path / "latents", progress=False)
    eagerly = keras.backend.backend() == "tensorflow"

    def train(epochs, folder):
        task = latent_diffusion(latent_scale=1.0)
        task.compile(keras.optimizers.Adam(1e-2), run_eagerly=eagerly)
        cache = LatentCache(tmp_path / "latents", 4)
        task.fit(cache, epochs=epochs, verbose=0, callbacks=[Checkpoints(tmp_path / folder)])
        return task

    whole = train(3, "whole")
    train(2, "parts")
    assert largest_difference(state(whole), state(train(3, "parts")))[0] <= 1e-6


# === Writing ===


class Counting:
    """A first stage that counts the images that it sees, and fails after so many."""

    def __init__(self, model, most=10**6):
        self.model, self.most, self.seen = model, most, 0

    def moments_of(self, images, batch_size=32):
        self.seen += len(images)
        if self.seen > self.most:
            raise KeyboardInterrupt
        return self.model.moments_of(images, batch_size)

    def fingerprint(self):
        return self.model.fingerprint()


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if ".tar" in path.name}


@pytest.mark.parametrize("source", ["arrays", "batches", "generator"])
def test_goes_on_after_an_interruption(source, first_stage, tmp_path) -> None:
    def make():
        whole = data()
        if source == "arrays":
            return whole, {"batch_size": 2}
        cut = [{k: v[i : i + 2] for k, v in whole.items()} for i in range(0, COUNT, 2)]
        return (cut, {}) if source == "batches" else ((x for x in cut), {"steps": 5})

    def write(folder, model):
        dataset, kwargs = make()
        return cache_latents(
            dataset, model, tmp_path / folder, records_per_shard=4, progress=False, **kwargs
        )

    write("whole", first_stage)
    interrupted = Counting(first_stage, most=7)
    with pytest.raises(KeyboardInterrupt):
        write("parts", interrupted)
    with pytest.raises(FileNotFoundError, match="that `cache_latents` has finished"):
        LatentCache(tmp_path / "parts")
    assert not list((tmp_path / "parts").glob(".*"))
    rest = Counting(first_stage)
    assert write("parts", rest).num_records == COUNT
    assert rest.seen == COUNT - 4  # one shard was there
    again = Counting(first_stage)
    write("parts", again)
    assert again.seen == 0
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_several_processes_share_the_work(first_stage, tmp_path) -> None:
    for index in (1, 0):
        cache = cache_latents(
            data(), first_stage, tmp_path, batch_size=2, part=(index, 2), progress=False
        )
        assert (cache is None) == (index == 1)
        if index:
            with pytest.raises(FileNotFoundError, match="part-000-of-002.json.*have not finished"):
                LatentCache(tmp_path)
    found = rows(cache)
    assert found["class_label"].tolist() == list(range(COUNT))
    assert np.allclose(found["moments"], moments(first_stage), atol=1e-6)
    names = []
    for path in tmp_path.glob("*.tar"):
        with tarfile.open(path) as archive:
            names += archive.getnames()
    assert len(set(names)) == len(names) == 3 * COUNT


# === What is wrong ===


def test_other_data_first_stages_and_arguments_in_the_folder(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, progress=False)
    before = content(tmp_path)
    other = data()
    other["class_label"] = other["class_label"] + 1
    with pytest.raises(ValueError, match="Expected the data that .*00000.tar' was made of"):
        cache_latents(other, first_stage, tmp_path, progress=False)
    with pytest.raises(ValueError, match="'dtype': 'float16'.*Received: .*'dtype': 'float32'"):
        cache_latents(data(), first_stage, tmp_path, dtype="float16", progress=False)
    first_stage.to_moments.bias.assign(0.1 + numpy(first_stage.to_moments.bias))
    with pytest.raises(ValueError, match="shards of {'first_stage': "):
        cache_latents(data(), first_stage, tmp_path, progress=False)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("dataset", "kwargs", "message"),
    [
        ({"caption": WORDS}, {}, "Expected the key 'image'. Received: \\['caption'\\]"),
        ([{"image": images(2)}, {"image": images(2, size=8)}], {}, "images of one size"),
        ([{"image": images(2)}, data(2)], {}, "the same conditions in each batch"),
        ([{"image": images(2), "caption": WORDS[:3]}], {}, "one entry of each for an image"),
        ({"image": images(2)[:, :15]}, {}, "sides that divide by 2"),
        ({"image": images(2)}, {"dtype": "bfloat16"}, "dtype='bfloat16'"),
        ({"image": images(2)}, {"part": (2, 2)}, "part=\\(2, 2\\)"),
        ({"image": images(2)}, {"records_per_shard": 0}, "records_per_shard=0"),
        ((x for x in [data(2)]), {}, "Expected `steps_per_epoch`"),
        ({"image": images(2), "box": np.array([{}, {}], object)}, {}, "numbers or strings as 'box'"),
    ],
)
def test_data_and_arguments_that_make_no_sense(dataset, kwargs, message, first_stage, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        cache_latents(dataset, first_stage, tmp_path / "out", progress=False, **kwargs)
    assert not list((tmp_path / "out").glob("*.tar")) or "size" in message or "same" in message
    with pytest.raises(FileNotFoundError):
        LatentCache(tmp_path / "out")


def test_moments_that_are_not_finite(first_stage, tmp_path) -> None:
    first_stage.to_moments.bias.assign(np.full(6, 1e5, "float32"))
    with pytest.raises(ValueError, match="finite moments in float16.*from 0 to 9"):
        cache_latents(data(), first_stage, tmp_path, dtype="float16", progress=False)


def test_damaged_and_missing_files(first_stage, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        LatentCache(tmp_path / "nowhere")
    cache_latents(data(), first_stage, tmp_path, batch_size=5, records_per_shard=5, progress=False)
    for damage, error, message in (
        (lambda path: path.unlink(), FileNotFoundError, "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), ValueError, "of 900 bytes"),
    ):
        copy = tmp_path.with_name(f"copy of {message}")
        shutil.copytree(tmp_path, copy)
        damage(copy / "latents-000-00001.tar")
        with pytest.raises(error, match=message):
            LatentCache(copy)
    index = tmp_path / "latents-000-00000.tar.index.json"
    index.write_text(index.read_text()[:50])
    with pytest.raises(ValueError, match="the index of a shard.*damaged"):
        LatentCache(tmp_path)


def test_parts_of_two_caches(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, progress=False)
    (tmp_path / "part-000-of-002.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="Expected the parts of one cache"):
        LatentCache(tmp_path)


@pytest.mark.parametrize("kwargs", [{"batch_size": 0}, {"shard": (1, 1)}, {"batch_size": 11}])
def test_batches_that_make_no_sense(kwargs, first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, progress=False)
    with pytest.raises(ValueError, match="Expected"):
        LatentCache(tmp_path, drop_remainder=True, **kwargs)


def test_shards_hold_any_numbers_and_strings(tmp_path) -> None:
    records = {
        "a": np.arange(6, dtype="int16").reshape(3, 2),
        "b": np.array([True, False, True]),
        "c": np.array(["x", "", "zé\n"], object),
        "d": np.zeros((3, 0), "float64"),
    }
    write_shard(tmp_path / "x.tar", [5, 6, 9], records, {"k": [1]})
    shard = Shard(tmp_path / "x.tar")
    assert len(shard) == 3
    assert shard.notes == {"k": [1]}
    read = shard.read([2, 0])
    for name, values in records.items():
        assert read[name].tolist() == values[[2, 0]].tolist()
        assert read[name].dtype == values.dtype
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert archive.getnames()[4] == "00000006.a.npy"
    with pytest.raises(ValueError, match="one string a record"):
        write_shard(tmp_path / "y.tar", [0], {"c": np.array([["x"]])}, {})


def test_a_cache_is_read_without_tensorflow(first_stage, tmp_path) -> None:
    cache_latents(data(), first_stage, tmp_path, progress=False)
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from keras_ldm.data import LatentCache\n"
        f"print(LatentCache({str(tmp_path)!r})[0]['moments'].shape)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert done.stdout.strip() == "(10, 8, 8, 6)", done.stderr[-500:]
