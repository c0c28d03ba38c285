"""The kernel distance, which on features of Inception-v3 is KID: squared MMD, without bias.

    MMD² = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(x, y) = (xᵀy / dim + 1)³

where the first two means leave out each image's pair with itself.

Reference: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4.
"""

import numpy as np

from keras_ldm.metrics.feature_statistics import check_pair
from keras_ldm.types import Array


def kernel_distance(
    real: Array, generated: Array, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The kernel distance of features, over subsets drawn at random.

    Its mean does not depend on the number of images, unlike the Fréchet distance; it may be a little
    less than 0 where the distributions are equal.

    Args:
        real: features of real images, `(N, dim)`.
        generated: features of generated images, `(M, dim)`.
        num_subsets: how often it is measured.
        subset_size: images of each set that are drawn, without repetition, each time.
        seed: of the draws.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        ValueError: for features that are not finite or not of one width, for a set smaller than a
            subset, or for no subset.
    """
    if num_subsets < 1 or subset_size < 2:
        raise ValueError(
            "Expected at least one subset of at least two images. "
            f"Received: num_subsets={num_subsets}, subset_size={subset_size}"
        )
    real, generated = check_pair(real, generated, subset_size)
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(num_subsets):
        x, y = (
            values[rng.choice(len(values), subset_size, replace=False)].astype(np.float64)
            for values in (real, generated)
        )
        distances.append(_squared_mmd(x, y))
    return float(np.mean(distances)), float(np.std(distances))


def _squared_mmd(x: Array, y: Array) -> float:
    def kernel(a: Array, b: Array) -> Array:
        values = a @ b.T / a.shape[1] + 1.0
        return np.asarray(values * values * values)  # many times as fast as values**3

    def mean_of_pairs(a: Array) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return mean_of_pairs(x) + mean_of_pairs(y) - 2.0 * float(kernel(x, y).mean())
