"""What every layer and model of the package promises, checked from about ten lines a layer."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ldm.backend import compile_function, values_of

Make = Callable[[], keras.layers.Layer]


def array(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def gradients(function: Callable[..., Any], *arrays: np.ndarray) -> list[np.ndarray]:
    """The gradients of a scalar function of tensors with respect to each of them."""
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(value) for value in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return [numpy(gradient) for gradient in tape.gradient(value, tensors)]
    if name == "jax":
        import jax

        # Compiled, since an eager gradient lowers each of its operations anew.
        return [np.asarray(g) for g in jax.jit(jax.grad(function, range(len(arrays))))(*arrays)]
    import torch

    tensors = [torch.tensor(value, requires_grad=True) for value in arrays]
    return [gradient.numpy() for gradient in torch.autograd.grad(function(*tensors), tensors)]


def penalty_gradient(layer: Callable[..., Any], x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The gradient, by x, of the squared norm of that of `sum(layer(x) * weights)`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def penalty(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(layer(x) * weights)
            return tf.reduce_sum(tf.square(tape.gradient(value, x)))

    elif keras.backend.backend() == "jax":
        import jax

        def penalty(x: Any) -> Any:
            return (jax.grad(lambda x: (layer(x) * weights).sum())(x) ** 2).sum()

    else:
        import torch

        def penalty(x: Any) -> Any:
            value = (layer(x) * torch.from_numpy(weights)).sum()
            return (torch.autograd.grad(value, x, create_graph=True)[0] ** 2).sum()

    return gradients(penalty, x)[0]


def randomize(layer: keras.layers.Layer, scale: float = 0.2) -> None:
    """New weights without zeros, so that no part hides behind an initial zero."""
    rng = np.random.default_rng(1)
    layer.set_weights([w + scale * rng.standard_normal(w.shape) for w in layer.get_weights()])


def symbolic(inputs: Any, batch: bool = True) -> Any:
    return tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=str(x.dtype)), inputs)


def functional(layer: keras.layers.Layer, inputs: Sequence[Any]) -> keras.Model:
    placeholders = symbolic(list(inputs))
    return keras.Model(placeholders, layer(*placeholders))


def check_contract(
    make: Make,
    inputs: Sequence[Any],
    folder: Path,
    *,
    mixed_dtype: str = "bfloat16",
    mixed_tolerance: float = 0.05,
    without_gradient: Sequence[str] = (),
) -> keras.layers.Layer:
    """Checks a layer, called as `layer(*inputs)`, and returns it.

    Args:
        make: makes the layer; its dropout, if it has one, must be seeded.
        inputs: NumPy arrays, or nests of them.
        folder: for a file.
        mixed_dtype: of the output under the policy mixed_bfloat16.
        mixed_tolerance: how far that output may be off, relative to the float32 one's spread.
        without_gradient: ends of the paths of weights on which the output does not depend.
    """
    layer = make()
    layer(*inputs)
    randomize(layer)
    expected = numpy(layer(*inputs))
    assert np.std(expected) > 1e-3, "the contract needs an output that says something"
    check_compiled(layer, inputs, expected)
    check_symbolic(make(), inputs, expected)
    check_config(layer, inputs, expected)
    model = functional(layer, inputs)
    check_saved(model, layer, inputs, expected, folder)
    check_mixed(make, layer, inputs, expected, mixed_dtype, mixed_tolerance)
    check_gradients(model, layer, inputs, expected, without_gradient)
    return layer


def call_compiled(layer: Any, inputs: Sequence[Any]) -> Any:
    function = compile_function(layer, layer.variables)
    tensors = tree.map_structure(ops.convert_to_tensor, list(inputs))
    return function(values_of(layer.variables), *tensors)


def check_compiled(layer: Any, inputs: Sequence[Any], expected: np.ndarray) -> None:
    output = numpy(call_compiled(layer, inputs))
    np.testing.assert_allclose(output, expected, atol=2e-5, rtol=1e-4)


def check_symbolic(layer: Any, inputs: Sequence[Any], expected: np.ndarray) -> None:
    output = layer(*symbolic(list(inputs)))
    assert output.dtype == "float32"
    assert tuple(output.shape) == (None, *expected.shape[1:])
    if not isinstance(layer, keras.Model) and layer.__class__.compute_output_shape is not (
        keras.layers.Layer.compute_output_shape
    ):
        assert tuple(layer.compute_output_shape(inputs[0].shape)) == expected.shape


def check_config(layer: Any, inputs: Sequence[Any], expected: np.ndarray) -> None:
    config = layer.get_config()
    before = copy.deepcopy(config)
    other = type(layer).from_config(config)
    assert config == before, "from_config changed the configuration it was given"
    assert json.dumps(without_ids(other.get_config())) == json.dumps(without_ids(config))
    other(*inputs)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy(other(*inputs)), expected, atol=1e-6)


def without_ids(config: Any) -> Any:
    """The configuration as JSON holds it, without the numbers by which Keras knows an object."""
    config = keras.saving.serialize_keras_object(config)
    if isinstance(config, dict):
        return {k: without_ids(v) for k, v in config.items() if k != "shared_object_id"}
    return [without_ids(v) for v in config] if isinstance(config, list) else config


def check_saved(
    model: keras.Model, layer: Any, inputs: Sequence[Any], expected: np.ndarray, folder: Path
) -> None:
    models = [model]
    if len(inputs) == 1 and not isinstance(layer, keras.Model):
        models.append(keras.Sequential([keras.Input(inputs[0].shape[1:]), layer]))
    for model in models:
        model.save(folder / "model.keras")
        loaded = keras.saving.load_model(folder / "model.keras")
        saved, found = model.get_weights(), loaded.get_weights()
        assert all(np.array_equal(x, y) for x, y in zip(saved, found, strict=True))
        arguments = inputs[0] if isinstance(model, keras.Sequential) else list(inputs)
        np.testing.assert_allclose(numpy(loaded(arguments)), expected, atol=1e-6)


def check_mixed(
    make: Make, layer: Any, inputs: Sequence[Any], expected: np.ndarray, dtype: str, tolerance: float
) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        other = make()
        if not other.built:
            assert other(*symbolic(list(inputs))).dtype == dtype
        other.set_weights(layer.get_weights())
        assert all(weight.dtype == "float32" for weight in other.trainable_variables)
        tensor = call_compiled(other, inputs)
        assert keras.backend.standardize_dtype(tensor.dtype) == dtype
        output = numpy(tensor)
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.all(np.isfinite(output))
    error = np.sqrt(np.mean(np.square(output - expected))) / np.std(expected)
    assert error < tolerance


def check_gradients(
    model: keras.Model,
    layer: Any,
    inputs: Sequence[Any],
    expected: np.ndarray,
    without: Sequence[str],
) -> None:
    """One step of `fit` moves every trainable weight that the output depends on, by finite steps."""
    if not layer.trainable_variables:
        return
    before = {w.path: keras.ops.convert_to_numpy(w) for w in layer.trainable_variables}
    model.compile(
        keras.optimizers.SGD(1.0),
        loss="mse",
        jit_compile=keras.backend.backend() == "jax",  # elsewhere one step is faster without
        run_eagerly=keras.backend.backend() != "jax",
    )
    target = np.random.default_rng(2).standard_normal(expected.shape).astype("float32")
    model.fit(list(inputs), target, batch_size=len(target), verbose=0)
    after = {w.path: keras.ops.convert_to_numpy(w) for w in layer.trainable_variables}
    assert all(np.all(np.isfinite(value)) for value in after.values())
    still = {path for path in after if np.array_equal(before[path], after[path])}
    named = {path for path in after if path.endswith(tuple(without))} if without else set()
    assert still <= named, f"no gradient for {sorted(still - named)}"
