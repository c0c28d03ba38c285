"""What a training needs to know of the devices that share it.

Keras's engines drive them: `keras.distribution` on JAX, `tf.distribute` on TensorFlow; on PyTorch it is
`torch.distributed`, whose processes each have a device.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras

from keras_ldm.backend.processes import num_processes, process_index, processes_of_torch
from keras_ldm.backend.steps import is_replicated
from keras_ldm.types import Tensor

_SEED_STRIDE = 1_000_003  # apart from seeds that users choose


@dataclass(frozen=True)
class BatchShare:
    """What becomes of the batches that a process reads.

    Attributes:
        devices: that share what it takes of each.
        parts: that each is divided into, for processes that all read the same.
        part: which of these it takes, from 0.
        others: whether other processes read other batches.
    """

    devices: int = 1
    parts: int = 1
    part: int = 0
    others: bool = False


def batch_share(model: keras.Model) -> BatchShare:
    """Which share of the batches that it reads this process trains a model on."""
    name = keras.backend.backend()
    if name == "tensorflow":
        return BatchShare(devices=model.distribute_strategy.num_replicas_in_sync)
    if name == "torch":
        return BatchShare(parts=num_processes(), part=process_index())
    distribution = keras.distribution.distribution()
    if distribution is None:
        return BatchShare()
    parts = min(distribution.num_processes, distribution.num_model_replicas)
    devices = max(1, distribution.num_model_replicas // parts)
    if not distribution.auto_shard_dataset:  # each process reads its own part
        return BatchShare(devices, others=parts > 1)
    return BatchShare(devices, parts, distribution.data_shard_id if parts > 1 else 0)


def whole_batches(model: keras.Model) -> BatchShare:
    """The share of a process that computes whole batches, whatever others do.

    Raises:
        ValueError: on JAX with several processes, each of which has a part of every result.
    """
    if keras.backend.backend() == "jax" and num_processes() > 1:
        raise ValueError(
            "Expected one process, to have the results for all rows. "
            f"Received: {num_processes()} processes. Save the model, and load it in one"
        )
    return BatchShare(batch_share(model).devices)


def share_of_logs(model: keras.Model, result: Any) -> Any:
    """What a step returns, in the form in which Keras takes means over the processes of TensorFlow.

    Keras takes them over the first axis, which the numbers of its logs do not have.

    Args:
        model: whose step it is.
        result: of Keras's own step: logs on TensorFlow, which are returned as they are for one process.
    """
    if keras.backend.backend() != "tensorflow" or num_processes(model) == 1:
        return result
    return {name: keras.ops.reshape(value, (1,)) for name, value in result.items()}


def strategy_scope(model: keras.Model) -> AbstractContextManager[Any]:
    """A scope in which new variables are where a model's are, on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    scope: AbstractContextManager[Any] = model.distribute_strategy.scope()
    return scope


def check_outside_strategy(model: keras.Model, method: str) -> None:
    """Raises a ValueError within the scope of several processes' strategy on TensorFlow.

    Variables that one process makes there, as Keras does while it saves, all would have to.
    """
    if is_replicated() and num_processes(model) > 1:
        raise ValueError(
            f"Expected `{method}` outside the strategy's scope, in which the task is made. "
            "Received: a call within it"
        )


def seed_of_replica(seed: Tensor) -> Tensor:
    """A seed that differs between those that compute parts of one batch, each with its own draws.

    JAX draws for the whole batch at once; there, and where nothing is shared, it is the same.

    Args:
        seed: two integers, as `keras.random.SeedGenerator.next` gives them.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica: Any = context.replica_id_in_sync_group
    elif processes_of_torch() > 1:
        replica = process_index()
    else:
        return seed
    offset = keras.ops.cast(replica, seed.dtype) * _SEED_STRIDE
    return seed + keras.ops.cast(keras.ops.stack([offset, 0]), seed.dtype)


def share_of_loss(loss: Tensor) -> Tensor:
    """What the mean over a replica's rows adds to that over the batch.

    `tf.distribute` adds up the gradients of its replicas.

    Args:
        loss: the mean over the rows that this replica has.
    """
    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync
