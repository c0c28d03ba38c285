"""Data that several examples' tests train on."""

import gzip
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def fashion_mnist_files(tmp_path) -> Path:
    """Files of the form of Fashion-MNIST: the class is a shade."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 64), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = 20 * labels[:, None, None] + rng.integers(0, 20, (count, 28, 28))
        for name, header, values in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            with gzip.open(folder / f"{split}-{name}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.astype(np.uint8).tobytes())
    return folder
