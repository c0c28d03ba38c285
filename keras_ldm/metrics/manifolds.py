"""Fidelity and diversity apart, by nearest neighbours.

An image reaches as far as its k-th nearest neighbour in its own set. Then

    precision: share of generated images within reach of a real one
    recall:    share of real images within reach of a generated one
    density:   how many real images reach a generated one, on average, by k
    coverage:  share of real images that reach a generated one

Density and coverage do without the reach of generated images, and so without that of outliers.

Reference: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, equations 1 and 2; Naeem et al.
2020, https://arxiv.org/abs/2002.09797, equations 4 and 5.
"""

from collections.abc import Iterator

import numpy as np

from keras_ldm.metrics.feature_statistics import check_pair
from keras_ldm.types import Array

_BLOCK = 512
_EQUAL = 1e-12  # of the squares whose difference a distance is: what rounding leaves of none


def precision_recall(real: Array, generated: Array, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall of generated images.

    Args:
        real: features of real images, `(N, dim)`.
        generated: features of generated images, `(M, dim)`. Both numbers fall as the number of
            images of the other set does: compare results for equal numbers only.
        k: which neighbour gives the reach.

    Returns:
        Precision and recall, each from 0 to 1.

    Raises:
        ValueError: for features that are not of one width or not finite, or too few of them.
    """
    real, generated = _checked(real, generated, k)
    real_reach, generated_reach = _reach(real, k), _reach(generated, k)
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    for rows, distances in _squared_distances(real, generated):
        precise |= np.any(distances <= real_reach[rows, None], axis=0)
        recalled[rows] = np.any(distances <= generated_reach, axis=1)
    return float(np.mean(precise)), float(np.mean(recalled))


def density_coverage(real: Array, generated: Array, k: int = 5) -> tuple[float, float]:
    """Density and coverage of generated images.

    Args:
        real: features of real images, `(N, dim)`.
        generated: features of generated images, `(M, dim)`. Coverage rises with their number.
        k: which neighbour gives the reach.

    Returns:
        Density, 0 or more and about 1 for equal distributions, and coverage, from 0 to 1.

    Raises:
        ValueError: for features that are not of one width or not finite, or too few of them.
    """
    real, generated = _checked(real, generated, k)
    reach, pairs, covered = _reach(real, k), 0, np.zeros(len(real), bool)
    for rows, distances in _squared_distances(real, generated):
        reached = distances <= reach[rows, None]
        pairs += int(np.count_nonzero(reached))
        covered[rows] = np.any(reached, axis=1)
    return pairs / (k * len(generated)), float(np.mean(covered))


def _checked(real: Array, generated: Array, k: int) -> tuple[Array, Array]:
    if k < 1:
        raise ValueError(f"Expected k >= 1. Received: {k}")
    real, generated = check_pair(real, generated, k + 1)
    return real.astype(np.float64), generated.astype(np.float64)


def _reach(points: Array, k: int) -> Array:
    """Squared distance of each to its k-th neighbour; its nearest in its own set is itself."""
    blocks = _squared_distances(points, points)
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for _, block in blocks])


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Of some rows of `a` at a time to all of `b`."""
    norms = np.square(b).sum(axis=1)
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        products = a[rows] @ b.T
        products *= 2.0
        both = np.square(a[rows]).sum(axis=1)[:, None] + norms
        distances = both - products
        distances[distances <= _EQUAL * both] = 0.0
        yield rows, distances
