"""Checkpoints written by hand, as PyTorch writes them, are read without it."""

import argparse
import collections
import datetime
import pathlib
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from keras_ldm.files import read_tensors
from tests.files.handmade import (
    GOOD,
    ORDERED,
    call,
    dictionary,
    floats,
    legacy,
    name,
    new,
    number,
    numbers,
    opened,
    ordered,
    refused,
    several,
    storage,
    tensor,
    text,
    zipped,
)

VALUES = np.arange(6, dtype="float32").reshape(2, 3)
KINDS = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "UntypedStorage": np.uint8,
    "torch.storage.UntypedStorage": np.uint8,
}


def write(path: Path, layout: str, value: bytes, storages: dict[str, tuple[int, bytes]]) -> Path:
    if layout == "legacy":
        return legacy(path, value, [(key, count, data) for key, (count, data) in storages.items()])
    compression = zipfile.ZIP_DEFLATED if layout == "compressed" else zipfile.ZIP_STORED
    return zipped(path, value, {k: d for k, (_, d) in storages.items()}, compression=compression)


LAYOUTS = ("zip", "compressed", "legacy")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_and_bits(tmp_path: Path, layout: str, kind: str) -> None:
    wanted = np.array([[0, 1, 1], [1, 0, 1]]).astype(KINDS[kind])
    if wanted.dtype.itemsize > 1:
        wanted = (wanted * 5 / 3).astype(wanted.dtype)
    value = dictionary({"state_dict": ordered({"a.weight": tensor(kind, 6, (2, 3))})})
    path = write(tmp_path / "any.name", layout, value, {"0": (6, wanted.tobytes())})
    with opened(path) as tensors:
        assert list(tensors) == ["a.weight"] and len(tensors) == 1 and "a.weight" in tensors
        assert tensors.shape("a.weight") == (2, 3) and tensors.dtype("a.weight") == wanted.dtype
        array = tensors["a.weight"]
        assert array.dtype == wanted.dtype and array.shape == (2, 3)
        assert array.tobytes() == wanted.tobytes()
        array[...] = 0  # it is the caller's own
        assert tensors["a.weight"].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views(tmp_path: Path, layout: str) -> None:
    """Several tensors in a storage: offsets, strides, none of either, no elements, one repeated."""
    views = {
        "whole": tensor("FloatStorage", 24, (2, 3, 4)),
        "transposed": tensor("FloatStorage", 24, (4, 2), (1, 12), offset=4),
        "stepped": tensor("FloatStorage", 24, (2, 2), (12, 2), offset=1),
        "last": tensor("FloatStorage", 24, (), offset=23),
        "first": tensor("FloatStorage", 24, (1,), (24,)),
        "none": tensor("FloatStorage", 24, (0, 3), (3, 1), offset=24),
        "repeated": tensor("FloatStorage", 24, (3, 5), (0, 4), offset=2),
        "overlapping": tensor("FloatStorage", 24, (3, 3), (1, 1), offset=2),
        "second": tensor("HalfStorage", 3, (3,), key="7"),
        "nothing": tensor("FloatStorage", 0, (0,), key="8"),
    }
    base, halves = np.arange(24, dtype="float32"), np.array([1, -2, 0.1], "float16")
    data = {"0": (24, base.tobytes()), "7": (3, halves.tobytes()), "8": (0, b"")}
    cube = base.reshape(2, 3, 4)
    wanted = {
        "whole": cube,
        "transposed": cube[:, 1].T,
        "stepped": cube[:, 0, 1::2],
        "last": base[23],
        "first": base[:1],
        "none": np.empty((0, 3), "float32"),
        "repeated": np.tile(base[2:22:4], (3, 1)),
        "overlapping": base[2:7][np.add.outer(np.arange(3), np.arange(3))],
        "second": halves,
        "nothing": np.empty(0, "float32"),
    }
    with opened(write(tmp_path / "a.pt", layout, dictionary(views), data)) as tensors:
        assert list(tensors) == list(wanted)
        for key, value in wanted.items():
            assert tensors.shape(key) == value.shape == tensors[key].shape
            np.testing.assert_array_equal(tensors[key], value)
            assert tensors[key].flags.c_contiguous


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_what_torch_rebuilds(tmp_path: Path, layout: str) -> None:
    parts = (storage("FloatStorage", "0", 6), number(0), numbers((2, 3)), numbers((3, 1)))
    size = call("torch.Size", numbers((2, 3)))
    untyped = storage("UntypedStorage", "0", 24)
    first = "torch._utils._rebuild_tensor"
    entries = {
        "v1": call(first, *parts),
        "v2": GOOD,
        "v2 with no metadata": call(f"{first}_v2", *parts, b"\x89", ORDERED, b"N"),
        "v2 with empty metadata": call(f"{first}_v2", *parts, b"\x89", ORDERED, b"}"),
        "size": call(f"{first}_v2", parts[0], number(0), size, numbers((3, 1)), b"\x89", ORDERED),
        "parameter": call("torch._utils._rebuild_parameter", GOOD, b"\x88", ORDERED),
        "stateful": call("torch._utils._rebuild_parameter_with_state", GOOD, b"\x88", ORDERED, b"}"),
        "v3": call(f"{first}_v3", untyped, *parts[1:], b"\x89", ORDERED, name("torch.float32")),
    }
    path = write(tmp_path / "a.pt", layout, dictionary(entries), {"0": (6, floats())})
    with opened(path) as tensors:
        assert list(tensors) == list(entries)
        for array in tensors.values():
            np.testing.assert_array_equal(array, VALUES)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_that_have_no_storage_class(tmp_path: Path, dtype: str) -> None:
    wanted = np.array([1, 2, 3]).astype(dtype if "u" in dtype else getattr(ml_dtypes, dtype))
    value = call(
        "torch._utils._rebuild_tensor_v3",
        storage("UntypedStorage", "0", wanted.nbytes),
        number(1),
        numbers((2,)),
        numbers((1,)),
        b"\x89",
        ORDERED,
        name(f"torch.{dtype}"),
    )
    with opened(zipped(tmp_path / "a.pt", dictionary({"x": value}), {"0": wanted.tobytes()})) as tensors:
        assert tensors["x"].dtype == wanted.dtype and tensors["x"].tobytes() == wanted[1:].tobytes()


