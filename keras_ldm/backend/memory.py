"""How much memory a training takes."""

import sys

import keras


def most_memory() -> float:
    """The most so far, in bytes: of the first device, or of the process where that is a CPU.

    NaN where it cannot be told.
    """
    device = _most_on_device()
    return device if device is not None else _most_of_process()


def _most_on_device() -> float | None:
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_logical_devices("GPU"):
            return None
        return float(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    if name == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats() or {}
        return float(stats["peak_bytes_in_use"]) if "peak_bytes_in_use" in stats else None
    import torch

    return float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def _most_of_process() -> float:
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
