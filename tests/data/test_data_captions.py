"""Captions reach the pictures that they were written for, and half-read files are errors."""

import json
import logging
import unicodedata

import numpy as np
import pytest

from keras_ldm.data import augment_caption, read_caption_file, read_captions

NAMES = ["a.png", "more/b.jpg"]
CAPTIONS = ("a cat", "two dogs, asleep")


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("file_column", ["file_name", "file", "filename", "image", "path"])
@pytest.mark.parametrize("text_column", ["caption", "text"])
def test_csv_and_json_lines_columns(tmp_path, file_column, text_column):
    write(
        tmp_path / "t.csv",
        f'id,{text_column},{file_column}\n1,a cat,a.png\n2,"two dogs, asleep",more/b.jpg\n',
    )
    records = [
        {text_column: text, "id": 1, file_column: name}
        for name, text in zip(NAMES, CAPTIONS, strict=True)
    ]
    write(tmp_path / "t.jsonl", "\n".join(json.dumps(record) for record in records))
    assert read_captions(tmp_path, NAMES, "t.csv") == CAPTIONS
    assert read_captions(tmp_path, NAMES, "t.jsonl") == CAPTIONS
    assert read_captions(tmp_path, NAMES[::-1], tmp_path / "t.csv") == CAPTIONS[::-1]


def test_tab_separated(tmp_path):
    write(tmp_path / "t.tsv", "file_name\tcaption\na.png\ttwo dogs, asleep\n")
    assert read_caption_file(tmp_path / "t.tsv") == {"a.png": "two dogs, asleep"}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_byte_order_mark_newlines_unicode_and_blank_lines(tmp_path, newline, encoding):
    rows = ["File_Name , caption", 'été.png,"猫 ""🐈"""', "", "b.png,x", ""]
    write(tmp_path / "t.csv", newline.join(rows), encoding)
    lines = [
        '{"file_name": "été.png", "text": "猫 \\"🐈\\""}',
        "",
        '{"file": "b.png", "text": "x"}',
    ]
    write(tmp_path / "t.jsonl", newline.join(lines), encoding)
    expected = {"été.png": '猫 "🐈"', "b.png": "x"}
    assert read_caption_file(tmp_path / "t.jsonl") == expected
    # Columns are found whatever their case and the spaces around them.
    assert read_caption_file(tmp_path / "t.csv") == expected


def test_caption_of_several_lines_in_csv(tmp_path):
    write(tmp_path / "t.csv", 'file_name,caption\na.png,"one\ntwo"\n')
    assert read_caption_file(tmp_path / "t.csv") == {"a.png": "one\ntwo"}


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_named(tmp_path, encoding):
    write(tmp_path / "t.csv", "file_name,caption\na.png,été\n", encoding)
    with pytest.raises(ValueError, match=r"UTF-8 .* Received: .*t\.csv"):
        read_caption_file(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "at least one caption"),
        ("t.csv", "\n", "at least one caption"),
        ("t.csv", "file_name,caption\n", "at least one caption"),
        ("t.jsonl", "\n\n", "at least one caption"),
        ("t.csv", "name,caption\na,b\n", r"'file_name'.*Received: \['name', 'caption'\]"),
        ("t.csv", "file,words\na,b\n", r"'caption', 'text'.*Received: \['file', 'words'\]"),
        ("t.csv", "file,text\na,b\nc,d, e\n", "double quotes.*Received: 3 cells at line 3"),
        ("t.csv", "file,text\na\n", "Received: 1 cells at line 2"),
        ("t.csv", 'file,text\na,"b\n', "Received: line 2"),
        ("t.csv", "file,text\na,b\nc,d\na,e\n", "Received: 'a' again at line 4"),
        ("t.jsonl", '{"file": "a", "text": "b"}\n{"file": \n', "JSON.*Received: line 2"),
        ("t.jsonl", "[1]\n", "Received: list at line 1"),
        ("t.jsonl", '\n{"file": "a"}\n', r"Received: \['file'\] at line 2"),
        ("t.jsonl", '{"file": "a", "text": 3}\n', "Received: 'a' and 3 at line 1"),
        ("t.jsonl", '{"file": "a", "text": null}\n', "Received: 'a' and None at line 1"),
        ("t.xlsx", "PK", r"ends in one of \.csv"),
    ],
)
def test_files_that_cannot_be_understood(tmp_path, name, text, message):
    write(tmp_path / name, text)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_captions(tmp_path, ["a"], name)


def test_missing_file_of_captions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Received: '.*no\.csv'"):
        read_captions(tmp_path, NAMES, tmp_path / "no.csv")


def test_relative_path_is_sought_in_the_folder_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.csv", "file,text\na.png,outside\n")
    (tmp_path / "pictures").mkdir()
    assert read_captions("pictures", ["a.png"], "t.csv") == ("outside",)
    write(tmp_path / "pictures" / "t.csv", "file,text\na.png,inside\n")
    assert read_captions("pictures", ["a.png"], "t.csv") == ("inside",)


def test_pictures_without_captions_are_counted_and_named(tmp_path):
    with pytest.raises(ValueError, match=r"Received: none for 1 of 2: more/b\.jpg$"):
        read_captions(tmp_path, NAMES, {"a.png": "a cat"})
    many = [f"{i}.png" for i in range(9)]
    with pytest.raises(ValueError, match=r"none for 9 of 9: 0\.png, .*4\.png, …$"):
        read_captions(tmp_path, many, {"x": "y"})


