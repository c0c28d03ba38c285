"""Which network it is: its configuration and its weights in a few digits."""

import hashlib
import json

import keras
import numpy as np
from keras import ops

from keras_ldm.backend import outside_graph

_NOT_COMPUTED_BY = ("name", "trainable", "rematerialize", "resize_mode")  # the last is said in words


def fingerprint(network: keras.Model) -> str:
    """The first 12 hexadecimal digits of SHA-256 over shapes and bytes of all weights, as float32.

    A network of this package has its configuration in it, which says what else it computes by.
    """
    digest = hashlib.sha256()
    if any(base.__module__.startswith("keras_ldm.") for base in type(network).__mro__):
        config = {k: v for k, v in network.get_config().items() if k not in _NOT_COMPUTED_BY}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    with outside_graph():
        for weight in network.weights:
            digest.update(repr(tuple(weight.shape)).encode())
            digest.update(np.asarray(ops.convert_to_numpy(weight), "<f4").tobytes())
    return digest.hexdigest()[:12]
