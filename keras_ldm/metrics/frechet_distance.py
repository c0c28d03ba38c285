"""The Fréchet distance of two normal distributions, which on features of Inception-v3 is FID.

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁Σ₂)^½

With Σᵢ = LᵢLᵢᵀ the last trace is the sum of the singular values of L₁ᵀL₂. Unlike the square roots of
the eigenvalues of Σ₁Σ₂, these keep their digits where there are fewer images than features.

Reference: Heusel et al. 2017, https://arxiv.org/abs/1706.08500, equation 6; Dowson & Landau 1982.
"""

import warnings

import numpy as np

from keras_ldm.metrics.feature_statistics import FeatureStatistics, check_comparable
from keras_ldm.types import Array


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The squared Fréchet distance of features, taken as normally distributed.

    On Inception-v3's 2,048 pooled features it is FID, on its spatial ones sFID, of reconstructions and
    their images rFID. It falls as the number of images grows: compare results for equal numbers only,
    and with `features` and that number beside them.

    Args:
        a: statistics of real images, for instance.
        b: statistics of generated images, by the same features.

    Returns:
        The distance, 0 or more.

    Raises:
        ValueError: if the features differ.

    A warning is given where there are no more images than features: the covariance then says more of
    which images they are than of the distribution.
    """
    check_comparable(a, b)
    for statistics in (a, b):
        if statistics.count is not None and statistics.count <= statistics.mean.size:
            warnings.warn(
                f"The Fréchet distance of {statistics.mean.size} features is estimated from "
                f"{statistics.count} images, which is too few; use more, or the kernel distance",
                stacklevel=2,
            )
    apart = np.square(a.mean - b.mean).sum()
    product = _root(a.covariance).T @ _root(b.covariance)
    shared = np.linalg.svd(product, compute_uv=False).sum()
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return float(max(apart + traces - 2.0 * shared, 0.0))


def _root(covariance: Array) -> Array:
    """L of Σ = LLᵀ. Eigenvalues that rounding may have left are none, for their roots are not small."""
    values, vectors = np.linalg.eigh(covariance)
    rounding = len(values) * np.finfo(np.float64).eps * np.abs(values).max()
    return np.asarray(vectors * np.sqrt(np.where(values > rounding, values, 0.0)))