def test_captions_of_absent_pictures_are_counted(tmp_path, caplog):
    table = {"a.png": "a", "gone.png": "b", "lost.png": "c"}
    with caplog.at_level(logging.WARNING):
        assert read_captions(tmp_path, ["a.png"], table) == ("a",)
    assert "2 captions are for absent pictures: gone.png, lost.png" in caplog.text


def test_empty_captions_are_kept_and_counted(tmp_path, caplog):
    write(tmp_path / "t.csv", "file,text\na.png,\nb.png,x\n")
    with caplog.at_level(logging.WARNING):
        assert read_captions(tmp_path, ["a.png", "b.png"], "t.csv") == ("", "x")
    assert "1 pictures have an empty caption: a.png" in caplog.text


def test_nothing_is_logged_when_all_fits(tmp_path, caplog):
    read_captions(tmp_path, ["a.png"], {"a.png": "a"})
    assert not caplog.records


def test_names_match_across_systems(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    assert composed != decomposed
    table = {composed: "e", ".\\more\\b.jpg": "b"}
    assert read_captions(tmp_path, [decomposed, "more/b.jpg"], table) == ("e", "b")
    with pytest.raises(ValueError, match="several spellings of é"):
        read_captions(tmp_path, [composed], {composed: "1", decomposed: "2"})


def test_mapping_must_hold_strings(tmp_path):
    with pytest.raises(ValueError, match=r"Received: 'a\.png': 3"):
        read_captions(tmp_path, ["a.png"], {"a.png": 3})


def test_text_files_beside_the_pictures(tmp_path, caplog):
    write(tmp_path / "a.txt", "\ufeffa cat\n  on a mat\n")
    write(tmp_path / "more" / "b.txt", "two dogs")
    assert read_captions(tmp_path, NAMES, "txt") == ("a cat on a mat", "two dogs")
    assert not caplog.records
    write(tmp_path / "more" / "c.txt", "nobody")
    with caplog.at_level(logging.WARNING):
        read_captions(tmp_path, NAMES, "txt")
    assert "1 captions are for absent pictures: more/c.txt" in caplog.text
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"\.txt files.*none for 1 of 2: a\.png"):
        read_captions(tmp_path, NAMES, "txt")


def test_file_names_as_captions(tmp_path):
    names = ["a_red-heart.png", "more/猫__on--mat.v2.jpg"]
    assert read_captions(tmp_path, names, "file_name") == ("a red heart", "猫 on mat.v2")


def test_default_source_in_order(tmp_path):
    """Each source, once written, wins over those before it in this test."""
    assert read_captions(tmp_path, ["a.png"]) == ("a",)
    write(tmp_path / "README.txt", "not a caption")
    assert read_captions(tmp_path, ["a.png"]) == ("a",)
    write(tmp_path / "a.txt", "from txt")
    assert read_captions(tmp_path, ["a.png"]) == ("from txt",)
    for name in ("captions.jsonl", "metadata.jsonl"):
        write(tmp_path / name, json.dumps({"file_name": "a.png", "text": name}))
        assert read_captions(tmp_path, ["a.png"]) == (name,)
    for name in ("metadata.csv", "captions.csv"):
        write(tmp_path / name, f"file_name,text\na.png,{name}\n")
        assert read_captions(tmp_path, ["a.png"]) == (name,)


def test_augmented_captions_are_the_caption_and_some_tags():
    rng = np.random.default_rng(0)
    tags = ["love", "like", "pink", "love", "red heart", "valentines", "cards"]
    results = [augment_caption("red heart", tags, rng, max_tags=3) for _ in range(2000)]
    kept = results.count("red heart")
    assert 420 < kept < 580  # a quarter of 2,000
    orders = set()
    counts = dict.fromkeys((1, 2, 3), 0)
    for result in results:
        first, *chosen = result.split(", ")
        assert first == "red heart"
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= set(tags) - {"red heart"}
        orders.add(tuple(chosen))
        if chosen:
            counts[len(chosen)] += 1
    assert min(counts.values()) > 400  # 500 each
    # None, and ordered choices of 1, 2 and 3 of the 5 other tags.
    assert {len(order) for order in orders} == {0, 1, 2, 3}
    assert {order for order in orders if len(order) == 2} > {("love", "like"), ("like", "love")}
    assert len(orders) > 1 + 5 + 20 + 50


def test_augmentation_repeats_with_its_seed():
    one, two = (
        [augment_caption("a", ["b", "c", "d"], rng) for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert one == two


def test_nothing_to_append():
    rng = np.random.default_rng(0)
    assert augment_caption("a", [], rng) == "a"
    assert augment_caption("a", ["a", "a"], rng, keep_probability=0) == "a"
    assert augment_caption("a", ["b"], rng, max_tags=0) == "a"
    assert augment_caption("a", ["b"], rng, keep_probability=0) == "a, b"
    assert augment_caption("a", ["b"], rng, keep_probability=1) == "a"
    with pytest.raises(ValueError, match="Received: -1"):
        augment_caption("a", ["b"], rng, max_tags=-1)
    with pytest.raises(ValueError, match=r"Received: 1\.5"):
        augment_caption("a", ["b"], rng, keep_probability=1.5)
