"""Checkpoints made to do harm are refused, and nothing that they name is imported or run."""

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from keras_ldm.files import pickle_machine, read_tensors, torch_objects
from tests.files.handmade import (
    GOOD,
    ORDERED,
    among,
    beside,
    call,
    dictionary,
    floats,
    legacy,
    name,
    new,
    number,
    numbers,
    opened,
    refused,
    several,
    storage,
    tensor,
    text,
    watching,
    zipped,
)

LAYOUTS = (zipped, legacy)
both = pytest.mark.parametrize("write", LAYOUTS)


# === Calls ===


def test_the_watch_sees_what_a_real_unpickler_does(tmp_path: Path) -> None:
    """Otherwise the tests below would prove nothing."""
    made = tmp_path / "made"
    sys.modules.pop("this_is_not_imported", None)
    (tmp_path / "this_is_not_imported.py").write_text("x = 1")
    sys.path.insert(0, str(tmp_path))
    try:
        with watching() as ran:
            pickle.loads(b"\x80\x02" + call("posix.system", text(f"touch {made}")) + b".")
            pickle.loads(b"\x80\x02" + name("this_is_not_imported.x") + b".")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("this_is_not_imported", None)
    assert made.exists()
    assert {"os.system", "pickle.find_class", "this_is_not_imported"} <= set(ran)


CALLS = {
    "os.system": "touch {made}",
    "posix.system": "touch {made}",
    "nt.system": "touch {made}",
    "subprocess.Popen": "touch {made}",
    "subprocess.check_output": "touch {made}",
    "builtins.eval": "open({made!r}, 'w')",
    "builtins.exec": "open({made!r}, 'w')",
    "__builtin__.eval": "open({made!r}, 'w')",
    "__builtin__.execfile": "{made}",
    "builtins.__import__": "this",
    "builtins.open": "{made}",
    "builtins.compile": "{made}",
    "builtins.setattr": "{made}",
    "io.open": "{made}",
    "sys.exit": "1",
    "shutil.rmtree": "{made}",
    "socket.create_connection": "x",
    "importlib.import_module": "this",
    "importlib.util.spec_from_file_location": "this",
    "runpy.run_path": "{made}",
    "pty.spawn": "touch {made}",
    "code.interact": "{made}",
    "webbrowser.open": "x",
    "ctypes.CDLL": "{made}",
    "pickle.loads": "x",
    "_pickle.loads": "x",
    "marshal.loads": "x",
    "torch.hub.load": "x",
    "asyncio.unix_events._UnixSubprocessTransport": "x",
}


@pytest.mark.parametrize("place", [lambda v: v, beside, among], ids=["alone", "beside", "among"])
@pytest.mark.parametrize("function", CALLS)
def test_calls_that_do_harm(tmp_path: Path, function: str, place) -> None:
    made = tmp_path / "made"
    argument = text(CALLS[function].format(made=str(made)))
    module, _, last = function.rpartition(".")
    ways = {
        "REDUCE": call(function, argument),
        "NEWOBJ": name(function) + several(argument) + b"\x81",
        "NEWOBJ_EX": name(function) + several(argument) + b"}\x92",
        "INST": b"(" + argument + f"i{module}\n{last}\n".encode(),
        "OBJ": b"(" + name(function) + argument + b"o",
        "STACK_GLOBAL": text(module) + text(last) + b"\x93" + several(argument) + b"R",
        "named only": name(function),
        "BUILD": new("lost.A", dictionary({"__setstate__": name(function)})) + argument + b"b",
        "thrown away": b"N" + call(function, argument) + b"0",
        "hooks": GOOD[:-2] + call(function, argument) + b"tR",
    }
    for way, value in ways.items():
        for write in LAYOUTS:
            message = refused(write(tmp_path / f"{way}.ckpt", place(value)), function)
            assert "do not trust this file" in message
            assert not made.exists()


def test_a_dotted_name_that_goes_through_another_module(tmp_path: Path) -> None:
    value = text("torch.serialization") + text("os.system") + b"\x93" + several(text("true")) + b"R"
    refused(zipped(tmp_path / "a.ckpt", beside(value)), "'torch.serialization.os.system'")


