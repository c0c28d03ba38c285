"""Pictures in tar and TFRecord files: what is read, in which order, and what is left out."""

import io
import json
import logging
import struct
import tarfile
from collections import Counter

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ldm.backend import BatchShare
from keras_ldm.callbacks import Checkpoints
from keras_ldm.data import DamagedRecordsError, ImageShards, aspect_ratio_buckets
from keras_ldm.data.buckets import nearest_bucket
from keras_ldm.files.record_places import _PartOfFile, parse_example
from keras_ldm.tasks.inputs import TaskDataset
from tests.tasks.tiny import largest_difference, latent_diffusion, state

COUNT = 22


def picture(number, size=(12, 10), format="PNG"):
    """Of one grey, which says its number."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (10 * number,) * 3).save(buffer, format)
    return buffer.getvalue()


def write_tar(path, records):
    """Records: name, then members by ending."""
    with tarfile.open(path, "w") as tar:
        for name, members in records:
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def record(number, **more):
    return f"some/{number:04d}", {
        "png": picture(number),
        "txt": f"number {number}\n".encode(),
        "cls": str(number % 3).encode(),
        "json": json.dumps({"title": f"title {number}", "tags": [1, 2]}).encode(),
        **more,
    }


@pytest.fixture
def folder(tmp_path):
    numbers = np.array_split(np.arange(COUNT), 3)
    for shard, these in enumerate(numbers):
        write_tar(tmp_path / f"train-{shard}.tar", [record(int(n)) for n in these])
    return tmp_path


def numbers_of(batch):
    assert (batch["image"] == batch["image"][:, :1, :1, :1]).all()
    return (batch["image"][:, 0, 0, 0] // 10).tolist()


def flat(batches):
    return [number for batch in batches for number in batch]


def passes(data, count=1):
    return [
        [numbers_of(data.batch_of_pass(number, i)) for i in range(len(data))] for number in range(count)
    ]


def test_what_is_in_a_batch(folder):
    fields = {"caption": "txt", "class_label": "cls", "title": "json:title"}
    data = ImageShards(folder, 8, 4, fields=fields, shuffle=False)
    assert len(data) == 6 and data.num_records == COUNT
    batch = data[1]
    assert batch["image"].shape == (4, 8, 8, 3) and batch["image"].dtype == np.uint8
    assert numbers_of(batch) == [4, 5, 6, 7]
    assert batch["caption"].tolist() == [f"number {n}" for n in (4, 5, 6, 7)]
    assert batch["title"].tolist() == [f"title {n}" for n in (4, 5, 6, 7)]
    assert batch["class_label"].tolist() == [1, 2, 0, 1]
    assert passes(data)[0] == [list(range(i, min(i + 4, COUNT))) for i in range(0, COUNT, 4)]
    for files in (str(folder / "train-*.tar"), sorted(folder.glob("*.tar"))):
        assert numbers_of(ImageShards(files, 8, 4, shuffle=False)[1]) == [4, 5, 6, 7]


def test_orders(folder):
    """Every record once a pass, over all files; a pass is the same in any process."""
    data = ImageShards(folder, 8, 4, seed=3)
    first, second = passes(data, 2)
    for one in (first, second):
        assert sorted(flat(one)) == list(range(COUNT))
    assert first != second
    assert passes(ImageShards(folder, 8, 4, seed=3), 2) == [first, second]
    assert passes(ImageShards(folder, 8, 4, seed=4))[0] != first
    assert len({n // 8 for n in first[0]}) > 1  # of several files
    assert len(passes(ImageShards(folder, 8, 4, drop_remainder=True))[0]) == 5


def test_processes_share_the_records(folder):
    parts = [ImageShards(folder, 8, 4, shard=(i, 3)) for i in range(3)]
    assert [part.num_records for part in parts] == [7, 7, 7] and len({len(p) for p in parts}) == 1
    seen = [set(flat(passes(part)[0])) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 21


def test_crops(tmp_path):
    """The middle, or somewhere else in each pass, the same again for the same pass."""
    wide = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 10, axis=0).repeat(3, axis=2)
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    write_tar(tmp_path / "a.tar", [("one", {"png": buffer.getvalue(), "txt": b"a"})])
    middle = ImageShards(tmp_path, (10, 20), 1)[0]["image"][0, 0, :, 0]
    assert middle.tolist() == list(range(10, 30))
    data = ImageShards(tmp_path, (10, 20), 1, crop="random")
    lefts = [int(data.batch_of_pass(i, 0)["image"][0, 0, 0, 0]) for i in range(8)]
    assert len(set(lefts)) > 3 and all(0 <= left <= 20 for left in lefts)
    again = ImageShards(tmp_path, (10, 20), 1, crop="random")
    assert [int(again.batch_of_pass(i, 0)["image"][0, 0, 0, 0]) for i in range(8)] == lefts


# === Buckets ===


def test_sizes_of_one_area():
    sizes = aspect_ratio_buckets(512, 64)
    assert (512, 512) in sizes and {s[::-1] for s in sizes} == set(sizes)
    for height, width in sizes:
        assert height % 64 == width % 64 == 0 and max(height / width, width / height) <= 2
        assert 0.85 * 512**2 < height * width <= 512**2
    chosen = nearest_bucket(np.array([[300, 300], [1000, 510], [30, 41]]), sizes)
    assert [sizes[i] for i in chosen] == [(512, 512), sizes[0], (448, 576)]
    with pytest.raises(ValueError, match="multiple of `multiple`"):
        aspect_ratio_buckets(500, 64)


def test_batches_of_buckets(tmp_path):
    """Each has one size, and hardly anything is cut off; a picture that lies counts as it is seen."""
    shapes = [(20, 10), (10, 20), (15, 15)]
    records = []
    for n in range(20):
        width, height = shapes[n % 3]
        records.append((f"{n:02d}", {"png": picture(n, (width, height)), "txt": b"x"}))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (10, 20), (200,) * 3).save(buffer, "JPEG", exif=exif)
    records.append(("20", {"jpg": buffer.getvalue(), "txt": b"x"}))
    write_tar(tmp_path / "a.tar", records)
    data = ImageShards(tmp_path, buckets=[(8, 16), (16, 8), (12, 12)], batch_size=3)
    kind = {(8, 16): 0, (16, 8): 1, (12, 12): 2}
    for number in range(2):
        seen, order = Counter(), []
        for index in range(len(data)):
            batch = data.batch_of_pass(number, index)
            sides = batch["image"].shape[1:3]
            order.append(sides)
            for n in batch["image"][:, 0, 0, 0].astype(int) // 10:
                assert n == 20 or n % 3 == kind[sides]
                seen[int(n)] += 1
        assert seen == Counter(range(21))
        assert order != sorted(order)  # sizes alternate
    assert data.batch_of_pass(0, 0)["image"].shape[1:3] in kind


# === TFRecord files ===


def example(**features):
    """A tf.train.Example, written by hand."""

    def varint(n):
        n &= (1 << 64) - 1
        out = b""
        while True:
            out += bytes([n & 127 | (128 if n > 127 else 0)])
            n >>= 7
            if not n:
                return out

    def field(number, data):
        return varint(number << 3 | 2) + varint(len(data)) + data

    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = field(1, field(1, value))
        elif isinstance(value, list):
            feature = field(1, b"".join(field(1, v) for v in value))
        elif isinstance(value, float):
            feature = field(2, field(1, struct.pack("<f", value)))
        else:
            feature = field(3, field(1, varint(value)))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def write_tfrecords(path, examples):
    with path.open("wb") as file:
        for data in examples:
            file.write(struct.pack("<QI", len(data), 0) + data + b"\0" * 4)


def test_tfrecords(tmp_path):
    for shard in range(2):
        write_tfrecords(
            tmp_path / f"train.tfrecord-0000{shard}-of-00002",
            [
                example(image=picture(n), caption=f"no {n}".encode(), label=-n, weight=0.5)
                for n in range(5 * shard, 5 * shard + 5)
            ],
        )
    fields = {"caption": "caption", "class_label": "label", "weight": "weight"}
    data = ImageShards(tmp_path, 8, 4, fields=fields, shuffle=False)
    batch = data[1]
    assert numbers_of(batch) == [4, 5, 6, 7]
    assert batch["caption"].tolist() == ["no 4", "no 5", "no 6", "no 7"]
    assert batch["class_label"].tolist() == [-4, -5, -6, -7]
    assert batch["weight"].tolist() == [0.5] * 4


if keras.backend.backend() == "tensorflow":

    def test_what_tensorflow_writes(tmp_path):
        import tensorflow as tf

        path = tmp_path / "a.tfrecord"
        feature = tf.train.Feature
        with tf.io.TFRecordWriter(str(path)) as writer:
            for n in range(3):
                features = {
                    "image": feature(bytes_list=tf.train.BytesList(value=[picture(n, format="JPEG")])),
                    "caption": feature(bytes_list=tf.train.BytesList(value=[f"no {n}".encode()])),
                    "numbers": feature(int64_list=tf.train.Int64List(value=[n, -5, 1 << 40])),
                    "floats": feature(float_list=tf.train.FloatList(value=[0.25, n])),
                    "nothing": feature(),
                }
                message = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(message.SerializeToString())
        fields = {"caption": "caption", "numbers": "numbers", "floats": "floats"}
        batch = ImageShards(path, 8, 3, fields=fields, shuffle=False)[0]
        assert batch["numbers"].tolist() == [[n, -5, 1 << 40] for n in range(3)]
        assert batch["floats"].tolist() == [[0.25, n] for n in range(3)]
        assert batch["caption"].tolist() == ["no 0", "no 1", "no 2"]
        assert parse_example(message.SerializeToString())["nothing"] == []


# === What is damaged ===


def test_damaged_records_are_left_out_and_named(folder, caplog):
    write_tar(
        folder / "train-3.tar",
        [
            record(100, png=b"not a picture"),
            record(101, png=picture(1)[:45]),
            ("some/0102", {"txt": b"no picture"}),
            ("some/0103", {"png": picture(1)}),  # no caption
        ],
    )
    with caplog.at_level(logging.WARNING):
        data = ImageShards(folder, 8, 4, seed=1)
        first = passes(data)[0]
    assert all(0 <= n < COUNT for n in flat(first))
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 4, 2]  # others in their place
    assert sorted(name.rpartition("/")[2] for name in data.damaged) == ["0100", "0101", "0102", "0103"]
    assert len(caplog.messages) == 4 and any("some/0102" in message for message in caplog.messages)
    assert passes(ImageShards(folder, 8, 4, seed=1))[0] == first
    strict = ImageShards(folder, 8, 4, seed=1, most_damaged=3)
    with pytest.raises(DamagedRecordsError, match="at most 3 damaged records.*some/010"):
        passes(strict)


def test_files_that_end_too_early(tmp_path, caplog):
    write_tar(tmp_path / "a.tar", [(f"{n}", {"png": picture(n), "txt": b"x"}) for n in range(6)])
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
    write_tfrecords(tmp_path / "b.tfrecord", [example(image=picture(9), caption=b"x")] * 3)
    whole = (tmp_path / "b.tfrecord").read_bytes()
    (tmp_path / "b.tfrecord").write_bytes(whole[:-30])
    with caplog.at_level(logging.WARNING):
        data = ImageShards(tmp_path / "a.tar", 8, 2, shuffle=False)
        assert 0 < data.num_records < 6 and next(iter(data.damaged)).startswith(str(tmp_path / "a.tar"))
        assert ImageShards(tmp_path / "b.tfrecord", 8, 2).num_records == 2
    with pytest.raises(DamagedRecordsError, match="at most 0 damaged"):
        ImageShards(tmp_path, 8, 2, most_damaged=0)
    (tmp_path / "c.tfrecord").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="Expected records in"):
        ImageShards(tmp_path / "c.tfrecord", 8, 2)


def test_none_can_be_read(tmp_path):
    write_tar(tmp_path / "a.tar", [record(n, png=b"no") for n in range(4)])
    with pytest.raises(ValueError, match="Expected records that can be read"):
        ImageShards(tmp_path, 8, 2)[0]
    with pytest.raises(ValueError, match="Expected pictures that can be read"):
        ImageShards(tmp_path, buckets=[(8, 8), (8, 16)], batch_size=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `image_size` or a list of `buckets`"),
        ({"image_size": 8, "buckets": [(8, 8)]}, "either `image_size` or a list"),
        ({"buckets": []}, "a list of `buckets`"),
        ({"buckets": 16}, "a list of `buckets`. Received: image_size=None, buckets=16"),
        ({"image_size": (8, 8, 3)}, "sizes as"),
        ({"image_size": 8.5}, "sizes as"),
        ({"image_size": 0}, "at least 1"),
        ({"image_size": 8, "crop": "left"}, "`crop` must be"),
        ({"image_size": 8, "batch_size": 0}, "`batch_size` as an int >= 1. Received: 0"),
        ({"image_size": 8, "batch_size": 2.5}, "`batch_size` as an int >= 1. Received: 2.5"),
        ({"image_size": 8, "shard": (2, 2)}, "`shard` as"),
        ({"image_size": 8, "shard": 1}, "`shard` as .index, count.. Received: 1"),
        ({"image_size": 8, "shard": (0.0, 2)}, "`shard` as .index, count.. Received: .0.0, 2"),
        ({"image_size": 8, "threads": 0}, "`threads` as an int >= 1. Received: 0"),
        ({"image_size": 8, "most_damaged": -1}, "`most_damaged` as an int >= 0. Received: -1"),
        ({"image_size": 8, "fields": "txt"}, "Expected `fields` such as .*Received: fields='txt'"),
        ({"image_size": 8, "fields": {"caption": None}}, "Expected `fields` such as"),
        ({"image_size": 8, "image_field": 1}, "image_field=1"),
        ({"image_size": 8, "batch_size": 99, "drop_remainder": True}, "at least a batch of 99"),
    ],
)
def test_arguments(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageShards(folder, **arguments)


def test_missing_files(tmp_path):
    for files in (tmp_path, str(tmp_path / "*.tar"), [tmp_path / "a.tar"], []):
        with pytest.raises(FileNotFoundError):
            ImageShards(files, 8)


def test_files_by_pattern(tmp_path):
    """In folders too; files that only look like it, and folders, are none."""
    for name in ("a/train-0.tar", "b/train-1.tar", "b/c/train-2.tar", "b/[x].tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_tar(tmp_path / name, [("one", {"png": picture(1), "txt": b"a"})])
    (tmp_path / "b" / "train-3.tar").mkdir()
    (tmp_path / "b" / "train-4.tfrecord.index").write_text("no records")
    for pattern, count in (("*/train-*", 2), ("**/*.tar", 4), ("b/*", 2), ("b", 2), ("b/[x].tar", 1)):
        assert ImageShards(str(tmp_path / pattern), 8, 1).num_records == count
    with pytest.raises(ValueError, match="Expected files .tar or .tfrecord.*index"):
        ImageShards([tmp_path / "b" / "train-4.tfrecord.index"], 8, 1)


def test_which_member_is_the_picture(tmp_path):
    """Two could be: then it has to be said; upper case is no matter."""
    members = {"PNG": picture(1), "mask.PNG": picture(2), "TXT": b"a", "JSON": b'{"Title": "b"}'}
    write_tar(tmp_path / "a.tar", [("one", members)])
    with pytest.raises(ValueError, match="Expected `image_field`.*a.tar: one' with several"):
        ImageShards(tmp_path, 8, 1)
    for field, number in (("png", 1), ("Mask.Png", 2)):
        data = ImageShards(
            tmp_path, 8, 1, image_field=field, fields={"caption": "Txt", "title": "JSON:Title"}
        )
        assert numbers_of(data[0]) == [number]
        assert (data[0]["caption"].tolist(), data[0]["title"].tolist()) == (["a"], ["b"])


def test_what_a_caption_is(tmp_path):
    """Null is none; several of a TFRecord are text; pictures without any are told how."""
    write_tar(tmp_path / "a.tar", [(n, {"png": picture(1), "json": b'{"a": null}'}) for n in "12"])
    data = ImageShards(tmp_path / "a.tar", 8, 2, fields={"caption": "json:a"})
    with pytest.raises(ValueError, match="Expected records that can be read.*Expected 'a' in"):
        data[0]
    with pytest.raises(ValueError, match="Data without captions need `fields={}`"):
        ImageShards(tmp_path / "a.tar", 8, 2)[0]
    assert set(ImageShards(tmp_path / "a.tar", 8, 2, fields={})[0]) == {"image"}
    pair = example(image=picture(3), caption=[b"one", b"two"])
    write_tfrecords(tmp_path / "b.tfrecord", [pair])
    caption = ImageShards(tmp_path / "b.tfrecord", 8, 1)[0]["caption"]
    assert caption.tolist() == [["one", "two"]]


def test_buckets_read_beginnings(tmp_path, monkeypatch):
    """Of large pictures a small part, and none is decoded."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    read: list[int] = []
    whole = _PartOfFile.readinto
    monkeypatch.setattr(
        _PartOfFile, "readinto", lambda self, out: read.append(whole(self, out)) or read[-1]
    )
    for kind in ("png", "jpg"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, {"jpg": "JPEG"}.get(kind, kind))
        write_tar(tmp_path / f"{kind}.tar", [(str(n), {kind: buffer.getvalue()}) for n in range(3)])
        read.clear()
        data = ImageShards(
            tmp_path / f"{kind}.tar", buckets=[(60, 40), (40, 60)], batch_size=3, fields={}
        )
        assert 0 < sum(read) < 3 * 0.5 * len(buffer.getvalue()), kind
        assert data[0]["image"].shape == (3, 60, 40, 3)


