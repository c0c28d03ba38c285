"""Measures of each image and its reconstruction."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ldm.metrics import LPIPS, PeakSignalToNoiseRatio, StructuralSimilarity
from keras_ldm.types import Array

PAIR_MEASURES = ("psnr", "ssim", "lpips")


class PairMeasures:
    """PSNR, SSIM and LPIPS of pairs of uint8 images, each by itself.

    Args:
        names: which of "psnr", "ssim" and "lpips".

    Raises:
        ImportError: if LPIPS is among them and its weights are not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.metrics = {name: _metric(name) for name in names}
        self.descriptions = {name: f"{name} of each image and its reconstruction" for name in names}

    def __call__(self, images: Array, reconstructions: Array) -> dict[str, Array]:
        """What each pair measures, float32 `(n, 1)` by name."""
        values = {name: np.zeros((len(images), 1), np.float32) for name in self.names}
        for name, metric in self.metrics.items():
            for i in range(len(images)):
                metric.reset_state()
                metric.update_state(images[i : i + 1], reconstructions[i : i + 1])
                values[name][i] = float(metric.result())
        return values


def _metric(name: str) -> Any:
    if name == "psnr":
        return PeakSignalToNoiseRatio(peak=255)
    if name == "ssim":
        return StructuralSimilarity(peak=255)
    return LPIPS()