@both
@pytest.mark.parametrize("made", [new, call], ids=["object", "call"])
def test_classes_that_do_not_exist(tmp_path: Path, write, made) -> None:
    value = made("no_such_module.NoSuchClass")
    refused(write(tmp_path / "a.ckpt", value), "an object of 'no_such_module.NoSuchClass'")
    refused(write(tmp_path / "b.ckpt", among(value)), "'x' is an object of 'no_such_module.NoSuchClass'")
    with opened(write(tmp_path / "c.ckpt", beside(value))) as tensors:
        assert list(tensors) == ["w"]


@both
def test_a_module_that_exists_is_not_imported(tmp_path: Path, write, monkeypatch) -> None:
    made = tmp_path / "made"
    (tmp_path / "imported_by_a_checkpoint.py").write_text(f"open({str(made)!r}, 'w')\nclass A: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    value = new("imported_by_a_checkpoint.A", dictionary({"a": number(1)}))
    with opened(write(tmp_path / "a.ckpt", beside(value))) as tensors:
        assert list(tensors) == ["w"]
    refused(write(tmp_path / "b.ckpt", among(value)), "imported_by_a_checkpoint.A")
    assert not made.exists() and "imported_by_a_checkpoint" not in sys.modules


def test_getattr_gives_nothing_to_call(tmp_path: Path) -> None:
    made = tmp_path / "made"
    found = call("builtins.getattr", name("torch.serialization"), text("os"))
    found = call("builtins.getattr", found, text("system"))
    value = call(found, text(f"touch {made}"))
    opened(zipped(tmp_path / "a.ckpt", beside(value))).close()
    refused(zipped(tmp_path / "b.ckpt", among(value)), "an object of 'builtins.getattr'")
    assert not made.exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (call(text("text")), "calls a str"),
        (text("text") + b")\x81", "calls a str"),
        (call(GOOD), "calls a StoredTensor"),
        (b"(" + number(1) + b"o", "calls a int"),
        (name("collections.OrderedDict") + b"]R", "with a list"),
        (call("collections.OrderedDict", b"]", b"]"), "OrderedDict"),
        (call("collections.OrderedDict", number(3)), "OrderedDict"),
        (call("collections.OrderedDict", b"](" + number(3) + b"e"), "OrderedDict"),
        (call("torch.Size", number(3)), "torch.Size"),
        (call("torch.Size"), "damaged"),
        (call("torch._utils._rebuild_tensor_v2"), "damaged"),
        (b"(" + name("torch._utils._rebuild_tensor_v2") + b"o", "damaged"),
        (call("torch._utils._rebuild_parameter", number(3)), "a parameter has a int"),
        (GOOD + b"}b", "sets attributes of a StoredTensor"),
        (b"]" + b"}b", "sets attributes of a list"),
        (b"N" + number(1) + b"a", "adds to a NoneType"),
        (b"N" + number(1) + number(1) + b"s", "adds to a NoneType"),
        (b"}(" + number(1) + b"u", "damaged"),
        (number(1) + number(1) + b"\x93", "no name"),
        (b"\x82\x01", "opcode EXT1"),
        (b"\x97", "opcode NEXT_BUFFER"),
        (b"N\x98", "opcode READONLY_BUFFER"),
        (b"P0\n", "names no storage"),
        (b"NQ", "names no storage"),
        (several(text("module"), b"N", b"N", b"N", b"N") + b"Q", ""),
        (b"h\x05", "damaged (KeyError"),
        (b"\xff", "damaged"),
        (b"R", "damaged (IndexError"),
        (b"t", "damaged (IndexError"),
        (b"\x8c\xff", "damaged"),
        (b"X\x01\0\0\0\xff", "damaged (UnicodeDecodeError"),
        (b"c\xff\nx\n", "damaged"),
        (b"I" + b"9" * 10_000 + b"\n", "damaged"),
        (b"F1e\n", "damaged"),
    ],
)
def test_opcodes_that_make_no_sense(tmp_path: Path, value: bytes, reason: str) -> None:
    refused(zipped(tmp_path / "a.ckpt", beside(value) if value not in (b"R", b"t") else value), reason)


