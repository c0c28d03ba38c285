"""Precision and recall against their definition written out, and sets with known answers."""

import sys

import numpy as np
import pytest

from keras_ldm.metrics import density_coverage, precision_recall


def reaches(points, k):
    return [sorted(np.linalg.norm(points - p, axis=1))[k] for p in points]


def by_definition(real, generated, k):
    """Equations 1 and 2 of Kynkäänniemi et al., one pair at a time."""

    def share(points, references):
        radii = reaches(references, k)
        inside = [
            any(np.linalg.norm(p - r) <= d for r, d in zip(references, radii, strict=True))
            for p in points
        ]
        return np.mean(inside)

    return share(generated, real), share(real, generated)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_is_the_definition(k) -> None:
    rng = np.random.default_rng(k)
    real, generated = rng.normal(size=(60, 4)), rng.normal(1.2, 0.8, size=(45, 4))
    found = precision_recall(real, generated, k)
    assert found == pytest.approx(by_definition(real, generated, k), abs=1e-12)
    assert 0 < found[1] < found[0] < 1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_density_and_coverage_are_the_definition(k) -> None:
    """Equations 4 and 5 of Naeem et al., one pair at a time."""
    rng = np.random.default_rng(k)
    real, generated = rng.normal(size=(60, 4)), rng.normal(1.2, 0.8, size=(45, 4))
    radii = reaches(real, k)
    within = np.linalg.norm(real[:, None] - generated, axis=-1) <= np.array(radii)[:, None]
    density, coverage = density_coverage(real, generated, k)
    assert density == pytest.approx(within.sum() / (k * len(generated)), abs=1e-12)
    assert coverage == pytest.approx(within.any(axis=1).mean(), abs=1e-12)
    assert 0 < coverage < 1


def test_images_that_are_all_the_same() -> None:
    """A distance of nothing is within a reach of nothing, whatever rounding leaves of either."""
    one = np.random.default_rng(0).normal(size=(1, 2048))
    same = one.repeat(700, axis=0)
    assert precision_recall(same, same[:600]) == (1.0, 1.0)
    assert precision_recall(same, same[:600] + 1e-3) == (0.0, 0.0)
    assert density_coverage(same, same[:600])[1] == 1.0


def test_many_images_are_compared_in_parts(monkeypatch) -> None:
    module = sys.modules["keras_ldm.metrics.manifolds"]
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(90, 3)), rng.normal(0.3, 1, size=(70, 3))
    whole = precision_recall(real, generated)
    monkeypatch.setattr(module, "_BLOCK", 16)
    assert precision_recall(real, generated) == whole


def test_known_answers() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3))
    assert precision_recall(points, points) == (1.0, 1.0)
    assert precision_recall(points, points + 1e3) == (0.0, 0.0)
    # One of two far clusters is missing: what is drawn is real, half of what is real is not drawn.
    clusters = np.concatenate([points, points + 1e3])
    assert precision_recall(clusters, points) == (1.0, 0.5)
    assert precision_recall(points, clusters) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("real", "generated", "k"),
    [
        (np.ones((3, 2)), np.ones((5, 2)), 3),
        (np.ones((5, 2)), np.ones((5, 3)), 3),
        (np.ones((5, 2)), np.full((5, 2), np.nan), 3),
        (np.ones((5, 2, 2)), np.ones((5, 2)), 3),
        (np.ones((5, 2)), np.ones((5, 2)), 0),
    ],
)
def test_features_that_do_not_fit_are_refused(real, generated, k) -> None:
    with pytest.raises(ValueError, match="Expected"):
        precision_recall(real, generated, k)
