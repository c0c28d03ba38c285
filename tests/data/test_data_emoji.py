"""The emoji that ship: all there, captions on the right pictures, damage reported."""

import gzip
import io
import json
import shutil
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from keras_ldm.data import emoji as emoji_module
from keras_ldm.data import load_emoji


@pytest.fixture(scope="module")
def emoji():
    return load_emoji()


def test_everything_is_there(emoji):
    assert len(emoji) == 1892
    assert emoji.images.shape == (1892, 64, 64, 3)
    assert emoji.images.dtype == np.uint8
    assert len(emoji.captions) == len(emoji.tags) == len(emoji.codes) == 1892
    assert len(set(emoji.codes)) == 1892
    assert emoji.categories.shape == emoji.subcategories.shape == (1892,)
    assert emoji.categories.dtype == emoji.subcategories.dtype == np.int32
    assert len(emoji.category_names) == 9
    assert len(emoji.subcategory_names) == 98
    assert set(emoji.categories) == set(range(9))
    assert set(emoji.subcategories) == set(range(98))
    assert all(emoji.captions)
    assert all(isinstance(tags, tuple) for tags in emoji.tags)


@pytest.mark.parametrize(
    ("caption", "channel"),
    [("red heart", 0), ("green heart", 1), ("blue heart", 2), ("green apple", 1)],
)
def test_captions_align_with_pictures(emoji, caption, channel):
    image = emoji.images[emoji.captions.index(caption)].astype(int)
    drawn = image[(image < 230).any(-1)]
    assert len(drawn) > 800
    others = np.delete(drawn, channel, axis=1).max(1)
    assert (drawn[:, channel] > others).mean() > 0.8


def test_flags_align_with_their_codes(emoji):
    """The flag of Poland is white over red, the flag of Ukraine blue over yellow."""
    poland = emoji.images[emoji.codes.index("1F1F5-1F1F1")].astype(int)
    assert (poland[38:46, 20:44, 0] - poland[38:46, 20:44, 1]).min() > 100
    ukraine = emoji.images[emoji.codes.index("1F1FA-1F1E6")].astype(int)
    assert (ukraine[20:28, 20:44, 2] > ukraine[20:28, 20:44, 0]).all()
    assert (ukraine[38:46, 20:44, 0] > ukraine[38:46, 20:44, 2]).all()
    number = emoji.category_names.index("Flags")
    assert {emoji.categories[emoji.codes.index(code)] for code in ("1F1F5-1F1F1",)} == {number}


def test_every_picture_is_drawn_and_framed_in_white(emoji):
    flat = emoji.images.reshape(1892, -1)
    assert (flat.min(1) < 230).all()
    corners = emoji.images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all((1, 2)).mean() > 0.9


def test_loads_are_independent(emoji):
    other = load_emoji()
    other.images[:] = 0
    assert emoji.images.max() == 255


def test_licences_ship_beside_the_files():
    assets = resources.files("keras_ldm.data") / "assets" / "emoji"
    assert "Apache License" in (assets / "LICENSE").read_text()
    notice = (assets / "NOTICE").read_text()
    for part in ("Noto Emoji", "2013 Cal Henderson", "2014 Mu-An Chiou", "WITHOUT WARRANTY"):
        assert part in notice


def damage_nothing(folder):
    pass


def cut_captions(folder):
    path = folder / "captions.json.gz"
    path.write_bytes(path.read_bytes()[:1000])


def scramble_captions(folder):
    (folder / "captions.json.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1")


def flip_a_byte_of_captions(folder):
    data = bytearray((folder / "captions.json.gz").read_bytes())
    data[1000] ^= 255
    (folder / "captions.json.gz").write_bytes(data)


def drop_a_key(folder):
    (folder / "captions.json.gz").write_bytes(gzip.compress(json.dumps({"items": []}).encode()))


def scramble_atlas(folder):
    (folder / "noto64_pal32.webp").write_bytes(b"version https://git-lfs.github.com/spec/v1")


def cut_atlas(folder):
    path = folder / "noto64_pal32.webp"
    path.write_bytes(path.read_bytes()[:100_000])


def shrink_atlas(folder):
    data = io.BytesIO()
    Image.new("RGB", (128, 64)).save(data, "WEBP")
    (folder / "noto64_pal32.webp").write_bytes(data.getvalue())


def remove_columns(folder):
    data = io.BytesIO()
    Image.new("RGB", (32, 64)).save(data, "WEBP")
    (folder / "noto64_pal32.webp").write_bytes(data.getvalue())


@pytest.mark.parametrize(
    "damage",
    [cut_captions, scramble_captions, flip_a_byte_of_captions, drop_a_key,
     scramble_atlas, cut_atlas, shrink_atlas, remove_columns],
)  # fmt: skip
def test_damaged_files(tmp_path, monkeypatch, damage):
    assert len(load_from(tmp_path / "whole", monkeypatch, damage_nothing)) == 1892
    with pytest.raises(ValueError, match=r"reinstall the package\. Received: damaged files in"):
        load_from(tmp_path / "damaged", monkeypatch, damage)


@pytest.mark.parametrize("name", ["captions.json.gz", "noto64_pal32.webp"])
def test_missing_files(tmp_path, monkeypatch, name):
    with pytest.raises(FileNotFoundError, match=f"reinstall.*Received: .*{name}"):
        load_from(tmp_path / "copy", monkeypatch, lambda folder: (folder / name).unlink())


def load_from(folder, monkeypatch, damage):
    shutil.copytree(str(resources.files("keras_ldm.data") / "assets" / "emoji"), folder)
    damage(folder)
    monkeypatch.setattr(emoji_module, "_assets", lambda: folder)
    return load_emoji()


def test_dataset_pairs_pictures_with_their_captions(emoji):
    caption_of = {image.tobytes(): set() for image in emoji.images}
    for image, caption in zip(emoji.images, emoji.captions, strict=True):
        caption_of[image.tobytes()].add(caption)
    dataset = emoji.dataset(500)
    assert int(dataset.cardinality()) == 4
    seen = []
    for batch in dataset.as_numpy_iterator():
        for image, caption in zip(batch["image"], batch["caption"], strict=True):
            assert caption.decode() in caption_of[image.tobytes()]
            seen.append(caption.decode())
    assert sorted(seen) == sorted(emoji.captions)
    assert seen != list(emoji.captions)


def test_dataset_with_tags_and_shifts(emoji):
    batch = next(
        emoji.dataset(1892, shuffle=False, augment_captions=True, max_shift=2).as_numpy_iterator()
    )
    longer = 0
    for text, caption, tags in zip(batch["caption"], emoji.captions, emoji.tags, strict=True):
        rest = text.decode().removeprefix(caption)
        assert len(rest) < len(text.decode())
        assert set(rest.split(", ")[1:]) <= {part for tag in tags for part in tag.split(", ")}
        longer += bool(rest)
    assert 0.7 < longer / 1892 < 0.8
    moved = (batch["image"] != emoji.images).any((1, 2, 3)).mean()
    assert 0.9 < moved < 1  # 24 of 25 shifts move something
    plain = next(emoji.dataset(64, shuffle=False).as_numpy_iterator())
    np.testing.assert_array_equal(plain["image"], emoji.images[:64])
    assert [text.decode() for text in plain["caption"]] == list(emoji.captions[:64])
