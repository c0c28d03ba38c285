"""Distances of features, against distributions with known ones, and what is refused."""

import numpy as np
import pytest

from keras_ldm.metrics import (
    FeatureStatistics,
    frechet_distance,
    inception_score,
    kernel_distance,
)


def normal(count: int, dim: int, seed: int = 0, mean: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, dim)) @ rng.standard_normal((dim, dim)) + mean).astype("float32")


def statistics(mean, covariance, count=None, features="f") -> FeatureStatistics:
    mean = np.asarray(mean, np.float64)
    return FeatureStatistics(mean, np.asarray(covariance, np.float64), count, features)


# === Statistics ===


def test_statistics_are_those_of_numpy(monkeypatch) -> None:
    monkeypatch.setattr("keras_ldm.metrics.feature_statistics._BLOCK", 7)
    x = normal(50, 6, mean=1000.0)
    found = FeatureStatistics.of(x, "f")
    assert found.count == 50 and found.features == "f"
    np.testing.assert_allclose(found.mean, x.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-9)


def test_parts_make_the_whole() -> None:
    """In any order, as processes that each see a part would give them."""
    x = normal(50, 6, mean=100.0)
    whole = FeatureStatistics.of(x, "f")
    parts = [FeatureStatistics.of(part, "f") for part in np.split(x, [5, 7, 30])]
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        found = parts[order[0]]
        for i in order[1:]:
            found = found.merged(parts[i])
        assert found.count == 50
        np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-9)


def test_files_keep_everything(tmp_path) -> None:
    kept = FeatureStatistics.of(normal(50, 6), "EfficientNet-Lite0")
    kept.save(tmp_path / "new" / "reference.npz")
    found = FeatureStatistics.load(tmp_path / "new" / "reference.npz")
    assert (found.count, found.features) == (50, "EfficientNet-Lite0")
    np.testing.assert_array_equal(found.mean, kept.mean)
    np.testing.assert_array_equal(found.covariance, kept.covariance)
    with np.load(tmp_path / "new" / "reference.npz") as file:  # as clean-fid's and ADM's code read it
        np.testing.assert_array_equal(file["mu"], kept.mean)
        np.testing.assert_array_equal(file["sigma"], kept.covariance)


def test_files_of_others(tmp_path) -> None:
    """ADM's have pictures and a second pair of statistics beside the first; neither says of what."""
    path = tmp_path / "VIRTUAL_lsun.npz"
    np.savez(
        path, arr_0=np.zeros((2, 4, 4, 3), "uint8"), mu=np.ones(3, "float32"), sigma=np.eye(3),
        mu_s=np.zeros(2), sigma_s=2 * np.eye(2),
    )  # fmt: skip
    found = FeatureStatistics.load(path, "Inception-v3")
    assert found.count is None and found.mean.dtype == np.float64 and found.mean.size == 3
    spatial = FeatureStatistics.load(path, "Inception-v3, spatial", spatial=True)
    np.testing.assert_array_equal(spatial.covariance, 2 * np.eye(2))
    with pytest.raises(ValueError, match="told what the features"):
        FeatureStatistics.load(path)
    with pytest.raises(ValueError, match="how many images"):
        found.merged(found)


def test_files_that_are_not_statistics(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        FeatureStatistics.load(tmp_path / "nothing.npz", "f")
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK\x03\x04 but no archive")
    with pytest.raises(ValueError, match="bad.npz"):
        FeatureStatistics.load(bad, "f")
    np.savez(bad, mean=np.ones(3))
    with pytest.raises(ValueError, match="'mu' and 'sigma'"):
        FeatureStatistics.load(bad, "f")
    np.savez(bad, mu=np.ones(3), sigma=np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="finite"):
        FeatureStatistics.load(bad, "f")
    np.savez(bad, mu=np.ones(3), sigma=np.eye(2))
    with pytest.raises(ValueError, match=r"\(3,\) and \(2, 2\)"):
        FeatureStatistics.load(bad, "f")
    np.savez(bad, mu=np.array([{}], object), sigma=np.eye(2))
    with pytest.raises(ValueError, match="bad.npz"):
        FeatureStatistics.load(bad, "f")
    FeatureStatistics.of(normal(9, 2), "f").save(bad)
    with pytest.raises(ValueError, match="of 'g'. Received: .*, of 'f'"):
        FeatureStatistics.load(bad, "g")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.ones((1, 3)), "at least 2 images. Received: 1"),
        (np.ones((0, 3)), "at least 2 images. Received: 0"),
        (np.ones((4, 0)), "dim"),
        (np.ones(4), r"\(4,\)"),
        (np.array([[1.0, 2.0], [np.nan, 0.0], [1.0, np.inf]]), "of 2 of 3 images, first number 1"),
        (np.array([["a"], ["b"]]), "as numbers"),
    ],
)
def test_features_that_are_none(values, match) -> None:
    with pytest.raises(ValueError, match=match):
        FeatureStatistics.of(values, "f")


# === Fréchet distance ===


