"""What a training needs to know of the devices and processes that share it.

Keras's engines drive them: `keras.distribution` on JAX, `tf.distribute` on TensorFlow; on PyTorch it is
`torch.distributed`, whose processes each have a device.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras

from keras_ldm.backend.steps import is_inside_step
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


def num_processes(model: keras.Model | None = None) -> int:
    """How many processes train together.

    Args:
        model: that they train. On TensorFlow only it knows; elsewhere all models have the same.
    """
    name = keras.backend.backend()
    if name == "jax":
        import jax

        return int(jax.process_count())
    if name == "tensorflow":
        return len(_workers(model)[0])
    import torch

    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def process_index(model: keras.Model | None = None) -> int:
    """Which of them this one is, from 0.

    Args:
        model: as in `num_processes`.
    """
    name = keras.backend.backend()
    if name == "jax":
        import jax

        return int(jax.process_index())
    if name == "tensorflow":
        names, own = _workers(model)
        return names.index(own)
    if num_processes() == 1:
        return 0
    import torch

    return int(torch.distributed.get_rank())


def _workers(model: keras.Model | None) -> tuple[list[tuple[str, int]], tuple[str, int]]:
    """The tasks of `MultiWorkerMirroredStrategy`, and which of them this process is."""
    import tensorflow as tf

    strategy = None if model is None else model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [("worker", 0)], ("worker", 0)
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec()
    kinds = [kind for kind in ("chief", "worker") if kind in cluster.jobs]
    names = [(kind, index) for kind in kinds for index in cluster.task_indices(kind)]
    own = (resolver.task_type, resolver.task_id)
    return (names, own) if own in names else ([own], own)


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
    elif _processes_of_torch() > 1:
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


def average_over_processes(tensors: Sequence[Any]) -> None:
    """Replaces gradients by their means over all processes, on PyTorch; None stays."""
    count = _processes_of_torch()
    if count == 1:
        return
    tensors = [tensor for tensor in tensors if tensor is not None]
    _add_over_processes(tensors)
    for tensor in tensors:
        tensor.div_(count)


def merge_over_processes(variables: Sequence[keras.Variable]) -> None:
    """Replaces the state of metrics, which are sums, by that of all processes, on PyTorch.

    Within a step nothing happens: the other processes would have to be at the same one.
    """
    if _processes_of_torch() == 1:
        return
    values = [variable.value.data for variable in variables]
    if values and not is_inside_step(values[0]):
        _add_over_processes(values)


def _processes_of_torch() -> int:
    """How many there are whose tensors are not one array for all; 1 on other backends."""
    return num_processes() if keras.backend.backend() == "torch" else 1


def _add_over_processes(tensors: Sequence[Any]) -> None:
    import torch

    for work in [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()


def copy_from_first_process(variables: Sequence[keras.Variable]) -> None:
    """Gives all processes the values that the first one has, on PyTorch; JAX has one array for all."""
    if _processes_of_torch() == 1:
        return
    import torch

    with torch.no_grad():
        for variable in variables:
            torch.distributed.broadcast(variable.value, src=0)