# === Memory and depth ===


@pytest.mark.parametrize("index", [b"q\x02", b"r\xff\xff\xff\xff", b"p99999999\n", b"p-1\n"])
def test_memo_out_of_order(tmp_path: Path, index: bytes) -> None:
    refused(zipped(tmp_path / "a.ckpt", beside(b"N" + index)), "memo")


@pytest.mark.parametrize(
    "value",
    [
        b"\x8e" + struct.pack("<Q", 2**62),
        b"\x8e" + struct.pack("<Q", 2**64 - 1),
        b"\x8d" + struct.pack("<Q", 2**40),
        b"\x96" + struct.pack("<Q", 2**40),
        b"B" + struct.pack("<I", 2**32 - 1),
        b"X" + struct.pack("<I", 2**32 - 1),
        b"T" + struct.pack("<i", -1),
        b"\x8b" + struct.pack("<i", 2**31 - 1),
        b"\x8b" + struct.pack("<i", -5),
        b"\x95" + struct.pack("<Q", 2**63),
    ],
)
@both
def test_lengths_that_are_absurd(tmp_path: Path, write, value: bytes) -> None:
    refused(write(tmp_path / "a.ckpt", value), "damaged")


NESTS = {
    "tuples": b")" + b"\x85" * 100_000,
    "tuples by marks": b"(" * 100_000 + b"t" * 100_000,
    "lists": b"]" * 100_000 + b"a" * 99_999,
    "lists by marks": b"(" * 100_000 + b"l" * 100_000,
    "dictionaries": (b"}" + text("k")) * 100_000 + b"N" + b"s" * 100_000,
    "keys": b"}" + (b"}" * 100_000) + b"Ns" * 100_000,
    "lists in tuples": b"(" * 50_000 + b"l\x85" * 50_000,
}


@pytest.mark.parametrize("kind", NESTS)
def test_values_nested_too_deep(tmp_path: Path, kind: str) -> None:
    nest = NESTS[kind]
    refused(zipped(tmp_path / "a.ckpt", nest), "nested more than 1000 deep")
    refused(legacy(tmp_path / "b.ckpt", beside(nest)), "nested more than 1000 deep")
    refused(zipped(tmp_path / "c.ckpt", among(nest)), "nested more than 1000 deep")
    # what is thrown away, or swallowed by an object, is not kept
    ignored = b"N" + nest + b"0" + call("lost.A", nest) + b"0"
    opened(zipped(tmp_path / "d.ckpt", beside(ignored))).close()


def test_a_nest_filled_from_outside(tmp_path: Path) -> None:
    """Each list is put into the one before when that one has long been in its own."""
    lists = b"".join(b"]r" + struct.pack("<I", i) + b"0" for i in range(5000))
    fill = b"".join(
        b"j" + struct.pack("<I", i) + b"j" + struct.pack("<I", i + 1) + b"a0" for i in range(4999)
    )
    refused(zipped(tmp_path / "a.ckpt", lists + fill + beside(b"h\x00")), "nested more than")


def test_a_list_that_holds_itself(tmp_path: Path) -> None:
    for value in (b"]q\x00h\x00a", b"]q\x00(h\x00tq\x01a", b"}q\x00" + text("k") + b"h\x00s"):
        with opened(zipped(tmp_path / "a.ckpt", beside(value))) as tensors:
            assert list(tensors) == ["w"]
    cyclic = b"}q\x00(" + text("state_dict") + b"h\x00u"
    refused(zipped(tmp_path / "b.ckpt", cyclic), "'state_dict' is a dictionary")


def test_doubled_again_and_again(tmp_path: Path) -> None:
    """A billion laughs: 2 to the 500th values, if they were not shared."""
    value = b"N" + b"2\x86" * 500
    with opened(zipped(tmp_path / "a.ckpt", beside(value))) as tensors:
        assert list(tensors) == ["w"]


def test_keys_are_not_hashed(tmp_path: Path) -> None:
    """Numbers with one hash would take hours in a dictionary, tuples this deep the stack."""
    same_hash = dictionary({number((2**61 - 1) * (i + 1)): b"N" for i in range(20_000)})
    opened(zipped(tmp_path / "a.ckpt", beside(same_hash))).close()
    deep = b"}" + b")" + b"\x85" * 100_000 + b"Ns"
    refused(zipped(tmp_path / "b.ckpt", beside(deep)), "nested")


