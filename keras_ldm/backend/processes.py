"""The processes that train one task together, and what they tell each other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_ldm.backend.steps import is_inside_step


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


def average_over_processes(tensors: Sequence[Any]) -> None:
    """Replaces gradients by their means over all processes, on PyTorch; None stays."""
    count = processes_of_torch()
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
    if processes_of_torch() == 1:
        return
    values = [variable.value.data for variable in variables]
    if values and not is_inside_step(values[0]):
        _add_over_processes(values)


def copy_from_first_process(variables: Sequence[keras.Variable]) -> None:
    """Gives all processes the values that the first one has, on PyTorch; JAX has one array for all."""
    if processes_of_torch() == 1:
        return
    import torch

    with torch.no_grad():
        for variable in variables:
            torch.distributed.broadcast(variable.value, src=0)


def largest_over_processes(model: keras.Model, numbers: Sequence[int]) -> list[int]:
    """The largest of each number that any process gives; all have to ask, and wait for each other.

    Args:
        model: that they train.
        numbers: as many in each of them, each from 0 to 2**31 - 1.
    """
    count = num_processes(model)
    if count == 1:
        return list(numbers)
    name = keras.backend.backend()
    if name == "jax":
        from jax.experimental import multihost_utils

        found = np.asarray(multihost_utils.process_allgather(np.array(numbers, "int32"))).max(axis=0)
    elif name == "tensorflow":
        found = _over_workers(model, numbers, count).max(axis=0)
    else:
        import torch

        of_all = keras.ops.convert_to_tensor(list(numbers), "int32")  # on the process's device
        torch.distributed.all_reduce(of_all, op=torch.distributed.ReduceOp.MAX)
        found = keras.ops.convert_to_numpy(of_all)
    return [int(number) for number in found]


def is_same_in_all(model: keras.Model, number: int) -> bool:
    """Whether all processes give the same number; all have to ask, and wait for each other."""
    most = 2**31 - 1
    largest, rest = largest_over_processes(model, [number, most - number])
    return largest == most - rest


def _over_workers(model: keras.Model, numbers: Sequence[int], count: int) -> np.ndarray:
    """`(processes, numbers)`, of which each process adds its own row to those of the others."""
    import tensorflow as tf

    strategy = model.distribute_strategy
    rows = np.zeros((count, len(numbers)), "int32")
    rows[process_index(model)] = numbers
    own = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(rows))
    added = np.asarray(strategy.reduce(tf.distribute.ReduceOp.SUM, own, axis=None))
    return added // (strategy.num_replicas_in_sync // count)


@contextmanager
def whole_values(
    variables: Sequence[keras.Variable], sums: Sequence[keras.Variable] = ()
) -> Iterator[None]:
    """A scope in which this process has all of each value, and what it makes is its own.

    All processes have to enter, and wait for each other: on JAX values may be divided over them.

    Args:
        variables: those that are read within it.
        sums: those of them that are sums, to which on PyTorch each process has added its own.
    """
    if processes_of_torch() > 1:
        with _added_up(sums):
            yield
    elif keras.backend.backend() == "jax" and num_processes() > 1:
        with _gathered(variables):
            yield
    else:
        yield


@contextmanager
def _added_up(sums: Sequence[keras.Variable]) -> Iterator[None]:
    values = [variable.value.data for variable in sums]
    own = [value.clone() for value in values]
    _add_over_processes(values)
    try:
        yield
    finally:
        for value, before in zip(values, own, strict=True):
            value.copy_(before)


@contextmanager
def _gathered(variables: Sequence[keras.Variable]) -> Iterator[None]:
    from jax.experimental import multihost_utils

    divided = [variable for variable in variables if _is_divided(variable.value)]
    values = [variable.value for variable in divided]
    distribution = keras.distribution.distribution()
    try:
        for variable, value in zip(divided, values, strict=True):
            variable._value = multihost_utils.process_allgather(value, tiled=True)
        keras.distribution.set_distribution(None)  # which new variables would be spread by
        yield
    finally:
        keras.distribution.set_distribution(distribution)
        for variable, value in zip(divided, values, strict=True):
            variable._value = value


def assign_sum(variable: keras.Variable, value: Any) -> None:
    """Gives a sum over all processes its value: on PyTorch the first has it, to which others add."""
    others = processes_of_torch() > 1 and process_index() > 0
    variable.assign(keras.ops.zeros_like(variable) if others else value)


def _is_divided(value: Any) -> bool:
    import jax

    return isinstance(value, jax.Array) and not (value.is_fully_addressable or value.is_fully_replicated)


def processes_of_torch() -> int:
    """How many there are whose tensors are not one array for all; 1 on other backends."""
    return num_processes() if keras.backend.backend() == "torch" else 1


def _add_over_processes(tensors: Sequence[Any]) -> None:
    import torch

    for work in [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()
