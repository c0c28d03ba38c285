"""Against PyTorch itself and the safetensors library with it, name by name and bit by bit."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from keras_ldm.files import read_tensors, write_ckpt, write_safetensors

pytestmark = pytest.mark.parity


def bits(tensor: Any) -> bytes:
    flat = tensor.detach().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def tensors_of_every_kind() -> "OrderedDict[str, Any]":
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    names = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]
    names += ["bool", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]
    kinds = {n: (torch.rand(3, 5) * 50).to(getattr(torch, n)) for n in names}
    views = {
        "base": base,
        "transposed": base.t(),
        "part": base[1:3, 1::2],
        "row": base[3],
        "expanded": base[:, :1].expand(4, 7),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    with_attribute = torch.nn.Parameter(torch.randn(3))
    with_attribute.note = "kept by _rebuild_parameter_with_state"
    return OrderedDict(kinds | views | {"with attribute": with_attribute})


class Callback:
    pass


def checkpoints() -> dict[str, Any]:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    net(torch.randn(2, 3, 8, 4)[:, :, :, :4].new_zeros(2, 3, 6, 6)).sum().backward()
    optimizer = torch.optim.AdamW(net.parameters())
    optimizer.step()
    lightning = {
        "epoch": 3,
        "global_step": 1000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": net.state_dict(),
        "callbacks": {Callback: {"best": torch.tensor(0.5), "object": Callback(), "path": Path("/a")}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"lr": np.float64(3), "array": np.arange(3), "size": torch.Size([1, 2])}],
        "hyper_parameters": {"device": torch.device("cpu"), "dtype": torch.float16, "set": {1, 2}},
    }
    every = tensors_of_every_kind()
    return {
        "all": every,
        "plain": dict(every),
        "nested": {"state_dict": every},
        "module": net.state_dict(),
        "lightning": lightning,
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["all", "plain", "nested", "module", "lightning"])
def test_reads_what_torch_saves(tmp_path: Path, kind: str, legacy: bool) -> None:
    saved = checkpoints()[kind]
    torch.save(saved, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    wanted = saved.get("state_dict", saved)
    with read_tensors(tmp_path / "a.ckpt") as tensors:
        assert list(tensors) == list(wanted)
        for name, tensor in wanted.items():
            assert tensors[name].shape == tuple(tensor.shape)
            assert str(tensors[name].dtype) == str(tensor.dtype).removeprefix("torch.")
            assert tensors[name].tobytes() == bits(tensor)
        if kind == "lightning":
            step = {"epoch": 3, "global_step": 1000, "pytorch-lightning_version": "1.4.2"}
            assert tensors.metadata == step


@pytest.mark.parametrize("protocol", range(2, 6))
def test_reads_every_protocol(tmp_path: Path, protocol: int) -> None:
    saved = checkpoints()["lightning"]
    torch.save(saved, tmp_path / "a.ckpt", pickle_protocol=protocol)
    with read_tensors(tmp_path / "a.ckpt") as tensors:
        wanted = {name: bits(tensor) for name, tensor in saved["state_dict"].items()}
        assert {name: array.tobytes() for name, array in tensors.items()} == wanted


def test_reads_files_without_checksums(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(3)}, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    with read_tensors(tmp_path / "a.ckpt") as tensors:
        assert tensors["w"].tolist() == [0, 1, 2]


def test_refuses_a_module_and_a_script(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    torch.save(net, tmp_path / "net.pt")
    torch.jit.script(net).save(str(tmp_path / "script.pt"))
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    torch.save({"w": torch.complex(torch.ones(2), torch.ones(2)).conj()}, tmp_path / "conj.pt")
    for name, reason in {
        "net.pt": "an object of 'torch.nn.modules.linear.Linear'",
        "script.pt": "TorchScript",
        "sparse.pt": "_rebuild_sparse_tensor",
        "conj.pt": "ComplexFloatStorage",
    }.items():
        with pytest.raises(ValueError, match=reason):
            read_tensors(tmp_path / name)


ARRAYS = {
    "single": np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3),
    "double": np.linspace(-1, 1, 6),
    "half": np.linspace(-1, 1, 6).astype("float16"),
    "brain": np.linspace(-1, 1, 6).astype(ml_dtypes.bfloat16),
    "i64": np.array([-(2**63), 2**63 - 1]),
    "i32": np.array([[-5], [5]], "int32"),
    "i16": np.array([-5, 5], "int16"),
    "i8": np.array([-5, 5, 7], "int8"),
    "u8": np.array([255], "uint8"),
    "flags": np.array([True, False, True]),
    "scalar": np.float32(2.5),
    "empty": np.empty((0, 3), "float32"),
    "transposed": np.arange(12, dtype="float32").reshape(3, 4).T,
    "ünïcödé": np.arange(3),
}


def check(found: dict[str, Any]) -> None:
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert tuple(found[name].shape) == np.shape(array)
        assert str(found[name].dtype) == f"torch.{np.asarray(array).dtype}"
        assert bits(found[name]) == np.asarray(array).tobytes()


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_loads_what_is_written(tmp_path: Path, mapped: bool) -> None:
    metadata = {"global_step": 2**40, "epoch": 3, "loss": 0.1, "done": True, "best": None, "v": "ü"}
    write_ckpt(tmp_path / "a.ckpt", ARRAYS, metadata)
    found = torch.load(tmp_path / "a.ckpt", weights_only=True, mmap=mapped)
    assert list(found["state_dict"]) == list(ARRAYS)
    check(found.pop("state_dict"))
    assert found == metadata


def test_torch_loads_it_into_a_module(tmp_path: Path) -> None:
    net = torch.nn.BatchNorm2d(3)
    write_ckpt(tmp_path / "a.ckpt", {n: t.numpy() + 1 for n, t in net.state_dict().items()})
    net.load_state_dict(torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"])
    assert net.running_mean.tolist() == [1, 1, 1] and int(net.num_batches_tracked) == 1


def test_the_library_gives_torch_what_is_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_safetensors(tmp_path / "a.safetensors", ARRAYS)
    check(load_file(tmp_path / "a.safetensors"))
    tensors = {n: t.detach().clone() for n, t in tensors_of_every_kind().items()}
    tensors = {n: t.contiguous() for n, t in tensors.items()}
    save_file(tensors, tmp_path / "b.safetensors")
    with read_tensors(tmp_path / "b.safetensors") as found:
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            assert found[name].tobytes() == bits(tensor)
            assert str(found[name].dtype) == str(tensor.dtype).removeprefix("torch.")
