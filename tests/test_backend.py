"""The few lines that know the backend."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm.backend import compile_function, freeze, resolve_jit_compile, values_of

pytestmark = pytest.mark.backend

BACKEND = keras.backend.backend()


def test_compiled_functions_are_traced_once_for_each_shape() -> None:
    variable = keras.Variable(np.array([1.0, 2.0], "float32"))
    calls = []

    def function(x, y):
        calls.append(x.shape)
        return {"out": (x + y["z"]) * variable}

    compiled = compile_function(function, [variable])
    counts = []
    for rows in (3, 3, 4, 3, 4):
        x = ops.convert_to_tensor(np.full((rows, 2), rows, "float32"))
        out = compiled(values_of([variable]), x, {"z": x})["out"]
        np.testing.assert_array_equal(ops.convert_to_numpy(out), 2 * rows * np.tile([1, 2], (rows, 1)))
        counts.append(len(calls))
    assert counts == ([1, 2, 3, 4, 5] if BACKEND == "torch" else [1, 1, 2, 2, 2])


def test_given_values_replace_those_of_the_variables() -> None:
    a, b = keras.Variable(2.0), keras.Variable(3.0)
    compiled = compile_function(lambda x: x * a + b, [a, b])
    x = ops.convert_to_tensor(np.float32(10))

    def result(values):
        return float(ops.convert_to_numpy(compiled(values, x)))

    assert result(values_of([a, b])) == 23.0
    assert result([ops.convert_to_tensor(np.float32(v)) for v in (5, 7)]) == 57.0
    assert (float(a.value), float(b.value)) == (2.0, 3.0)
    a.assign(4.0)  # what was traced has no values of its own
    assert result(values_of([a, b])) == 43.0


def test_every_variable_needs_a_value() -> None:
    a, b = keras.Variable(2.0), keras.Variable(3.0)
    compiled = compile_function(lambda x: x * a + b, [a, b])
    with pytest.raises(ValueError, match="zip"):
        compiled(values_of([a]), ops.ones(()))


def test_compiled_functions_keep_no_gradient() -> None:
    variable = keras.Variable(2.0)
    compiled = compile_function(lambda x: x * variable, [variable])
    out = compiled(values_of([variable]), ops.ones(()))
    assert not getattr(out, "requires_grad", False)


def test_resolve_jit_compile() -> None:
    assert resolve_jit_compile(True) is True
    assert resolve_jit_compile(False) is False
    automatic = resolve_jit_compile("auto")
    assert automatic is resolve_jit_compile()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        assert automatic is bool(tf.config.list_physical_devices("GPU"))
    else:
        assert automatic is (BACKEND == "jax")


def test_freezing_reaches_parts_that_were_made_after() -> None:
    inner = keras.layers.Dense(2)
    outer = keras.Sequential([inner], trainable=False)
    outer.build((None, 3))
    inner.trainable = True
    freeze(outer)
    assert not outer.trainable_variables and not inner.trainable_variables
    assert len(outer.non_trainable_variables) == 2