# === Where the tensors are ===


def test_state_dict_with_its_own_metadata(tmp_path: Path) -> None:
    versions = dictionary({"_metadata": ordered({"": dictionary({"version": number(1)})})})
    value = ordered({"w": GOOD}, versions)
    for entries in (value, dictionary({"state_dict": value})):
        with opened(zipped(tmp_path / "a.pt", entries)) as tensors:
            assert list(tensors) == ["w"]


def test_numbers_and_strings_beside_the_state_dict(tmp_path: Path) -> None:
    entries = {
        "epoch": number(3),
        "global_step": number(2**40),
        "pytorch-lightning_version": text("1.4.2"),
        "loss": b"G" + struct.pack(">d", 0.25),
        "done": b"\x88",
        "best": b"N",
        "optimizer_states": b"](" + dictionary({"state": dictionary({number(0): GOOD})}) + b"e",
        "state_dict": dictionary({"w": GOOD}),
        number(4): number(5),
    }
    with opened(zipped(tmp_path / "a.ckpt", dictionary(entries))) as tensors:
        assert list(tensors) == ["w"]
        assert tensors.metadata == {
            "epoch": 3,
            "global_step": 2**40,
            "pytorch-lightning_version": "1.4.2",
            "loss": 0.25,
            "done": True,
            "best": None,
        }


