"""The best items by dot product: exact, and in bounded memory whatever the size of the catalogue."""

import math
from typing import Final

import tensorflow as tf

# Items per step: with a batch of 256 queries their scores take 64 MiB.
_ITEMS: Final = 1 << 16


def best_products(
    queries: tf.Tensor, vectors: tf.Tensor, count: int, *, excluded: tf.Tensor, allowed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The items with the largest dot products for each query; of equal ones, the lower row first.

    A catalogue of up to 65,536 items is searched at once; larger ones in steps, each of which keeps the best so far.

    Args:
        queries: Float32 [B, D].
        vectors: Float32 [N, D].
        count: C, at most N.
        excluded: Int32 [P, 2], pairs of a query and a row that is no result of it; they may repeat.
        allowed: Bool [N], the rows that are results.

    Returns:
        Int32 [B, C] rows, -1 where a query has fewer results, and float32 [B, C] dot products.
    """
    vectors = tf.convert_to_tensor(vectors)
    total = int(vectors.shape[0])
    # Steps of equal size, so that the last one is not tiny.
    steps = max(1, math.ceil(total / _ITEMS))
    size = math.ceil(total / steps)
    if steps == 1:
        return _present(*_best(queries, vectors, count, excluded, allowed))

    def step(start: tf.Tensor, rows: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        end = tf.minimum(start + size, total)
        here = (excluded[:, 1] >= start) & (excluded[:, 1] < end)
        places = tf.boolean_mask(excluded, here) - tf.stack([0, start])
        found, products = _best(queries, vectors[start:end], tf.minimum(count, end - start), places, allowed[start:end])
        # Those found before come first: of equal ones they have the lower rows.
        rows, values = tf.concat([rows, found + start], axis=1), tf.concat([values, products], axis=1)
        best = tf.math.top_k(values, count)
        return end, tf.gather(rows, best.indices, batch_dims=1), best.values

    shape = tf.stack([tf.shape(queries)[0], count])
    nothing = (tf.constant(0), tf.fill(shape, -1), tf.fill(shape, -math.inf))
    # Not in parallel: the scores of several steps would be in memory at once.
    _, rows, values = tf.while_loop(lambda start, *_: start < total, step, nothing, parallel_iterations=1)
    return _present(rows, values)


def _best(
    queries: tf.Tensor, vectors: tf.Tensor, count: tf.Tensor | int, excluded: tf.Tensor, allowed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    products = tf.where(allowed, tf.matmul(queries, vectors, transpose_b=True), -math.inf)
    products = tf.tensor_scatter_nd_update(products, excluded, tf.fill(tf.shape(excluded)[:1], -math.inf))
    top = tf.math.top_k(products, count)
    return top.indices, top.values


def _present(rows: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.where(tf.math.is_finite(values), rows, -1), values