def test_normal_distributions_with_known_distance() -> None:
    """Commuting covariances: d² = |μ₁ - μ₂|² + Σ (σ₁ - σ₂)²."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    first, second = rng.uniform(0, 3, (2, 40))
    first[:7] = 0
    a = statistics(np.zeros(40), turn * first**2 @ turn.T)
    b = statistics(np.full(40, 0.5), turn * second**2 @ turn.T)
    expected = 40 * 0.25 + np.square(first - second).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)


def test_covariances_that_do_not_commute() -> None:
    """Against the square root of the matrix itself."""
    from scipy.linalg import sqrtm

    x, y = normal(400, 12), normal(300, 12, seed=1, mean=0.3)
    a, b = FeatureStatistics.of(x, "f"), FeatureStatistics.of(y, "f")
    root = sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("ignore:The Fréchet distance")
@pytest.mark.parametrize("count", [30, 1000])
def test_a_distribution_is_at_no_distance_from_itself(count) -> None:
    """Of fewer images than features too, whose covariance is singular."""
    same = FeatureStatistics.of(normal(count, 200), "f")
    other = statistics(same.mean, same.covariance * 1.0)
    assert 0 <= frechet_distance(same, same) < 1e-6
    assert 0 <= frechet_distance(same, other) < 1e-6


def test_constant_images() -> None:
    """All at one place: the distance of the places."""
    a = FeatureStatistics.of(np.ones((50, 4)), "f")
    b = FeatureStatistics.of(np.full((50, 4), 3.0), "f")
    assert frechet_distance(a, b) == pytest.approx(16, abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_too_few_images_are_said_to_be() -> None:
    few, enough = FeatureStatistics.of(normal(20, 20), "f"), FeatureStatistics.of(normal(21, 20), "f")
    with pytest.warns(UserWarning, match="20 features is estimated from 20 images"):
        frechet_distance(few, enough)
    frechet_distance(enough, enough)


def test_different_features_do_not_compare() -> None:
    a = statistics(np.zeros(3), np.eye(3), 9, "Inception-v3")
    for b in (
        statistics(np.zeros(3), np.eye(3), 9, "Inception-v3, antialias"),
        statistics(np.zeros(2), np.eye(2), 9, "Inception-v3"),
    ):
        with pytest.raises(ValueError, match="the same features. Received: 'Inception-v3'"):
            frechet_distance(a, b)
        with pytest.raises(ValueError, match="the same features"):
            a.merged(b)


# === Kernel distance ===


def test_kernel_distance_is_its_definition() -> None:
    """Over all pairs, one at a time."""
    x, y = normal(9, 3), normal(7, 3, seed=1)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    def mean(a, b, same=False):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not same or i != j]
        return np.mean([k(a[i].astype(float), b[j].astype(float)) for i, j in pairs])

    x7 = x[:7]
    expected = mean(x7, x7, True) + mean(y, y, True) - 2 * mean(x7, y)
    found, spread = kernel_distance(x7, y, num_subsets=3, subset_size=7)
    assert found == pytest.approx(expected, rel=1e-9) and spread == pytest.approx(0, abs=1e-9)


def test_kernel_distance_of_equal_distributions_is_about_none() -> None:
    rng = np.random.default_rng(0)
    x, y, far = rng.normal(size=(500, 8)), rng.normal(size=(600, 8)), rng.normal(0.5, 1, (500, 8))
    options = {"num_subsets": 20, "subset_size": 200}
    near, spread = kernel_distance(x, y, **options)
    assert abs(near) < 3 * spread
    assert kernel_distance(x, far, **options)[0] > 20 * spread
    assert kernel_distance(x, y, **options) == (near, spread) != kernel_distance(x, y, seed=1, **options)


def test_kernel_distance_of_what_does_not_fit() -> None:
    x = normal(20, 3)
    for arguments, match in (
        ({"subset_size": 21}, "at least 21 images. Received: 20"),
        ({"subset_size": 1}, "two images"),
        ({"num_subsets": 0, "subset_size": 5}, "at least one subset"),
    ):
        with pytest.raises(ValueError, match=match):
            kernel_distance(x, x, **arguments)
    with pytest.raises(ValueError, match="one width"):
        kernel_distance(x, x[:, :2], subset_size=5)


# === Inception Score ===


def test_known_scores() -> None:
    """Sure of one class each, evenly: the number of classes. Always the same answer: one."""
    logits = 1000.0 * np.eye(10)[np.arange(200) % 10]
    assert inception_score(logits, num_splits=4) == pytest.approx((10.0, 0.0), rel=1e-9)
    assert inception_score(np.ones((50, 7)))[0] == pytest.approx(1.0)
    assert inception_score(logits[:10] * 0 + logits[0])[0] == pytest.approx(1.0)


def test_inception_score_is_its_definition() -> None:
    logits = normal(33, 5)
    scores = []
    for part in (logits[:16], logits[16:]):
        p = np.exp(part.astype(float)) / np.exp(part.astype(float)).sum(1, keepdims=True)
        scores.append(np.exp(np.mean([np.sum(row * np.log(row / p.mean(0))) for row in p])))
    found = inception_score(logits, num_splits=2)
    assert found == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-9)


def test_too_few_images_for_the_splits() -> None:
    with pytest.raises(ValueError, match="at least 10 images. Received: 9"):
        inception_score(np.ones((9, 4)))
    with pytest.raises(ValueError, match="at least one split"):
        inception_score(np.ones((9, 4)), num_splits=0)
