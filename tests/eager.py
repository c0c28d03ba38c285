"""TensorFlow's functions run eagerly, where tracing takes longer than what a test computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def functions_eager(eager: bool) -> Iterator[None]:
    """A scope in which they are, or are not. Other backends are left alone."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