def test_a_tensor_named_state_dict(tmp_path: Path) -> None:
    with opened(zipped(tmp_path / "a.ckpt", dictionary({"state_dict": GOOD, "b": GOOD}))) as tensors:
        assert list(tensors) == ["state_dict", "b"] and tensors.metadata == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (dictionary({"state_dict": dictionary({"w": GOOD, "b": number(3)})}), "'b' is a int"),
        (dictionary({"w": GOOD, "epoch": number(3)}), "'epoch' is a int"),
        (dictionary({"w": GOOD, "e": dictionary({})}), "'e' is a dictionary"),
        (dictionary({"w": GOOD, "e": b"]"}), "'e' is a list"),
        (dictionary({"w": GOOD, "e": storage("FloatStorage", "0", 6)}), "'e' is a Storage"),
        (dictionary({"w": new("lost.Tensor")}), "'w' is an object of 'lost.Tensor'"),
        (dictionary({"w": name("lost.Tensor")}), "'w' is the name 'lost.Tensor'"),
        (dictionary({f"n{i}": number(i) for i in range(9)}), "'n4' is a int and 4 more"),
        (dictionary({number(3): GOOD}), "name is a int"),
        (dictionary({"state_dict": new("lost.Model")}), "'state_dict' is an object of 'lost.Model'"),
        (dictionary({"state_dict": b"]"}), "'state_dict' is a list"),
        (dictionary({"state_dict": b"}"}), "no tensors"),
        (dictionary({}), "no tensors"),
        (ORDERED, "no tensors"),
        (new("lost.Model", dictionary({"w": GOOD})), "an object of 'lost.Model', not a dictionary"),
        (GOOD, "a StoredTensor, not a dictionary"),
        (several(GOOD, GOOD), "a tuple, not a dictionary"),
        (b"N", "a NoneType, not a dictionary"),
        (b"}(" + text("w") + GOOD + text("w") + GOOD + b"u", "twice 'w'"),
    ],
)
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_what_is_no_state_dict(tmp_path: Path, layout: str, value: bytes, reason: str) -> None:
    refused(write(tmp_path / "a.ckpt", layout, value, {"0": (6, floats())}), reason)


# === What else stands in checkpoints ===

