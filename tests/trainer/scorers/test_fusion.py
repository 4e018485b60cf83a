"""The fused dot product is the sum of the parts', in training and in serving."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.data.item_table import ItemFeatures
from trainer.scorers.content import ContentSimilarity
from trainer.scorers.fusion import Fusion
from trainer.scorers.linear import LinearScorer
from trainer.scorers.popularity import Popularity


def _scorers() -> tuple[LinearScorer, ContentSimilarity, Popularity]:
    draws = np.random.default_rng(1)
    linear = LinearScorer(6, 3, name="linear")
    linear.table.assign(draws.normal(size=(7, 3)))
    linear.signs.assign([1.0, -1.0, 1.0])
    linear.factor.assign(0.7)
    content = ContentSimilarity(5, 1.0, name="content")
    content.factor.assign(1.5)
    popularity = Popularity(6, name="popularity")
    popularity.fit(np.array([0.0, 9.0, 4.0, 0.0, 1.0, 2.0, 3.0]))
    return linear, content, popularity


@pytest.mark.parametrize("used", [(), (0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_scores_are_sums_of_the_parts_scores(used: tuple[int, ...]) -> None:
    draws = np.random.default_rng(2)
    every = _scorers()
    linear, content, popularity = (every[place] if place in used else None for place in range(3))
    fusion = Fusion(4, linear=linear, content=content, popularity=popularity)
    towers, ids = draws.normal(size=(6, 4)).astype(np.float32), tf.range(1, 7)
    features: ItemFeatures = {  # type: ignore[typeddict-item]
        "neighbours": tf.zeros([6, 0], tf.int32),
        "neighbour_weights": tf.zeros([6, 0]),
        "content": tf.constant(draws.normal(size=(6, 5)), tf.float32),
    }
    vectors = fusion.items(towers, features, ids, False)
    assert vectors.shape == (6, fusion.width)
    np.testing.assert_array_equal(fusion.of_towers(vectors), towers)

    asked, mask = np.array([[0, 3], [5, 0]]), tf.constant([[True, True], [True, False]])
    own = draws.normal(size=(2, 4)).astype(np.float32)
    history = tf.gather(vectors, asked)
    found = tf.matmul(fusion.queries(own, own, history, mask, False), vectors, transpose_b=True)
    expected = own @ towers.T
    for place in used:
        scorer = every[place]
        mine = scorer.items(features, ids)
        expected += tf.matmul(scorer.queries(own, tf.gather(mine, asked), mask), mine, transpose_b=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    # Training leaves closed forms out, whose vectors the history lacks as well then.
    trained = fusion.items(towers, features, ids, True)
    asking = fusion.queries(own, own, tf.gather(trained, asked), mask, True)
    expected = own @ towers.T
    if 2 in used:
        mine = popularity.items(features, ids)  # type: ignore[union-attr]
        expected += np.ones((2, 1)) @ mine.numpy().T
    np.testing.assert_allclose(tf.matmul(asking, trained, transpose_b=True), expected, rtol=1e-4, atol=1e-5)
