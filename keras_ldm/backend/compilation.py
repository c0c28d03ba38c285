"""Compiling functions, each backend in its own way."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from keras_ldm.types import Tensor


def resolve_jit_compile(jit_compile: bool | str = "auto") -> bool:
    """Whether to compile with XLA.

    `"auto"` means yes on JAX and on TensorFlow with an accelerator, and no on TensorFlow's CPU,
    where the plain graph is faster, nor on PyTorch.
    """
    if jit_compile != "auto":
        if not isinstance(jit_compile, bool):
            raise ValueError(f"Expected True, False or 'auto'. Received: {jit_compile!r}")
        return jit_compile
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))
    return bool(keras.backend.backend() == "jax")


def is_tensorflow_on_cpu() -> bool:
    """Whether training steps are plain TensorFlow graphs, which parts of them may leave for XLA."""
    return keras.backend.backend() == "tensorflow" and not resolve_jit_compile("auto")


def compile_function(
    function: Callable[..., Any],
    variables: Sequence[keras.Variable],
    jit_compile: bool | str = "auto",
) -> Callable[..., Any]:
    """Compiles `function` as a pure function of the values of `variables`.

    Args:
        function: computes something from tensors and the given variables, without gradients of them.
        variables: every Keras variable that `function` reads.
        jit_compile: whether to use XLA on TensorFlow; see `resolve_jit_compile`.

    Returns:
        `compiled(values, *args)`, where `values` replace those of `variables`, one for one. It is
        traced once for each combination of argument shapes.
    """

    def stateless(values: Sequence[Tensor], *args: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*args)

    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        use_xla = resolve_jit_compile(jit_compile)
        return _reading(stateless, partial(tf.function, jit_compile=use_xla, autograph=False))
    if name == "jax":
        import jax

        return jax.jit(stateless)
    if name == "torch":
        import torch

        return torch.no_grad()(stateless)
    raise ValueError(
        f"Expected the Keras backend to be 'tensorflow', 'jax' or 'torch'. Received: {name!r}"
    )


def _reading(stateless: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    """On TensorFlow, a program that reads variables itself: to hand over hundreds takes longer.

    Args:
        stateless: from values and arguments.
        compiled: what compiles.
    """
    of_tensors = compiled(stateless)
    programs: dict[tuple[int, ...], Callable[..., Any]] = {}  # one for weights, one for averages

    def call(values: Sequence[Any], *args: Any) -> Any:
        if not all(isinstance(value, keras.Variable) for value in values):
            return of_tensors(values, *args)
        key = tuple(map(id, values))
        if key not in programs:
            programs[key] = compiled(lambda *args: stateless([v.value for v in values], *args))
        return programs[key](*args)

    return call


def values_of(variables: Sequence[keras.Variable]) -> list[Any]:
    """The variables' present values, in the form `compile_function` takes.

    On TensorFlow these are the variables themselves: what is compiled reads them when it runs.
    """
    if keras.backend.backend() == "tensorflow":
        return list(variables)
    return [variable.value for variable in variables]
