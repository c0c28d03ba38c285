"""The metrics that a task is compiled with: which may be, and the networks of those that have one.

Keras saves a metric's configuration and no weights. A task's file has those of each network under its
fingerprint, so that a metric that comes back from the file finds its own, and no other's.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ldm.metrics import FeatureMetric
from keras_ldm.metrics.feature_description import fingerprint_in
from keras_ldm.models.fingerprint import fingerprint

PREFIX = "metric_network_"


def refuse_metrics(name: str, **metrics: Any) -> None:
    """Raises a ValueError where metrics are given to a task that has nothing for them to compare."""
    for argument, value in metrics.items():
        if value:
            raise ValueError(
                f"Expected no `{argument}`: a step of {name} draws no images. Those that it generates "
                f"are measured by keras_ldm.callbacks.SampleEvaluation. Received: {value!r}"
            )


def save_networks(model: keras.Model, store: Any) -> None:
    """Puts the weights of the compiled metrics' networks into a store."""
    for metric in _feature_metrics(model):
        if metric.awaited_description is None:
            digits = fingerprint(metric.network)
            for i, weight in enumerate(metric.network.weights):
                if _key(digits, i) not in store:  # two metrics of one network
                    store[_key(digits, i)] = weight


def load_networks(model: keras.Model, store: Any) -> None:
    """Gives those networks that came without weights theirs, if a store has them."""
    for metric in _feature_metrics(model):
        if metric.awaited_description is not None:
            digits = fingerprint_in(metric.awaited_description)
            for i, weight in enumerate(metric.network.weights):
                if _key(digits, i) in store:
                    weight.assign(ops.convert_to_tensor(store[_key(digits, i)]))
            if _key(digits, 0) in store:
                metric.check_weights()


def _feature_metrics(model: keras.Model) -> Iterator[FeatureMetric]:
    compiled = getattr(model, "_compile_metrics", None)
    for metric in () if compiled is None else compiled.metrics:
        if isinstance(metric, FeatureMetric):
            yield metric


def _key(digits: str, index: int) -> str:
    return f"{PREFIX}{digits}_{index}"