def test_measuring_ends_with_the_data(folder):
    """As it does for every other kind of data."""
    data = ImageShards(folder, 16, 8, fields={})
    arrays = {"image": np.zeros((22, 16, 16, 3), "uint8")}
    for x, size in ((data, None), (arrays, 8)):
        dataset = TaskDataset(x, lambda batch: batch, batch_size=size, steps=10)
        assert dataset.num_batches == 3
    assert TaskDataset(data, lambda batch: batch, steps=10, restart=False).num_batches == 10


def test_damage_within_a_tar_file(tmp_path):
    """A header that is no header, and what is behind the end, is said, not passed over."""
    for name, spoil in {
        "header": lambda data: data[:2048] + b"x" * 512 + data[2560:],
        "joined": lambda data: data + data,
    }.items():
        path = tmp_path / f"{name}.tar"
        write_tar(path, [(f"{n}", {"png": picture(n), "txt": b"x"}) for n in range(6)])
        path.write_bytes(spoil(path.read_bytes()))
        assert len(ImageShards(path, 8, 1).damaged) == 1


def test_records_of_one_name(tmp_path):
    members = {"png": picture(1), "txt": b"first"}, {"png": picture(2), "txt": b"second"}
    write_tar(tmp_path / "a.tar", [("same", members[0]), ("same", members[1])])
    assert ImageShards(tmp_path, 8, 2, shuffle=False)[0]["caption"].tolist() == ["first", "second"]