def test_too_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 1000)
    path = zipped(tmp_path / "a.ckpt", beside(b"N" + b"N0" * 300))
    opened(path).close()
    refused(zipped(tmp_path / "b.ckpt", beside(b"N" + b"N0" * 600)), "more than 1000 steps")


@pytest.mark.parametrize("value", [text("x" * 3000), b"I" + b"1" * 2000, b"N0" * 1000])
def test_a_pickle_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    monkeypatch.setattr(pickle_machine, "MAX_BYTES", 1000)
    refused(legacy(tmp_path / "a.ckpt", beside(value)), "damaged")
    monkeypatch.setattr("keras_ldm.files.zip_checkpoints.MAX_BYTES", 1000)
    refused(zipped(tmp_path / "b.ckpt", beside(value)), "data.pkl' has")


def test_a_compressed_pickle_that_is_a_bomb(tmp_path: Path) -> None:
    """It says 50 bytes, and unpacks to much more."""
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"N0" * 1_000_000 + b"N.")
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 2_000_004), struct.pack("<I", 50)))
    refused(path, "damaged")


# === Storages and tensors ===


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (tensor("FloatStorage", 6, (7,)), "reaches to element 7 of a storage of 6"),
        (tensor("FloatStorage", 6, (2, 3), offset=1), "reaches to element 7"),
        (tensor("FloatStorage", 6, (2, 3), (4, 1)), "reaches to element 7"),
        (tensor("FloatStorage", 6, (), offset=6), "reaches to element 7"),
        (tensor("FloatStorage", 6, (2,), (2**62,)), "reaches to element"),
        (tensor("FloatStorage", 6, (-1,)), "negative"),
        (tensor("FloatStorage", 6, (2, 3), (-3, 1)), "negative"),
        (tensor("FloatStorage", 6, (2,), offset=-1), "negative"),
        (tensor("FloatStorage", -6, (2,)), "negative"),
        (tensor("FloatStorage", 6, (2**63,), (0,)), "too large"),
        (tensor("FloatStorage", 6, (2**1000,), (0,)), "too large"),
        (tensor("FloatStorage", 6, (2**40,), (0,)), "repeats 24 bytes"),
        (tensor("FloatStorage", 6, (2**62, 2**62), (0, 0)), "dimensions"),
        (tensor("FloatStorage", 6, (0, 2**62, 2**62), (0, 0, 0)), "dimensions"),
        (tensor("FloatStorage", 6, (1,) * 65), "do not fit"),
        (tensor("FloatStorage", 6, (2, 3), (1,)), "do not fit"),
        (tensor("FloatStorage", 6, (2,), (1, 1)), "do not fit"),
        (tensor("FloatStorage", 6, (2, 3), key="1"), "'archive/data/1' is missing"),
        (tensor("FloatStorage", 6, (2, 3), key="../data/0"), "is missing"),
        (tensor("FloatStorage", 5, (2, 2)), "has 24 bytes, not 20"),
        (tensor("FloatStorage", 7, (2, 2)), "has 24 bytes, not 28"),
        (tensor("HalfStorage", 6, (2, 2)), "has 24 bytes, not 12"),
        (tensor("torch.QInt8Storage", 24, (2, 2)), "'torch.QInt8Storage'"),
        (tensor("lost.Storage", 6, (2, 2)), "'lost.Storage'"),
        (tensor("FloatStorage", 6, (2,), more=several(text("1"), number(0), number(2))), "no storage"),
        (call("torch._utils._rebuild_tensor_v2", *[b"N"] * 6), "a NoneType for its storage"),
        (call("torch._utils._rebuild_tensor_v2", new("lost.A"), *[b"N"] * 5), "'lost.A'"),
        (
            call("torch._utils._rebuild_tensor_v3", storage("UntypedStorage", "0", 24), *[b"N"] * 6),
            "dtype",
        ),
        (GOOD[:-2] + dictionary({"neg": b"\x88"}) + b"tR", "negated"),
        (GOOD.replace(b"J" + struct.pack("<i", 2), b"\x88"), "no number"),
        (GOOD.replace(b"J" + struct.pack("<i", 2), b"G" + struct.pack(">d", 2)), "no number"),
        (call("torch._utils._rebuild_sparse_tensor", GOOD), "_rebuild_sparse_tensor"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, value: bytes, reason: str) -> None:
    refused(zipped(tmp_path / "a.ckpt", among(value)), reason)


