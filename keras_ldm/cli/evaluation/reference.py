"""Real pictures by their features or statistics, from a file."""

import sys
from collections.abc import Mapping
from zipfile import BadZipFile

import numpy as np

from keras_ldm.metrics import FeatureStatistics
from keras_ldm.metrics.image_features import ImageFeatures, is_features_file
from keras_ldm.metrics.measures import Reference


def load_reference(path: str, descriptions: Mapping[str, str]) -> Reference:
    """Features that `ImageFeatures.save` wrote, or statistics, of this package or of others.

    Files of others do not say what they are of; they are taken for those of the network in use, and this
    is said.

    Args:
        path: the file.
        descriptions: of the features of the network in use, by name.

    Raises:
        ValueError: if it is no such file.
    """
    if is_features_file(path):
        return ImageFeatures.load(path)
    names = _names(path)
    if "features" in names:
        return FeatureStatistics.load(path)
    found = []
    for name, mean in (("pooled", "mu"), ("spatial", "mu_s")):
        if name in descriptions and (mean in names or name == "pooled"):
            found.append(FeatureStatistics.load(path, descriptions[name], spatial=name == "spatial"))
            print(f"{path} says not of what it is: taken for {descriptions[name]!r}", file=sys.stderr)
    return found


def _names(path: str) -> set[str]:
    """Of the arrays in a file; none where it cannot be read, which loading then says."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return set(file.files)
    except (OSError, EOFError, ValueError, TypeError, BadZipFile):
        return set()
