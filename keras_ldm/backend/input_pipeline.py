"""How Keras's loops read a dataset."""

import weakref
from typing import Any

import keras

from keras_ldm.backend.freed_memory import keep_freed_memory


def input_pipeline(dataset: keras.utils.PyDataset) -> Any:
    """What to give to Keras's `fit`, `evaluate` and `predict` for a dataset.

    On TensorFlow, Keras reads through a `tf.data` pipeline with autotuning. When its iterator goes, at
    the end of each epoch, it waits for the tuning thread, which looks up after 10 ms, 20 ms, 40 ms, ...
    and sometimes misses that it was woken (`CancellationManager` runs its callbacks before it calls
    itself cancelled): an epoch of six seconds then takes ten, and one of twelve takes twenty. Nothing
    here is there to be tuned, so that the thread is not started.

    Args:
        dataset: gives batches in order, on one thread.

    Returns:
        Keras's adapter of the dataset, on TensorFlow without autotuning.
    """
    from keras.src.trainers.data_adapters.data_adapter_utils import get_tensor_spec
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    class Adapter(PyDatasetAdapter):
        def on_epoch_begin(self) -> None:
            self._within_epoch = False  # of an epoch that ended early nobody has told it
            super().on_epoch_begin()

    if keras.backend.backend() != "tensorflow":
        return Adapter(dataset)
    import tensorflow as tf

    class TensorFlowAdapter(Adapter):
        def get_tf_dataset(self) -> tf.data.Dataset:
            # TensorFlow keeps what a generator dataset calls for as long as the process lives: not this
            # adapter then, which has the data and, for its preprocessing, the task.
            reference = weakref.ref(self)

            def batches() -> Any:
                if (adapter := reference()) is None:
                    raise RuntimeError("Expected the dataset's adapter to be there while it is read.")
                return adapter._batches()

            self._get_iterator = batches
            if getattr(self.py_dataset, "has_several_sizes", False):
                spec = get_tensor_spec([self.py_dataset[0]])  # of arrays with height and width
                self._output_signature = keras.tree.map_structure(
                    lambda s: tf.TensorSpec(
                        [None, None, None, *s.shape[3:]] if len(s.shape) == 4 else s.shape, s.dtype
                    ),
                    spec,
                )
            options = tf.data.Options()
            options.autotune.enabled = False
            return super().get_tf_dataset().with_options(options)

        def _batches(self) -> Any:
            keep_freed_memory()  # which TensorFlow's generator dataset, just made, has undone
            return super()._get_iterator()

    return TensorFlowAdapter(dataset)