LIGHTNING = {
    "epoch": number(7),
    # as a key, and with a state
    "callbacks": dictionary(
        {
            name("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"): dictionary(
                {
                    "best_model_score": GOOD,
                    "dirpath": call("pathlib.PosixPath", text("/"), text("logs")),
                    "numpy": call(
                        "numpy.core.multiarray.scalar",
                        call("numpy.dtype", text("f8"), b"\x89", b"\x88") + several(number(3)) + b"b",
                        call("_codecs.encode", text("\x00ÿ"), text("latin1")),
                    ),
                }
            )
        }
    ),
    "hyper_parameters": new("omegaconf.dictconfig.DictConfig", dictionary({"lr": number(1)})),
    "namespace": new("argparse.Namespace", dictionary({"a": number(1)})),
    "old object": call("copy_reg._reconstructor", name("lost.A"), name("__builtin__.object"), b"N"),
    "a list of its own": new("lost.List") + b"(" + number(1) + number(2) + b"e" + number(3) + b"a",
    "a dictionary of its own": call("collections.defaultdict", name("lost.F"))
    + text("k")
    + number(1)
    + b"s",
    "nested class": call("__builtin__.getattr", name("lost.Outer"), text("Inner")) + b")R",
    "the type of None": call("__builtin__.type", b"N"),
    "set": call("__builtin__.set", b"](" + number(1) + b"e"),
    "by keywords": name("lost.A") + b")" + b"}" + b"\x92",
    "INST": b"(" + number(1) + b"ilost\nA\n",
    "OBJ": b"(" + name("lost.A") + number(1) + b"o",
    "dtype": name("torch.float32"),
    "device": call("torch.device", text("cuda"), number(0)),
    "partial": call("functools.partial", name("torch.optim.lr_scheduler.LambdaLR")) + b"Nb",
    "state_dict": ordered({"w": GOOD}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_objects_of_lightning_do_nothing(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path / "a.ckpt", layout, dictionary(LIGHTNING), {"0": (6, floats())})
    with opened(path) as tensors:
        assert tensors.metadata == {"epoch": 7}
        np.testing.assert_array_equal(tensors["w"], VALUES)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    shared = ("shared", 1)
    values = {
        "epoch": 3,
        "numbers": [0, 1, -1, 255, 65536, -(2**40), 2**70, 2**3000, 1.5, float("inf"), True, None],
        "metadata": -(2**70),
        "text": "ü\n\\",
        "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], [1, 2], {}, {1: 2}, shared],
        "sets": [set(), {1, 2}, frozenset([3])],
        "bytes": [b"", b"\xff", bytearray(b"abc")],
        "again": shared,
        "objects": [
            datetime.datetime(2020, 1, 1),
            collections.Counter("aab"),
            collections.defaultdict(list, a=[1]),
            argparse.Namespace(a=1),
            pathlib.PurePosixPath("/a"),
            np.float64(3),
            np.arange(3),
            complex(1, 2),
            slice(1, 2),
            range(3),
            type(None),
            Ellipsis,
        ],
    }
    pickled = pickle.dumps(values, protocol)
    state = text("state_dict") + ordered({"w": GOOD}) + b"s."
    path = zipped(tmp_path / "a.ckpt", b"", members={})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled[:-1] + state)
        archive.writestr("a/data/0", floats())
    with opened(path) as tensors:
        assert tensors.metadata == {"epoch": 3, "metadata": -(2**70), "text": "ü\n\\"}
        np.testing.assert_array_equal(tensors["w"], VALUES)


def test_memo_as_python_2_counts_it(tmp_path: Path) -> None:
    value = b"}q\x01(" + text("a") + GOOD + b"q\x02" + text("b") + b"h\x02" + b"u"
    with opened(legacy(tmp_path / "a.pt", value)) as tensors:
        np.testing.assert_array_equal(tensors["a"], tensors["b"])


def test_dictionaries_of_an_argument(tmp_path: Path) -> None:
    """Python 2 gives an OrderedDict its pairs at once."""
    pair = b"](" + text("w") + GOOD + b"e"
    with opened(
        legacy(tmp_path / "a.pt", call("collections.OrderedDict", b"](" + pair + b"e"))
    ) as tensors:
        assert list(tensors) == ["w"]


def test_stack_opcodes(tmp_path: Path) -> None:
    """POP of a value and of a mark, POP_MARK, DUP, DICT."""
    value = b"N0" + b"(0" + b"(NN1" + b"(" + text("w") + GOOD + text("v") + b"N20" + b"0" + GOOD + b"d"
    with opened(zipped(tmp_path / "a.pt", value)) as tensors:
        assert list(tensors) == ["w", "v"]


def test_legacy_names_of_modules(tmp_path: Path) -> None:
    module = several(text("module"), name("lost.Net"), text("net.py"), text("class Net: ...")) + b"Q"
    value = dictionary(
        {"net": module, "state_dict": dictionary({"w": tensor("FloatStorage", 6, (6,), more=b"N")})}
    )
    with opened(legacy(tmp_path / "a.pt", value)) as tensors:
        assert list(tensors) == ["w"]


# === The open file ===


def test_missing_names_and_closed_files(tmp_path: Path) -> None:
    tensors = read_tensors(zipped(tmp_path / "a.pt", dictionary({"w": GOOD})))
    for missing in (tensors.shape, tensors.dtype, tensors.__getitem__):
        with pytest.raises(KeyError):
            missing("other")
    assert "other" not in tensors and 3 not in tensors and tensors.get("other") is None
    assert repr(tensors) == f"TensorFile({str(tmp_path / 'a.pt')!r}, 1 tensors)"
    tensors.close()
    tensors.close()
    with pytest.raises(ValueError, match="Expected an open file.*closed"):
        tensors["w"]


def test_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.pt", dictionary({"w": GOOD}))
    with read_tensors(path) as tensors:
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=r"tensor 'w' .*damaged"):
            tensors["w"]


def test_file_without_checksums(tmp_path: Path) -> None:
    """`torch.serialization.set_crc32_options(False)` leaves them out."""
    path = zipped(tmp_path / "a.pt", dictionary({"w": GOOD}))
    with zipfile.ZipFile(path) as archive:
        checksums = [info.CRC.to_bytes(4, "little") for info in archive.infolist()]
    data = path.read_bytes()
    for checksum in checksums:
        data = data.replace(checksum, b"\0\0\0\0")
    path.write_bytes(data)
    with opened(path) as tensors:
        np.testing.assert_array_equal(tensors["w"], VALUES)
