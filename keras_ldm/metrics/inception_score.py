"""The Inception Score: how sure a classifier is of each image, and how evenly it uses its classes.

    IS = exp mean KL(p(y|x) || p(y)),   p(y) = mean p(y|x)

Reference: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 4.
"""

from itertools import pairwise

import numpy as np

from keras_ldm.metrics.feature_statistics import check_features
from keras_ldm.types import Array


def inception_score(logits: Array, *, num_splits: int = 10) -> tuple[float, float]:
    """The Inception Score of generated images.

    Args:
        logits: of a classifier, `(N, classes)`; Inception-v3's 1,008 without its bias, for the published
            score. Its images should be in random order: each split is a run of them.
        num_splits: parts, of which each has a score.

    Returns:
        Mean and standard deviation over the splits; 1 to the number of classes.

    Raises:
        ValueError: for logits that are not finite, or fewer images than splits.
    """
    if num_splits < 1:
        raise ValueError(f"Expected at least one split. Received: num_splits={num_splits}")
    logits = check_features(logits, num_splits).astype(np.float64)
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    bounds = np.arange(num_splits + 1) * len(logits) // num_splits
    scores = []
    for start, end in pairwise(bounds):
        given = np.exp(log_p[start:end])
        # Where the mean underflows to 0, so does every p, and the term is 0.
        overall = np.log(np.maximum(given.mean(axis=0), np.finfo(np.float64).tiny))
        divergences = (given * (log_p[start:end] - overall)).sum(axis=1)
        scores.append(np.exp(divergences.mean()))
    return float(np.mean(scores)), float(np.std(scores))
