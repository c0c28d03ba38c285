"""Attention against softmax in float64, and what depends on the context."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ldm import layers
from keras_ldm.backend import compile_function, gated_gelu
from tests.contract import array, gradients, numpy, randomize
from tests.scripts import run_script


def softmax_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.ndarray:
    q, k, v = (x.astype("float64") for x in (q, k, v))
    width = q.shape[-1] // heads
    outputs = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        scores = q[..., part] @ k[..., part].swapaxes(1, 2) / width**0.5
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        outputs.append(weights / weights.sum(axis=-1, keepdims=True) @ v[..., part])
    return np.concatenate(outputs, axis=-1)


def dense(layer: object, x: np.ndarray) -> np.ndarray:
    kernel, *bias = (w.astype("float64") for w in layer.get_weights())
    return x @ kernel + (bias[0] if bias else 0.0)


@pytest.mark.parametrize("heads", [1, pytest.param(2, marks=pytest.mark.backend), 6])
def test_attend_is_softmax_attention(heads: int) -> None:
    q, k, v = 3 * array(2, 5, 6), array(2, 4, 6, seed=1), array(2, 4, 6, seed=2)
    expected = softmax_attention(q, k, v, heads)
    np.testing.assert_allclose(numpy(layers.attend(q, k, v, heads)), expected, atol=2e-6)


# === Many tokens ===

FEW_SCORES = 30  # of each example at once


@pytest.mark.backend
@pytest.mark.parametrize(("queries", "keys", "heads"), [(7, 4, 2), (8, 8, 2), (5, 5, 6), (40, 3, 1)])
def test_in_chunks_it_is_the_same(queries: int, keys: int, heads: int, monkeypatch) -> None:
    q, k, v = 3 * array(2, queries, 6), array(2, keys, 6, seed=1), array(2, keys, 6, seed=2)
    upstream = array(2, queries, 6, seed=3)

    def loss(*tensors):
        return ops.sum(layers.attend(*tensors, heads) * ops.convert_to_tensor(upstream))

    whole = gradients(loss, q, k, v)
    monkeypatch.setattr("keras_ldm.backend.attention.MOST_SCORES", FEW_SCORES)
    expected = softmax_attention(q, k, v, heads)
    np.testing.assert_allclose(numpy(layers.attend(q, k, v, heads)), expected, atol=2e-6)
    for found, gradient in zip(gradients(loss, q, k, v), whole, strict=True):
        np.testing.assert_allclose(found, gradient, atol=1e-5)


@pytest.mark.backend
def test_chunks_in_a_compiled_program_and_in_bfloat16(monkeypatch) -> None:
    monkeypatch.setattr("keras_ldm.backend.attention.MOST_SCORES", FEW_SCORES)
    q, k, v = array(2, 9, 6), array(2, 5, 6, seed=1), array(2, 5, 6, seed=2)
    expected = softmax_attention(q, k, v, 2)
    for jit_compile in (False, True):
        compiled = compile_function(lambda *x: layers.attend(*x, 2), [], jit_compile)
        found = numpy(compiled([], *(ops.convert_to_tensor(x) for x in (q, k, v))))
        np.testing.assert_allclose(found, expected, atol=2e-6)
    half = layers.attend(*(ops.cast(x, "bfloat16") for x in (q, k, v)), 2)
    assert "bfloat16" in str(half.dtype)
    np.testing.assert_allclose(numpy(half), expected, atol=0.03)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has its own")
@pytest.mark.backend
def test_scores_of_many_tokens_never_exist_at_once() -> None:
    # Whole they would take 8 GiB, and their softmax as much again.
    script = """
    from pathlib import Path
    import numpy as np
    from keras import ops
    from keras_ldm import layers
    from keras_ldm.backend import compile_function

    def peak():
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 2**20

    tokens, heads, width = 16_384, 8, 8
    x = np.random.default_rng(0).normal(size=(1, tokens, heads * width))
    x = ops.convert_to_tensor(x, "float32")
    attend = compile_function(lambda x: layers.attend(x, x, x, heads), [])
    before = peak()
    out = ops.convert_to_numpy(attend([], x))
    print(peak() - before, out[0, 0, 0])
    """
    used, _ = run_script(script).split()
    assert float(used) < 1.0


@pytest.mark.backend
@pytest.mark.parametrize("with_context", [True, False])
def test_cross_attention_is_the_formula(with_context: bool) -> None:
    x = array(2, 5, 7)
    context = array(2, 3, 4, seed=1) if with_context else None
    layer = layers.CrossAttention(num_heads=2, head_dim=3)
    arguments = [x] if context is None else [x, context]
    layer(*arguments)
    randomize(layer)
    source = x if context is None else context
    attended = softmax_attention(
        dense(layer.to_query, x), dense(layer.to_key, source), dense(layer.to_value, source), 2
    )
    expected = dense(layer.to_out, attended)
    np.testing.assert_allclose(numpy(layer(*arguments)), expected, atol=2e-5)
    assert not any(d.use_bias for d in (layer.to_query, layer.to_key, layer.to_value))


def test_spatial_self_attention_is_the_formula() -> None:
    x = array(2, 3, 4, 8)
    layer = layers.SpatialSelfAttention(num_heads=2, groups=4, epsilon=1e-3)
    layer(x)
    randomize(layer)
    h = numpy(layer.norm(x)).reshape(2, 12, 8)
    parts = (dense(p, h) for p in (layer.to_query, layer.to_key, layer.to_value))
    attended = softmax_attention(*parts, 2)
    expected = x + dense(layer.to_out, attended).reshape(x.shape)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=2e-5)


def test_spatial_self_attention_refuses_channels_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="divide by 3 heads. Received: input shape"):
        layers.SpatialSelfAttention(3, groups=4).build((None, 4, 4, 8))


@pytest.mark.parametrize("zero_init", [True, False])
def test_zero_init_makes_self_attention_start_as_the_identity(zero_init: bool) -> None:
    x = array(1, 4, 4, 8)
    out = numpy(layers.SpatialSelfAttention(2, groups=2, zero_init=zero_init)(x))
    assert np.array_equal(out, x) == zero_init


@pytest.mark.backend
def test_spatial_transformer_starts_as_the_identity_and_then_depends_on_the_context() -> None:
    x, context = array(2, 4, 4, 8), array(2, 3, 5, seed=1)
    layer = layers.SpatialTransformer(2, 4, groups=4)
    np.testing.assert_array_equal(numpy(layer(x, context)), x)
    randomize(layer)
    out = numpy(layer(x, context))
    assert np.abs(out - x).max() > 0.1
    assert np.abs(numpy(layer(x, 2 * context)) - out).max() > 0.01
    # Each image is conditioned by its own context, whose tokens have no order.
    changed = context.copy()
    changed[1] += 1
    out_changed = numpy(layer(x, changed))
    np.testing.assert_allclose(out_changed[0], out[0], atol=1e-6)
    assert np.abs(out_changed[1] - out[1]).max() > 0.01
    np.testing.assert_allclose(numpy(layer(x, context[:, ::-1].copy())), out, atol=1e-5)


def test_transformer_block_is_its_formula() -> None:
    x, context = array(2, 5, 6), array(2, 3, 4, seed=1)
    block = layers.TransformerBlock(2, 3)
    block(x, context)
    randomize(block)

    def norm(layer: object, h: np.ndarray) -> np.ndarray:
        gamma, beta = layer.get_weights()
        centred = h - h.mean(axis=-1, keepdims=True)
        return centred / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-5) * gamma + beta

    h = x + numpy(block.self_attention(norm(block.norm1, x)))
    h = h + numpy(block.cross_attention(norm(block.norm2, h), context))
    h = h + dense(block.feed_forward_out, numpy(block.feed_forward(norm(block.norm3, h))))
    np.testing.assert_allclose(numpy(block(x, context)), h, atol=5e-5)


def test_geglu_is_value_times_exact_gelu_of_gate() -> None:
    from scipy.stats import norm

    x = 3 * array(2, 4, 3)
    layer = layers.GEGLU(5)
    layer(x)
    randomize(layer, 1.0)
    value, gate = np.split(dense(layer.projection, x), 2, axis=-1)
    # The approximation by tanh would be off by up to 5e-4.
    np.testing.assert_allclose(numpy(layer(x)), value * gate * norm.cdf(gate), atol=2e-5)


@pytest.mark.parametrize("least", [1, 10**9], ids=["in one pass", "in several"])
def test_gradient_of_geglu_is_that_of_the_formula(least: int, monkeypatch) -> None:
    from scipy.stats import norm

    monkeypatch.setattr("keras_ldm.backend.kernels._MIN_SIZE", least)
    projected, upstream = 3 * array(2, 4, 10), array(2, 4, 5)
    value, gate = np.split(projected, 2, axis=-1)
    expected = np.concatenate(
        [
            upstream * gate * norm.cdf(gate),
            upstream * value * (norm.cdf(gate) + gate * norm.pdf(gate)),
        ],
        axis=-1,
    )
    weights = ops.convert_to_tensor(upstream)
    (gradient,) = gradients(lambda x: ops.sum(gated_gelu(x) * weights), projected)
    np.testing.assert_allclose(gradient, expected, atol=2e-5)


@pytest.mark.parametrize(
    "layer, arguments",
    [
        (layers.CrossAttention(2, 4, dropout=0.5, seed=1), [array(2, 5, 8)]),
        (layers.TransformerBlock(2, 4, dropout=0.5, seed=1), [array(2, 5, 8)]),
        (layers.SpatialTransformer(2, 4, dropout=0.5, groups=2, seed=1), [array(2, 4, 4, 8)]),
        (layers.ResidualBlock(8, dropout=0.5, groups=2, seed=1), [array(2, 4, 4, 8)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_dropout_acts_in_training_only(layer: object, arguments: list[np.ndarray]) -> None:
    layer(*arguments)
    randomize(layer)
    out = numpy(layer(*arguments))
    np.testing.assert_array_equal(numpy(layer(*arguments, training=False)), out)
    first, second = (numpy(layer(*arguments, training=True)) for _ in range(2))
    assert np.abs(first - out).max() > 0.01
    assert np.abs(first - second).max() > 0.01