def test_shards_of_shards(folder):
    part = ImageShards(folder, 8, 4, shard=(0, 2))
    with pytest.raises(ValueError, match="of which each process reads all"):
        TaskDataset(part, lambda batch: batch, share=BatchShare(parts=2))
    TaskDataset(part, lambda batch: batch, share=BatchShare(others=True))
    with pytest.raises(ValueError, match="one size with a `shard`"):
        ImageShards(folder, buckets=[(8, 8), (8, 16)], batch_size=4, shard=(0, 2))


# === Training ===


@pytest.mark.backend
def test_training_on_buckets(tmp_path):
    """Whatever sizes come first."""
    records = [(f"{n:02d}", {"png": picture(n, (16, 8) if n % 5 else (8, 16))}) for n in range(20)]
    write_tar(tmp_path / "a.tar", records)
    task = latent_diffusion(latent_scale=1.0)
    task.compile(run_eagerly=True)
    data = ImageShards(tmp_path, buckets=[(8, 16), (16, 8)], batch_size=2, fields={}, shuffle=False)
    assert len({data[i]["image"].shape for i in range(2)}) == 1
    assert np.isfinite(task.fit(data, verbose=0).history["loss"]).all()


@pytest.mark.backend
def test_a_training_goes_on_in_the_middle_of_a_pass(folder, tmp_path):
    """No record is read for nothing, and the weights are those of a training in one go."""

    def train(callbacks=(), epochs=2):
        task = latent_diffusion(latent_scale=1.0)
        task.compile(keras.optimizers.Adam(1e-2))
        data = ImageShards(folder, 16, 8, fields={}, drop_remainder=True)
        task.fit(data, epochs=epochs, verbose=0, callbacks=list(callbacks))
        return state(task)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(keras.ops.convert_to_numpy(self.model.batches)) == 3:
                raise KeyboardInterrupt

    whole = train()
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        train([Checkpoints(checkpoints, every_batches=1), Stop()])
    difference, name = largest_difference(whole, train([Checkpoints(checkpoints)]))
    assert difference < 1e-6, name
