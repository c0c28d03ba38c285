"""The few lines that know the backend."""

import ctypes

import keras
import numpy as np
import pytest
from keras import ops

import keras_ldm as kl
from keras_ldm.backend import (
    compile_function,
    dot_product_attention,
    freed_memory,
    freeze,
    in_one_pass,
    prepare_updates,
    resolve_jit_compile,
    values_of,
)
from tests.scripts import run_script

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


def test_other_variables_stand_in_for_those_of_a_function() -> None:
    """As averages do for weights, in turns; each is traced once and read anew at each call."""
    weight, average = keras.Variable(2.0), keras.Variable(5.0)
    traces = []

    def function(x):
        traces.append(x)
        return x * weight

    compiled, x = compile_function(function, [weight]), ops.ones(())
    found = []
    for change in (0.0, 1.0, 2.0):
        average.assign_add(change)
        found += [float(ops.convert_to_numpy(compiled(values_of([v]), x))) for v in (weight, average)]
    assert found == [2.0, 5.0, 2.0, 6.0, 2.0, 8.0]
    assert len(traces) == {"tensorflow": 2, "jax": 1, "torch": 6}[BACKEND]


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


def _attention_of(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ours, that of Keras, and that of Keras in float32 from the same values, all as float32."""
    rng = np.random.default_rng(0)
    shapes = [(2, 32, 4, 8), (2, 48, 4, 8), (2, 48, 4, 8)]
    inputs = [ops.cast(2 * rng.standard_normal(shape, "float32"), dtype) for shape in shapes]
    ours = dot_product_attention(*inputs)
    assert keras.backend.standardize_dtype(ours.dtype) == dtype
    exact = ops.dot_product_attention(*(ops.cast(x, "float32") for x in inputs))
    return tuple(
        ops.convert_to_numpy(ops.cast(x, "float32"))
        for x in (ours, ops.dot_product_attention(*inputs), exact)
    )


def test_attention_is_that_of_keras() -> None:
    ours, of_keras, _ = _attention_of("float32")
    np.testing.assert_allclose(ours, of_keras, atol=5e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_attention_in_half_precision_is_as_exact_as_that_of_keras(dtype: str) -> None:
    """What either loses depends on the processor: not all add bfloat16 up in float32."""
    ours, of_keras, exact = _attention_of(dtype)
    lost, lost_by_keras = (np.sqrt(np.mean((x - exact) ** 2)) for x in (ours, of_keras))
    assert lost <= 1.05 * lost_by_keras


def test_chains_are_compiled_once_a_shape_where_it_pays() -> None:
    calls = []
    chain = in_one_pass(lambda x, scale: calls.append(x.shape) or ops.exp(x * scale) - 1.0)
    small, large = np.ones((2, 7), "float32"), np.ones((2, 64, 64), "float32")
    for x in (small, small, large, large):
        y = chain(ops.convert_to_tensor(x), ops.convert_to_tensor(np.full_like(x[:1], 0.5)))
        np.testing.assert_allclose(ops.convert_to_numpy(y), np.exp(0.5) - 1.0, atol=1e-6)
    compiled = keras.backend.backend() == "tensorflow" and not resolve_jit_compile()
    assert [tuple(shape[1:]) for shape in calls] == [(7,)] * 2 + [(64, 64)] * (1 if compiled else 2)


UPDATES = {
    "plain": {},
    "clipped": {"global_clipnorm": 0.01, "weight_decay": 0.1},
    "accumulated": {"gradient_accumulation_steps": 2},
    "amsgrad": {"amsgrad": True},  # for which TensorFlow's kernel does not do
    "scheduled": {
        "learning_rate": keras.optimizers.schedules.CosineDecay(
            0.1, 3, warmup_target=0.2, warmup_steps=1
        )
    },
}


@pytest.mark.parametrize("kind", [*UPDATES, "amsgrad compiled"] if BACKEND == "tensorflow" else UPDATES)
@pytest.mark.parametrize("scaled", [False, True])
def test_prepared_updates_are_those_of_the_optimizer(kind, scaled, monkeypatch) -> None:
    """Compiled or not, an embedding with its sparse gradients learns as a dense layer in its place."""
    options, least = UPDATES[kind.split()[0]], 1 if "compiled" in kind else 10**9
    monkeypatch.setattr("keras_ldm.backend.training._MIN_PARAMETERS", least)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 9, (12, 5)), rng.standard_normal((12, 5, 3), "float32")
    first, second = rng.standard_normal((9, 4), "float32"), rng.standard_normal((4, 3), "float32")

    def weights(layer: keras.layers.Layer, inputs: np.ndarray, prepared: bool) -> list[np.ndarray]:
        model = keras.Sequential([layer, keras.layers.Dense(3)])
        model.build((None, *inputs.shape[1:]))
        model.set_weights([first, second, np.zeros(3)])
        optimizer = keras.optimizers.AdamW(**{"learning_rate": 0.1, **options})
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=2)
        model.compile(optimizer, loss="mse", jit_compile=BACKEND == "jax")
        if prepared:
            prepare_updates(model.optimizer)
        model.optimizer.build(model.trainable_variables)
        model.fit(inputs, targets, batch_size=2, epochs=2, shuffle=False, verbose=0)
        return [*model.get_weights(), *(ops.convert_to_numpy(v) for v in optimizer.variables)]

    actual = weights(keras.layers.Embedding(9, 4), ids, prepared=True)
    expected = weights(
        keras.layers.Dense(4, use_bias=False), np.eye(9, dtype="float32")[ids], prepared=False
    )
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_updates_between_which_a_gradient_is_missing(compiled: bool) -> None:
    """They are the optimizer's own, whatever the steps before were."""

    def train(prepared: bool) -> list[np.ndarray]:
        variables = [keras.Variable(np.ones(3, "float32")) for _ in range(2)]
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build(variables)
        if prepared:
            prepare_updates(optimizer)
        if compiled and BACKEND == "tensorflow":
            import tensorflow as tf

            apply = tf.function(lambda grads: optimizer.apply(grads, variables), autograph=False)
        else:
            apply = lambda grads: optimizer.apply(grads, variables)  # noqa: E731
        for step, missing in enumerate((False, False, True, True, False), 1):
            gradient = ops.convert_to_tensor(np.array([1.0, -2.0, 3.0], "float32") * step)
            apply([gradient, None if missing else gradient])
        return [ops.convert_to_numpy(v) for v in variables]

    if BACKEND != "jax":  # where updates are no assignments
        for a, b in zip(train(True), train(False), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("count", [10, 10_000_000])
def test_updates_are_compiled_where_it_pays(count: int) -> None:
    """The comparison above would be worth little if nothing were compiled."""
    optimizer = keras.optimizers.SGD(1.0)
    variable = keras.Variable(np.ones(count, "float32"))
    optimizer.build([variable])
    compiled = []

    class Spy(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            compiled.append(BACKEND == "tensorflow" and inside_function())
            return 1.0

    def inside_function() -> bool:
        import tensorflow as tf

        return tf.inside_function()

    optimizer.learning_rate = Spy()
    for _ in range(2):  # the second time changes nothing
        prepare_updates(optimizer)
    if BACKEND != "jax":
        optimizer.apply([ops.ones(count)], [variable])
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), 0.0)
        on_cpu = BACKEND == "tensorflow" and not resolve_jit_compile()
        assert any(compiled) == (on_cpu and count > 1000)


KEPT = """
import ctypes
import numpy as np
import keras_ldm as kl

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks "
                "fsmblks uordblks fordblks keepcost".split()]

c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.free.argtypes = [ctypes.c_void_p]
c.mallinfo2.restype = Info

def kept():
    size = 512 << 20
    c.free(c.malloc(size))
    return c.mallinfo2().keepcost >= size

task = kl.tasks.AutoencoderTask(kl.models.AutoencoderKL((4,), 2, num_res_blocks=0, groups=2))
print(kept())
images = np.zeros((4, 8, 8, 3), np.uint8)
task.fit(images, batch_size=2, verbose=0)
print(kept())
task.predict(images, batch_size=2, verbose=0)
print(kept())
"""


if hasattr(ctypes.CDLL(None), "mallinfo2"):

    def test_freed_memory_is_kept_after_training_too() -> None:
        ours = BACKEND == "tensorflow" and not resolve_jit_compile()
        assert run_script(KEPT).split() == [str(ours)] * 3


def test_memory_of_compiling_a_step_is_released_once(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    trim = {"malloc_trim": lambda _: happened.append("trim")}
    monkeypatch.setattr(freed_memory, "_from_c_library", trim.get)
    task = kl.tasks.AutoencoderTask(kl.models.AutoencoderKL((4,), 2, num_res_blocks=0, groups=2))
    images = np.zeros((4, 8, 8, 3), np.uint8)

    def train() -> list[str]:
        happened.clear()
        counting = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: happened.append("step")
        )
        task.fit(images, batch_size=2, callbacks=[counting], verbose=0)
        return list(happened)

    task.compile(jit_compile=False)
    assert train() == ["trim", "step", "step"]
    assert train() == ["step", "step"]
    task.compile(jit_compile=False)
    assert train() == ["trim", "step", "step"]
