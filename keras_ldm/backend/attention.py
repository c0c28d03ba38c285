"""Softmax attention, in memory linear in the number of tokens where there are many.

Above a size the scores of all queries and keys never exist at once: each chunk of queries sees all keys,
and gives its share of the output. The gradient computes the scores of each chunk anew.

Reference: Rabe and Staats 2021, https://arxiv.org/abs/2112.05682; Dao et al. 2022,
https://arxiv.org/abs/2205.14135 (its section 3.1 has the gradient).
"""

from typing import Any

import keras

from keras_ldm.backend.rematerialization import is_rematerialized
from keras_ldm.types import Tensor

MOST_SCORES = 2**25  # of an example and all of its heads, computed at once: 128 MiB in float32
MOST_SCORES_ANEW = 2**22  # where memory is worth more than time


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention, scaled by the root of a head's width, its weights computed in float32.

    JAX and PyTorch have fused attention; on JAX's CPU it has all scores in memory. On TensorFlow, Keras
    goes through `einsum`; the same written as matrix products takes four fifths of its time on a CPU.

    Args:
        query: `(batch, queries, heads, head_dim)`.
        key: `(batch, keys, heads, head_dim)`.
        value: `(batch, keys, heads, head_dim)`.

    Returns:
        `(batch, queries, heads, head_dim)`.
    """
    queries, keys, heads = query.shape[1], key.shape[1], query.shape[2]
    chunks = 1
    if None not in (queries, keys, heads):
        most = MOST_SCORES_ANEW if is_rematerialized() else MOST_SCORES
        chunks = min(queries, -(-queries * keys * heads // most))
    name = keras.backend.backend()
    if name == "tensorflow":
        return _on_tensorflow(query, key, value, chunks)
    if name == "jax" and chunks > 1:
        import jax

        if jax.default_backend() == "cpu":
            return _in_chunks_on_jax(query, key, value, chunks)
    return keras.ops.dot_product_attention(query, key, value)


def _on_tensorflow(query: Tensor, key: Tensor, value: Tensor, chunks: int) -> Tensor:
    ops = keras.ops
    query = query * query.shape[-1] ** -0.5
    query, key, value = (ops.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    if chunks > 1:
        attended = _in_chunks_on_tensorflow(query, key, value, chunks)
    else:
        attended = ops.matmul(_weights(query, key), value)
    return ops.transpose(attended, (0, 2, 1, 3))


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """Of queries that are scaled already, `(..., queries, keys)`."""
    import tensorflow as tf

    ops = keras.ops
    scores = tf.matmul(query, key, transpose_b=True)
    return ops.cast(ops.softmax(ops.cast(scores, "float32")), key.dtype)


def _in_chunks_on_tensorflow(query: Tensor, key: Tensor, value: Tensor, chunks: int) -> Tensor:
    """Of `(batch, heads, tokens, head_dim)`, one chunk of one example after the other."""
    import tensorflow as tf

    batch, queries = tf.shape(query)[0], query.shape[2]
    rows = -(-queries // chunks)
    padding = [[0, 0], [0, 0], [0, rows * chunks - queries], [0, 0]]

    def cut(x: Tensor) -> Tensor:
        """`(batch * chunks, heads, rows, head_dim)`, a chunk behind the other."""
        heads, dim = x.shape[1], x.shape[3]
        x = tf.reshape(tf.pad(x, padding), (batch, heads, chunks, rows, dim))
        return tf.reshape(tf.transpose(x, (0, 2, 1, 3, 4)), (batch * chunks, heads, rows, dim))

    def join(x: Tensor) -> Tensor:
        heads, dim = x.shape[1], x.shape[3]
        x = tf.transpose(tf.reshape(x, (batch, chunks, heads, rows, dim)), (0, 2, 1, 3, 4))
        return tf.reshape(x, (batch, heads, rows * chunks, dim))[:, :, :queries]

    def one_by_one(function: Any, like: Any, *parts: Tensor) -> Any:
        return tf.map_fn(function, parts, fn_output_signature=like, parallel_iterations=1)

    @tf.custom_gradient
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Any:
        def chunk(parts: Any) -> Tensor:
            part, number = parts
            example = number // chunks
            return tf.matmul(_weights(part, key[example]), value[example])

        parts, numbers = cut(query), tf.range(batch * chunks)
        attended = one_by_one(chunk, _like(parts, value.shape[-1]), parts, numbers)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return _gradient(query, key, value, upstream)

        return join(attended), gradient

    def _gradient(
        query: Tensor, key: Tensor, value: Tensor, upstream: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """That of an example after the other, and of a chunk after the other."""

        def of_example(parts: Any) -> Any:
            queries, key, value, upstreams = parts

            def step(number: Tensor, for_key: Tensor, for_value: Tensor, done: Any) -> Any:
                part, above = queries[number], upstreams[number]
                weights = _weights(part, key)
                for_weights = tf.matmul(above, value, transpose_b=True)
                weighted = tf.cast(weights, "float32") * tf.cast(for_weights, "float32")
                mean = tf.reduce_sum(weighted, axis=-1, keepdims=True)
                for_scores = tf.cast(weighted - tf.cast(weights, "float32") * mean, key.dtype)
                return (
                    number + 1,
                    for_key + tf.cast(tf.matmul(for_scores, part, transpose_a=True), "float32"),
                    for_value + tf.cast(tf.matmul(weights, above, transpose_a=True), "float32"),
                    done.write(number, tf.matmul(for_scores, key)),
                )

            zeros = tf.zeros(tf.shape(key), "float32"), tf.zeros(tf.shape(value), "float32")
            done = tf.TensorArray(key.dtype, chunks, element_shape=queries.shape[1:])
            _, for_key, for_value, done = tf.while_loop(
                lambda number, *_: number < chunks, step, (0, *zeros, done), parallel_iterations=1
            )
            return done.stack(), tf.cast(for_key, key.dtype), tf.cast(for_value, value.dtype)

        def by_example(x: Tensor) -> Tensor:
            x = cut(x)
            return tf.reshape(x, (batch, chunks, *x.shape[1:]))

        parts = by_example(query), key, value, by_example(upstream)
        like = tuple(tf.TensorSpec(x.shape[1:], x.dtype) for x in (parts[0], key, value))
        for_query, for_key, for_value = one_by_one(of_example, like, *parts)
        return join(tf.reshape(for_query, (batch * chunks, *for_query.shape[2:]))), for_key, for_value

    def _like(parts: Tensor, dim: int) -> Any:
        return tf.TensorSpec((*parts.shape[1:3], dim), parts.dtype)

    return attend(query, key, value)


def _in_chunks_on_jax(query: Tensor, key: Tensor, value: Tensor, chunks: int) -> Tensor:
    """Of `(batch, tokens, heads, head_dim)`."""
    import jax

    ops = keras.ops
    batch, queries, heads, dim = query.shape
    rows = -(-queries // chunks)
    padded = ops.pad(query, [[0, 0], [0, rows * chunks - queries], [0, 0], [0, 0]])
    parts = ops.transpose(ops.reshape(padded, (batch, chunks, rows, heads, dim)), (1, 0, 2, 3, 4))
    attend = jax.checkpoint(lambda part: keras.ops.dot_product_attention(part, key, value))
    attended = ops.transpose(jax.lax.map(attend, parts), (1, 0, 2, 3, 4))
    return ops.reshape(attended, (batch, rows * chunks, heads, value.shape[-1]))[:, :queries]
