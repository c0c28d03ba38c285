"""Distances of features against torch-fidelity and `prdc`, on the same features.

pip install scikit-learn; pip install --no-deps torch-fidelity prdc
"""

import numpy as np
import pytest
import torch
from prdc import compute_prdc

from keras_ldm.metrics import (
    FeatureStatistics,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from tests.parity import fidelity

pytestmark = pytest.mark.parity


def features(count: int, dim: int, seed: int) -> np.ndarray:
    """Like those of a network: correlated, most of them small, none below 0."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((dim, dim)) / dim**0.5
    return np.maximum(rng.gamma(0.5, 1 + 0.05 * seed, (count, dim)) @ mixing, 0).astype("float64")


def test_frechet_distance() -> None:
    real, generated = features(700, 96, 0), features(600, 96, 1)
    theirs = fidelity.fid_statistics_to_metric(
        *(fidelity.fid_features_to_statistics(torch.from_numpy(x)) for x in (real, generated)), False
    )["frechet_inception_distance"]
    ours = frechet_distance(*(FeatureStatistics.of(x, "f") for x in (real, generated)))
    assert theirs > 0.01 and ours == pytest.approx(theirs, rel=1e-6)


def test_kernel_distance() -> None:
    """One subset of all images, so that no draw matters."""
    real, generated = features(400, 64, 0), features(400, 64, 1)
    theirs = fidelity.kid_features_to_metric(
        *(torch.from_numpy(x) for x in (real, generated)), kid_subsets=1, kid_subset_size=400
    )["kernel_inception_distance_mean"]
    ours, _ = kernel_distance(real, generated, num_subsets=1, subset_size=400)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_inception_score() -> None:
    logits = 4 * features(503, 30, 0)
    theirs = fidelity.isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    ours = inception_score(logits)
    expected = (theirs["inception_score_mean"], theirs["inception_score_std"])
    assert theirs["inception_score_mean"] > 1.2 and ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [3, 5])
def test_manifolds(k: int) -> None:
    real, generated = features(300, 16, 0), features(250, 16, 3)
    theirs = compute_prdc(real_features=real, fake_features=generated, nearest_k=k)
    ours = (*precision_recall(real, generated, k), *density_coverage(real, generated, k))
    expected = [theirs[name] for name in ("precision", "recall", "density", "coverage")]
    assert ours == pytest.approx(expected, rel=1e-6)
    assert 0.1 < expected[0] < 1
