"""All distances of two sets of images at once, with what they were measured with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_ldm.metrics.evaluation_report import Evaluation
from keras_ldm.metrics.frechet_distance import frechet_distance
from keras_ldm.metrics.image_features import ImageFeatures
from keras_ldm.metrics.inception_score import inception_score
from keras_ldm.metrics.kernel_distance import kernel_distance
from keras_ldm.metrics.manifolds import density_coverage, precision_recall
from keras_ldm.metrics.measures import (
    DENSITY_K,
    MEASURES,
    PRECISION_K,
    SPLITS,
    Reference,
    check_measurable,
    count_of,
    real_features,
    real_statistics,
)

_SUBSETS, _SUBSET_SIZE, _SEED = 100, 1000, 0
_PER_SPLIT = 10  # the score of a single image is 1, whatever it shows


def evaluate_images(
    generated: ImageFeatures,
    reference: Reference | None = None,
    metrics: Sequence[str] = ("fid", "kid", "is", "pr", "dc"),
    *,
    progress: bool = False,
) -> Evaluation:
    """Compares generated images with real ones.

    On features of another network than the Inception-v3 of 2015 these are not the published FID, sFID,
    KID and Inception Score: `Evaluation.provenance` says of what they are.

    Args:
        generated: features of generated images.
        reference: features of real images; or statistics of them, of which only "fid" and "sfid" can
            be measured, each from those that carry its description; None for "is", which needs none.
        metrics: "fid", "sfid", "kid", "is" (Inception Score), "pr" (precision and recall), "dc"
            (density and coverage).
        progress: whether to show a progress bar; of some thousand images each takes seconds to minutes.

    Returns:
        The values by name, and what they were measured with. KID is of 100 subsets of 1,000 images, or
        of half as many as the smaller set has; precision and recall are with k = 3, density and coverage
        with k = 5; the Inception Score is of 10 parts at random, fewer where they would have less than
        10 images.

    Raises:
        ValueError: for an unknown measure, features that it needs and that are not there, features of
            other descriptions, statistics where features are needed, or too few images.

    There is a warning with "fid" and "sfid" where there are no more images than features.

    Example:

    ```python
    found = keras_ldm.metrics.evaluate_images(generated, real, ("fid", "kid", "pr"))
    found.values["fid"], found.provenance["num_generated"]
    print(found.table())
    ```
    """
    metrics = check_measurable(metrics, generated.descriptions, generated.count, reference)
    names = dict.fromkeys(MEASURES[metric].feature for metric in metrics)
    provenance: dict[str, Any] = {
        "features": {name: generated.descriptions[name] for name in names},
        "resize_mode": generated.resize_mode,
        "num_generated": generated.count,
    }
    if any(MEASURES[metric].reference != "nothing" for metric in metrics):
        provenance["num_real"] = count_of(reference)
    values: dict[str, float] = {}
    with tqdm(metrics, "measuring", disable=not progress) as bar:
        for metric in bar:
            bar.set_postfix_str(metric)
            found, settings = _measure(metric, generated, reference)
            values.update(zip(MEASURES[metric].values, found, strict=True))
            if settings:
                provenance[metric] = settings
    return Evaluation(values, provenance)


def _measure(
    metric: str, generated: ImageFeatures, reference: Reference | None
) -> tuple[tuple[float, ...], dict[str, int]]:
    """The values of one measure, and the numbers that they depend on."""
    name = MEASURES[metric].feature
    description, x = generated.descriptions[name], generated.values[name]
    if MEASURES[metric].reference == "statistics":
        real = real_statistics(reference, metric, description)
        return (frechet_distance(real, generated.statistics(name)),), {}
    if metric == "is":
        shuffled = np.random.default_rng(_SEED).permutation(x)  # classes may come in turn
        splits = min(SPLITS, len(x) // _PER_SPLIT)
        return inception_score(shuffled, num_splits=splits), {"num_splits": splits, "seed": _SEED}
    y = real_features(reference, metric, description).values[name]
    if metric == "pr":
        return precision_recall(y, x, PRECISION_K), {"k": PRECISION_K}
    if metric == "dc":
        return density_coverage(y, x, DENSITY_K), {"k": DENSITY_K}
    settings = {
        "num_subsets": _SUBSETS,
        "subset_size": min(_SUBSET_SIZE, max(2, min(len(x), len(y)) // 2)),
        "seed": _SEED,
    }
    return kernel_distance(y, x, **settings), settings
