"""Exact search in steps, against sorting all dot products in NumPy."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.models import exact_search
from trainer.models.exact_search import best_products

_ITEMS, _QUERIES = 37, 5


def _expected(
    products: npt.NDArray[np.float32], excluded: npt.NDArray[np.int32], allowed: npt.NDArray[np.bool_], count: int
) -> list[list[int]]:
    lists = []
    for query, row in enumerate(products.tolist()):
        barred = {item for asked, item in excluded.tolist() if asked == query}
        results = [item for item in range(len(row)) if allowed[item] and item not in barred]
        best = sorted(results, key=lambda item: (-row[item], item))[:count]
        lists.append(best + [-1] * (count - len(best)))
    return lists


@pytest.mark.parametrize("items", [1, 4, 36, 37, 1 << 16])
@pytest.mark.parametrize("count", [1, 6, _ITEMS])
@pytest.mark.parametrize("graph", [False, True])
def test_steps_change_nothing(items: int, count: int, graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_search, "_ITEMS", items)
    rng = np.random.default_rng(count)
    # Small integers: many ties, and every product is exact.
    queries = rng.integers(-1, 2, (_QUERIES, 3)).astype(np.float32)
    vectors = rng.integers(-1, 2, (_ITEMS, 3)).astype(np.float32)
    allowed = rng.random(_ITEMS) < 0.8
    excluded = np.stack([rng.integers(0, _QUERIES, 40), rng.integers(0, _ITEMS, 40)], axis=1).astype(np.int32)
    search = tf.function(best_products) if graph else best_products
    rows, values = (
        part.numpy()
        for part in search(tf.constant(queries), tf.Variable(vectors), count, excluded=excluded, allowed=allowed)
    )
    products = queries @ vectors.T
    assert rows.tolist() == _expected(products, excluded, allowed, count)
    found = rows >= 0
    np.testing.assert_array_equal(values[found], np.take_along_axis(products, np.maximum(rows, 0), axis=1)[found])


def test_nothing_is_left() -> None:
    vectors = tf.ones([3, 2])
    pairs = np.array([[0, 0], [0, 1], [0, 2], [0, 2]], np.int32)
    rows, _ = best_products(tf.ones([2, 2]), vectors, 2, excluded=pairs, allowed=np.ones(3, bool))
    assert rows.numpy().tolist() == [[-1, -1], [0, 1]]
    rows, _ = best_products(tf.ones([0, 2]), vectors, 2, excluded=pairs[:0], allowed=np.ones(3, bool))
    assert rows.shape == (0, 2)
