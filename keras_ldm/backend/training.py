"""What makes training steps faster on TensorFlow's CPU."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from keras_ldm.backend.adam import FusedAdam
from keras_ldm.backend.compilation import is_tensorflow_on_cpu
from keras_ldm.backend.processes import average_over_processes
from keras_ldm.types import Tensor

_MIN_PARAMETERS = 1_000_000  # below, compiling takes longer than it saves


def compile_part(
    function: Callable[..., Any], variables: Sequence[keras.Variable]
) -> Callable[..., Any]:
    """Makes a part of the training step an XLA program, where the step is not one as a whole.

    That is so on TensorFlow's CPU, where plain graphs have the faster convolutions, but go through the
    weights once for each small operation on them.

    Args:
        function: from tensors to tensors; it may assign variables, and must not make any.
        variables: what it goes through; a few numbers are not worth compiling for.

    Returns:
        The function, or what computes the same to rounding.
    """
    count = sum(math.prod(variable.shape) for variable in variables)
    if not is_tensorflow_on_cpu() or count < _MIN_PARAMETERS:
        return function
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return function
    return tf.function(function, jit_compile=True, autograph=False)


def prepare_updates(
    optimizer: keras.optimizers.Optimizer,
    watcher: Callable[[Sequence[Tensor | None]], None] | None = None,
) -> None:
    """Makes an optimizer's updates the same on TensorFlow as elsewhere, and faster on its CPU.

    The gradients of embeddings are sparse on TensorFlow, where Keras then lets the moments of the rows
    that are not in a batch stand still and clips by another norm; here they are made dense.

    An update is some fifteen small operations on each weight. Where the training step is not compiled as
    a whole, XLA makes them one: half the time. For Adam and AdamW TensorFlow has a kernel of its own.

    On PyTorch the gradients are averaged over the processes of `torch.distributed`, if there are some.
    On TensorFlow the replicas of `tf.distribute` add theirs up before anything else is done with them:
    Keras does so last, and lets each replica clip its own part, and look for infinities in it.

    Args:
        optimizer: what to prepare; once more changes nothing.
        watcher: is called with the gradients of each step, before they are clipped. It may assign
            variables of the optimizer.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    plain: Callable[..., None] = partial(type(optimizer).apply, optimizer)
    watched = _watched(partial(type(inner).apply, inner), watcher)
    if inner is optimizer:
        plain = watched
    inner.apply = watched
    if keras.backend.backend() == "torch":

        def apply_averages(grads: list[Tensor], trainable_variables: Any = None) -> None:
            average_over_processes(grads)
            plain(grads, trainable_variables)

        optimizer.apply = apply_averages
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    fused = FusedAdam(inner) if is_tensorflow_on_cpu() and FusedAdam.fits(inner) else None
    compiled: dict[tuple[int, ...], Callable[..., Any]] = {}

    def apply(grads: list[Tensor], trainable_variables: Any = None) -> None:
        grads = _over_replicas(optimizer, [g if g is None else tf.convert_to_tensor(g) for g in grads])
        variables = list(trainable_variables or ())
        if not optimizer.built or not variables or any(gradient is None for gradient in grads):
            plain(grads, trainable_variables)
            return
        if fused is not None and not tf.distribute.has_strategy():
            with fused.step():
                plain(grads, variables)
            return
        key = tuple(id(variable) for variable in variables)
        if key not in compiled:
            compiled[key] = compile_part(lambda gradients: plain(gradients, variables), variables)
        compiled[key](grads)

    optimizer.apply = apply


def _over_replicas(optimizer: keras.optimizers.Optimizer, grads: list[Tensor]) -> list[Tensor]:
    """Gradients, or their sums over the replicas if there are several."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return grads
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for each in (inner, *getattr(inner, "optimizers", ())):
        each._all_reduce_sum_gradients = list  # else Keras would add them up once more
    there = [gradient for gradient in grads if gradient is not None]
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, there))
    return [None if gradient is None else next(sums) for gradient in grads]


def _watched(
    apply: Callable[..., None], watcher: Callable[[Sequence[Tensor | None]], None] | None
) -> Callable[..., None]:
    if watcher is None:
        return apply

    def watch(grads: Sequence[Tensor | None], trainable_variables: Any = None) -> None:
        watcher(grads)
        apply(grads, trainable_variables)

    return watch
