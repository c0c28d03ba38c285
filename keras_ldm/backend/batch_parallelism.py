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

_MAX_PARTS = 8  # by default: each part is traced for itself
_parts = 1


def enable_batch_parallelism(parts: int | None = None) -> None:
    """Makes tasks compute parts of each batch beside one another on a CPU.

    Call it first in a training script, before TensorFlow has computed anything. The cores are shared out
    among the parts: on two cores each operation runs on one thread, in the whole process. Training steps
    become shorter, while what tasks cannot divide (one image, other models) takes longer. The numbers
    stay the same to rounding, except that dropout, of conditions too, draws others for each number of
    parts. On JAX, PyTorch and accelerators it changes nothing.

    Args:
        parts: how many; by default one for each core that the process may use, at most 8.

    Raises:
        ValueError: for less than one part.
        RuntimeError: if TensorFlow has already started.
    """
    if parts is not None and parts < 1:
        raise ValueError(f"Expected at least one part. Received: parts={parts}")
    if not is_tensorflow_on_cpu():
        return
    import tensorflow as tf

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(cores, _MAX_PARTS) if parts is None else parts
    try:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // count))
    except RuntimeError as error:
        raise RuntimeError(
            "Expected enable_batch_parallelism() before TensorFlow has computed anything, such as at "
            "the top of the script. Received: a TensorFlow that has started"
        ) from error
    global _parts
    _parts = count


def batch_parts() -> int:
    """How many parts tasks divide a batch into."""
    if _parts > 1:
        import tensorflow as tf

        if tf.distribute.has_strategy():
            return 1
    return _parts


def in_batch_parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a batch that a compiled program computes in `batch_parts()` parts.

    Args:
        function: from tensors, or nested structures of them, to such, each with the batch first; no
            row of a batch may matter to another.

    Returns:
        The function, or what computes the same from parts.
    """

    def call(*inputs: Any) -> Any:
        parts = batch_parts()
        if parts == 1:
            return function(*inputs)
        import tensorflow as tf

        if not tf.inside_function():
            return function(*inputs)
        batch_size = keras.ops.shape(tf.nest.flatten(inputs)[0])[0]
        if isinstance(batch_size, int):
            parts = min(parts, batch_size)
        rows = (batch_size + parts - 1) // parts
        outputs = []
        for part in range(parts):
            # Parts for which no rows are left repeat the last one, which is cut off.
            start = tf.minimum(part * rows, batch_size - 1)
            end = tf.minimum(start + rows, batch_size)
            outputs.append(function(*tf.nest.map_structure(lambda x: x[start:end], inputs)))  # noqa: B023
        return tf.nest.map_structure(lambda *x: tf.concat(x, axis=0)[:batch_size], *outputs)

    return call
