"""Parts of a batch beside one another, on TensorFlow's CPU.

TensorFlow spreads each operation over the cores, which then wait for each other at each of some thousand
operations a step. With one thread an operation, and a part of the batch for each core, they meet a few
times a step.
"""

import os
from collections.abc import Callable
from typing import Any

import keras

from keras_ldm.backend.compilation import is_tensorflow_on_cpu
from keras_ldm.types import Tensor


def enable_batch_parallelism() -> None:
    """Makes tasks compute parts of each batch beside one another, one on each core of a CPU.

    Call it first in a training script, before TensorFlow has computed anything. It sets TensorFlow's
    number of threads an operation to 1, in the whole process: training steps become shorter, while what
    tasks cannot divide (one image, other models) takes longer. The numbers stay the same to rounding,
    except that dropout draws others. On JAX, PyTorch and accelerators it changes nothing.

    Raises:
        RuntimeError: if TensorFlow has already started.
    """
    if not is_tensorflow_on_cpu():
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError as error:
        raise RuntimeError(
            "Expected enable_batch_parallelism() before TensorFlow has computed anything, such as at "
            "the top of the script. Received: a TensorFlow that has started"
        ) from error


def batch_parts() -> int:
    """How many parts tasks divide a batch into."""
    if not is_tensorflow_on_cpu():
        return 1
    import tensorflow as tf

    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != 1 or tf.distribute.has_strategy():
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(threading.get_inter_op_parallelism_threads()) or cores


def in_batch_parts(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of a batch that a compiled program computes in `batch_parts()` parts.

    Args:
        function: from tensors, or nested structures of them, to a tensor, each with the batch first; no
            row of a batch may matter to another.

    Returns:
        The function, or what computes the same from parts.
    """

    def call(*inputs: Any) -> Tensor:
        parts = batch_parts()
        if parts == 1:
            return function(*inputs)
        import tensorflow as tf

        if not tf.inside_function():
            return function(*inputs)
        batch_size = keras.ops.shape(tf.nest.flatten(inputs)[0])[0]
        rows = (batch_size + parts - 1) // parts
        outputs = []
        for part in range(parts):
            # In a batch that is too small for a row each, the last ones repeat a row, which is cut off.
            start = tf.minimum(part * rows, batch_size - 1)
            end = tf.minimum(start + rows, batch_size)
            outputs.append(function(*tf.nest.map_structure(lambda x: x[start:end], inputs)))  # noqa: B023
        return tf.concat(outputs, axis=0)[:batch_size]

    return call
