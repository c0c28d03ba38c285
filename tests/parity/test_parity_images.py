"""PSNR and SSIM against scikit-image, MS-SSIM against TensorFlow, on the same images.

pip install scikit-image

Both libraries leave out the places where the window, of 11 pixels and σ = 1.5, reaches beyond the image.
"""

import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from keras_ldm.metrics import PeakSignalToNoiseRatio, StructuralSimilarity
from keras_ldm.metrics.ms_ssim import MultiScaleStructuralSimilarity

pytestmark = pytest.mark.parity


def pictures(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Waves and edges in [-1, 1], and those with more and more noise."""
    y, x = np.mgrid[:height, :width] / 16
    waves = [np.sin(x * (1 + k) + c) * np.cos(y - c) for k in range(4) for c in range(3)]
    clean = np.reshape(waves, (4, 3, height, width)).transpose(0, 2, 3, 1) * 0.5
    clean[:, : height // 3, width // 2 :] += 0.4
    noise = np.random.default_rng(0).normal(0, 1, clean.shape)
    noisy = clean + noise * np.array([0.01, 0.05, 0.2, 0.8]).reshape(4, 1, 1, 1)
    return clean.clip(-1, 1).astype("float32"), noisy.clip(-1, 1).astype("float32")


def kinds(height: int, width: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """As floats and as uint8, with their peaks."""
    x, y = pictures(height, width)
    whole = [np.round((images + 1) * 127.5).astype("uint8") for images in (x, y)]
    return [(x, y, 2.0), (*whole, 255.0)]


def from_black(images: np.ndarray, peak: float) -> np.ndarray:
    """As scikit-image and TensorFlow take them, whose luminance begins at 0."""
    return images.astype("float64") + (1 if peak == 2 else 0)


def measured(metric, x: np.ndarray, y: np.ndarray) -> float:
    metric.update_state(x, y)
    return float(metric.result())


def test_psnr() -> None:
    for x, y, peak in kinds(40, 52):
        pairs = [a.astype("float64") for a in (x, y)]
        theirs = [peak_signal_noise_ratio(a, b, data_range=peak) for a, b in zip(*pairs, strict=True)]
        assert np.ptp(theirs) > 20
        for i, value in enumerate(theirs):
            ours = measured(PeakSignalToNoiseRatio(peak), x[i : i + 1], y[i : i + 1])
            assert ours == pytest.approx(value, rel=1e-6)
        assert measured(PeakSignalToNoiseRatio(peak), x, y) == pytest.approx(np.mean(theirs), rel=1e-6)


def test_ssim() -> None:
    for x, y, peak in kinds(40, 52):
        theirs = []
        for a, b in zip(from_black(x, peak), from_black(y, peak), strict=True):
            mean, places = structural_similarity(
                a,
                b,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                channel_axis=-1,
                data_range=peak,
                full=True,
            )
            assert mean == pytest.approx(places[5:-5, 5:-5].mean(), rel=1e-12)
            theirs.append(mean)
        assert theirs[0] > 0.95 and theirs[-1] < 0.3
        for i, value in enumerate(theirs):
            ours = measured(StructuralSimilarity(peak), x[i : i + 1], y[i : i + 1])
            assert ours == pytest.approx(value, rel=1e-6)
        assert measured(StructuralSimilarity(peak), x, y) == pytest.approx(np.mean(theirs), rel=1e-6)


def test_ms_ssim() -> None:
    """For sides that stay even; TensorFlow repeats the last row of an odd one."""
    for x, y, peak in kinds(176, 192):
        pairs = [from_black(images, peak).astype("float32") for images in (x, y)]
        theirs = tf.image.ssim_multiscale(*pairs, peak).numpy()
        assert theirs[0] > 0.98 and theirs[-1] < 0.8
        for i, value in enumerate(theirs):
            ours = measured(MultiScaleStructuralSimilarity(peak), x[i : i + 1], y[i : i + 1])
            assert ours == pytest.approx(value, rel=1e-5)