def test_a_tensor_may_repeat_its_storage_a_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.ckpt", among(tensor("FloatStorage", 6, (1000,), (0,), offset=3)))
    with opened(path) as tensors:
        assert tensors["x"].tolist() == [3.0] * 1000
    monkeypatch.setattr(torch_objects, "_MAX_REPEATED", 3999)
    refused(path, "repeats")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("data", [b"", floats()[:-1], floats(5), floats(7)])
def test_truncated_storage_in_a_zip(tmp_path: Path, data: bytes, compression: int) -> None:
    path = zipped(tmp_path / "a.ckpt", beside(b"N"), {"0": data}, compression=compression)
    refused(path, f"'archive/data/0' has {len(data)} bytes, not 24: it is truncated")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
@both
def test_truncated_file(tmp_path: Path, write, keep: float) -> None:
    value = dictionary({"w": tensor("FloatStorage", 100, (100,))})
    storages = {"0": floats(100)} if write is zipped else [("0", 100, floats(100))]
    data = write(tmp_path / "a.ckpt", value, storages).read_bytes()
    (tmp_path / "b.ckpt").write_bytes(data[: int(len(data) * keep)])
    refused(tmp_path / "b.ckpt")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"storages": [("0", 6, floats()[:-1])]}, "'0' is truncated"),
        ({"storages": [("0", 5, floats())]}, "'0' has 5 elements"),
        ({"storages": [("0", -6, floats())]}, "'0' has -6 elements"),
        ({"storages": []}, "'0' is missing"),
        ({"storages": [("0", 6, floats()), ("0", 6, floats())]}, "wrong list"),
        ({"storages": [("0", 6, floats()), ("1", 6, floats())]}, "wrong list"),
        ({"keys": b"N"}, "wrong list"),
        ({"keys": b"](" + number(0) + b"e"}, "wrong list"),
        ({"little": b"\x89"}, "big-endian"),
        ({"little": number(1)}, "big-endian"),
        ({"version": number(1000)}, "unknown version"),
        ({"version": call("os.system", text("true"))}, "os.system"),
        ({"keys": call("os.system", text("true"))}, "os.system"),
        ({"little": call("os.system", text("true"))}, "os.system"),
    ],
)
def test_legacy_files_that_are_wrong(tmp_path: Path, arguments: dict, reason: str) -> None:
    refused(legacy(tmp_path / "a.ckpt", dictionary({"w": GOOD}), **arguments), reason)


# === Archives ===


@pytest.mark.parametrize(
    "member",
    [
        "../evil",
        "archive/../../evil",
        "archive/data/..",
        "/etc/passwd",
        "C:/evil",
        "c:evil",
        "archive\\..\\evil",
        "archive/data/x\\y",
    ],
)
def test_a_path_that_climbs_out(tmp_path: Path, member: str) -> None:
    path = zipped(tmp_path / "in.ckpt", dictionary({"w": GOOD}), members={member: b"x"})
    refused(path, "paths that lead out of it", repr(member))
    assert [p.name for p in tmp_path.rglob("*")] == ["in.ckpt"]


def test_dots_that_do_not_climb(tmp_path: Path) -> None:
    members = {"archive/.data/serialization_id": b"1", "archive/..a": b"", "archive/data/": b""}
    opened(zipped(tmp_path / "a.ckpt", dictionary({"w": GOOD}), members=members)).close()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("member", ["archive/data/0", "archive/data.pkl", "other"])
