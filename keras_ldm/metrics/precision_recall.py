"""Improved precision and recall: fidelity and diversity apart.

    precision: share of generated images within reach of a real one
    recall:    share of real images within reach of a generated one

where each image of the other set reaches as far as its k-th nearest neighbour in its own set.

Reference: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, equations 1 and 2.
"""

from collections.abc import Iterator

import numpy as np

from keras_ldm.types import Array

_BLOCK = 1024


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
    real, generated = (_check(x, k) for x in (real, generated))
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            "Expected features of one width. Received: "
            f"shapes {real.shape} (real) and {generated.shape} (generated)"
        )
    return _share_within_reach(generated, real, k), _share_within_reach(real, generated, k)


def _check(features: Array, k: int) -> Array:
    values = np.asarray(features, dtype=np.float64)
    if k < 1 or values.ndim != 2 or len(values) <= k or not np.all(np.isfinite(values)):
        raise ValueError(
            f"Expected k >= 1 and finite features (N, dim) of more than k={k} images. "
            f"Received: shape {values.shape}"
        )
    return values


def _squared_distances(a: Array, b: Array) -> Iterator[Array]:
    """Of some rows of `a` at a time to all of `b`."""
    norms = np.square(b).sum(axis=1)
    for start in range(0, len(a), _BLOCK):
        rows = a[start : start + _BLOCK]
        distances = np.square(rows).sum(axis=1)[:, None] + norms - 2.0 * rows @ b.T
        yield np.maximum(distances, 0.0)


def _share_within_reach(points: Array, references: Array, k: int) -> float:
    # The nearest neighbour in its own set is the image itself.
    own = _squared_distances(references, references)
    reach = np.concatenate([np.partition(block, k, axis=1)[:, k] for block in own])
    inside = [np.any(d <= reach, axis=1) for d in _squared_distances(points, references)]
    return float(np.mean(np.concatenate(inside)))
