"""The measures of two sets of images by their names: what each gives, and what it needs.

| name | values | features | reference |
|---|---|---|---|
| "fid" | fid | pooled | features or statistics |
| "sfid" | sfid | spatial | features or statistics |
| "kid" | kid, kid_std | pooled | features |
| "is" | inception_score, inception_score_std | logits | none |
| "pr" | precision, recall | pooled | features |
| "dc" | density, coverage | pooled | features |
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from keras_ldm.metrics.feature_statistics import FeatureStatistics
from keras_ldm.metrics.image_features import ImageFeatures

Reference = ImageFeatures | FeatureStatistics | Sequence[FeatureStatistics]

PRECISION_K, DENSITY_K, SPLITS = 3, 5, 10


class Measure(NamedTuple):
    """What a measure gives and needs.

    Attributes:
        values: names of what it gives.
        feature: what it is of.
        reference: the least that it needs of real images.
        at_least: images of each set.
    """

    values: tuple[str, ...]
    feature: str
    reference: Literal["features", "statistics", "nothing"]
    at_least: int


MEASURES = {
    "fid": Measure(("fid",), "pooled", "statistics", 2),
    "sfid": Measure(("sfid",), "spatial", "statistics", 2),
    "kid": Measure(("kid", "kid_std"), "pooled", "features", 2),
    "is": Measure(("inception_score", "inception_score_std"), "logits", "nothing", SPLITS),
    "pr": Measure(("precision", "recall"), "pooled", "features", PRECISION_K + 1),
    "dc": Measure(("density", "coverage"), "pooled", "features", DENSITY_K + 1),
}


def check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """The measures, each once.

    Raises:
        ValueError: for none, or one that is not known.
    """
    if isinstance(metrics, str):
        metrics = (metrics,)
    unknown = [name for name in metrics if name not in MEASURES]
    if unknown or not metrics:
        raise ValueError(f"Expected measures among {list(MEASURES)}. Received: {unknown or 'none'}")
    return tuple(dict.fromkeys(metrics))


def needed_features(metrics: Sequence[str]) -> tuple[str, ...]:
    """Names of the features that measures are of, for `extract_features`.

    Raises:
        ValueError: for none, or one that is not known.
    """
    return tuple(dict.fromkeys(MEASURES[name].feature for name in check_metrics(metrics)))


def value_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """Names of the values that measures give.

    Raises:
        ValueError: for none, or one that is not known.
    """
    return tuple(value for name in check_metrics(metrics) for value in MEASURES[name].values)


def check_counts(metrics: Sequence[str], num_generated: int | None, num_real: int | None) -> None:
    """Refuses too few images; None where a number is not known.

    Raises:
        ValueError: if there are fewer than a measure needs.
    """
    for metric in check_metrics(metrics):
        measure = MEASURES[metric]
        needs_real = measure.reference != "nothing"
        for kind, count in (("generated", num_generated), ("real", num_real if needs_real else None)):
            if count is not None and count < measure.at_least:
                raise ValueError(
                    f"Expected at least {measure.at_least} {kind} images for {metric!r}. "
                    f"Received: {count}"
                )


def check_measurable(
    metrics: Sequence[str],
    descriptions: Mapping[str, str],
    num_generated: int,
    reference: Reference | None,
    widths: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """Refuses what `evaluate_images` would, before there are any images.

    Args:
        metrics: names of measures.
        descriptions: of the features that generated images will have, by name.
        num_generated: how many there will be.
        reference: what they will be compared with.
        widths: how many of these features an image has, by name, where it is known.

    Returns:
        The measures, each once.

    Raises:
        ValueError: see `evaluate_images`.
    """
    metrics = check_metrics(metrics)
    for metric in metrics:
        name = MEASURES[metric].feature
        if name not in descriptions:
            raise ValueError(
                f"Expected the features {name!r}, which {metric!r} is of"
                + (" and InceptionV3 has" if name == "spatial" else "")
                + f". Received: {sorted(descriptions)}"
            )
        needs = MEASURES[metric].reference
        if needs == "statistics" and reference is not None and not isinstance(reference, ImageFeatures):
            found = _matching(reference, metric, descriptions[name])
            if widths is not None and found.mean.size != widths[name]:
                raise ValueError(
                    f"Expected statistics of {widths[name]} features, which {descriptions[name]!r} are. "
                    f"Received: of {found.mean.size}"
                )
        elif needs != "nothing":
            real_features(reference, metric, descriptions[name])
    check_counts(metrics, num_generated, count_of(reference))
    return metrics


def real_features(reference: Reference | None, metric: str, description: str) -> ImageFeatures:
    """The features of real images that a measure needs.

    Raises:
        ValueError: if there are none, or of another description.
    """
    if not isinstance(reference, ImageFeatures):
        raise ValueError(
            f"Expected the features of real images (`ImageFeatures`) as `reference` for {metric!r}; of "
            "their statistics only 'fid' and 'sfid' can be measured. "
            f"Received: {'None' if reference is None else 'statistics'}"
        )
    name = MEASURES[metric].feature
    found = reference.descriptions.get(name)
    if found != description:
        raise ValueError(
            f"Expected a reference with the same features {name!r}, {description!r}. Received: "
            + (f"only {sorted(reference.descriptions)}" if found is None else repr(found))
        )
    return reference


def real_statistics(reference: Reference | None, metric: str, description: str) -> FeatureStatistics:
    """The statistics of real images that carry a description.

    Raises:
        ValueError: if there are none.
    """
    if reference is None or isinstance(reference, ImageFeatures):
        return real_features(reference, metric, description).statistics(MEASURES[metric].feature)
    return _matching(reference, metric, description)


def _matching(
    reference: FeatureStatistics | Sequence[FeatureStatistics], metric: str, description: str
) -> FeatureStatistics:
    given = [reference] if isinstance(reference, FeatureStatistics) else reference
    for statistics in given:
        if statistics.features == description:
            return statistics
    raise ValueError(
        f"Expected statistics of the same features, {description!r}, for {metric!r}. "
        f"Received: {[statistics.features for statistics in given]}"
    )


def count_of(reference: Reference | None) -> int | None:
    """Images of a reference; None where it does not say, or its statistics are of different numbers."""
    if reference is None:
        return None
    if isinstance(reference, ImageFeatures | FeatureStatistics):
        return reference.count
    counts = {statistics.count for statistics in reference}
    return counts.pop() if len(counts) == 1 else None