def test_members_of_one_name(tmp_path: Path, member: str) -> None:
    path = tmp_path / "a.ckpt"
    zipped(path, dictionary({"w": GOOD}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, floats())
        archive.writestr(member, floats())
    refused(path, "two members", repr(member))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"archive/constants.pkl": b""}, "TorchScript"),
        ({"archive/code/__torch__.py": b""}, "TorchScript"),
        ({"other/data.pkl": b""}, "more than one data.pkl"),
    ],
)
def test_archives_of_another_kind(tmp_path: Path, members: dict, reason: str) -> None:
    refused(zipped(tmp_path / "a.ckpt", dictionary({"w": GOOD}), members=members), reason)


@pytest.mark.parametrize("member", ["config.json", "data.pkl", "a/b/data.pkl", "a/data.pkl.x"])
def test_archives_without_a_pickle(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr(member, "{}")
    refused(tmp_path / "a.keras", "no data.pkl")


@pytest.mark.parametrize("order", [b"big", b"", b"middle"])
def test_byte_order(tmp_path: Path, order: bytes) -> None:
    path = zipped(tmp_path / "a.ckpt", dictionary({"w": GOOD}))
    data = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(data, "w") as changed:
        for info in old.infolist():
            changed.writestr(info, order if "byteorder" in info.filename else old.read(info))
    path.write_bytes(data.getvalue())
    refused(path, "big-endian")


def patched(path: Path, member: str, **changes: int) -> Path:
    """Changes what the directory at the archive's end says of a member."""
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    data = bytearray(path.read_bytes())
    entry = data.index(member.encode(), start) - 46
    fields = {"flags": (8, "<H"), "method": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I")}
    for field, value in changes.items():
        offset, code = (fields | {"offset": (42, "<I")})[field]
        struct.pack_into(code, data, entry + offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flags": 1}, "encrypted"),
        ({"method": 12}, "compressed in an unknown way"),
        ({"method": 14}, "compressed in an unknown way"),
        ({"packed": 23}, "not where"),
        ({"size": 20, "packed": 20}, "has 20 bytes, not 24"),
        ({"size": 4000, "packed": 4000}, "has 4000 bytes"),
        ({"offset": 0}, "not where"),
        ({"offset": 7}, "not where"),
        ({"offset": 10**9}, "damaged"),
    ],
)
def test_a_directory_that_lies(tmp_path: Path, changes: dict, reason: str) -> None:
    path = zipped(tmp_path / "a.ckpt", dictionary({"w": GOOD}))
    refused(patched(path, "archive/data/0", **changes), reason)


def test_a_storage_beyond_the_end(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.ckpt", dictionary({"w": tensor("FloatStorage", 1000, (1000,))}))
    refused(patched(path, "archive/data/0", size=4000, packed=4000), "beyond the end")


def test_a_compressed_storage_that_is_shorter_than_it_says(tmp_path: Path) -> None:
    value = dictionary({"w": tensor("FloatStorage", 8, (8,))})
    path = zipped(tmp_path / "a.ckpt", value, compression=zipfile.ZIP_DEFLATED)
    reason = "tensor 'w' in .*'archive/data/0' is truncated"
    patched(path, "archive/data/0", size=32)
    with read_tensors(path) as tensors, pytest.raises(ValueError, match=reason):
        tensors["w"]


def test_a_compressed_storage_that_is_damaged(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.ckpt", dictionary({"w": GOOD}), compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"archive/data/0") + len("archive/data/0")
    data[at + 2] ^= 0x55
    path.write_bytes(data)
    with read_tensors(path) as tensors, pytest.raises(ValueError, match="tensor 'w'.*damaged"):
        tensors["w"]


@both
def test_noise_in_the_bytes(tmp_path: Path, write) -> None:
    """Whatever single byte is wrong: a ValueError or a file that can be read, and nothing runs."""
    data = write(
        tmp_path / "a.ckpt", beside(new("lost.A", several(ORDERED, numbers((1, 2)))))
    ).read_bytes()
    path = tmp_path / "b.ckpt"
    with watching() as ran:
        for index in range(0, len(data), 3):
            path.write_bytes(data[:index] + bytes([data[index] ^ (1 << index % 8)]) + data[index + 1 :])
            try:
                with read_tensors(path) as tensors:
                    list(tensors.values())
            except ValueError as error:
                assert repr(str(path)) in str(error)
    assert ran == []
