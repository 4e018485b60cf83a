"""The metric of content against covariances counted pair by pair, and what it does to items."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.data.user_items import UserItems
from trainer.scorers import metric
from trainer.scorers.content import ContentSimilarity
from trainer.scorers.metric import metric_of_users

_USERS = [[0, 1, 2], [3, 4], [5], [1, 4, 6, 2], [], [0, 6]]


def _vectors(size: int, width: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(size, width)).astype(np.float32)


def _expected(vectors: npt.NDArray[np.float32], shrinkage: float) -> npt.NDArray[np.float64]:
    """Similarity of all items before they are unit vectors, up to a factor: [N, N]."""
    several = [items for items in _USERS if len(items) > 1]
    mean = np.mean([vectors[items].mean(axis=0) for items in several], axis=0)
    apart = vectors.astype(np.float64) - mean
    alone = np.mean([np.mean([np.outer(apart[i], apart[i]) for i in items], axis=0) for items in several], axis=0)
    # A user's pairs weigh 1 / n each, as the items do.
    weighed = [
        (np.outer(apart[i], apart[j]), 1.0 / len(items))
        for items in several
        for i, j in itertools.permutations(items, 2)
    ]
    pairs = sum(product * weight for product, weight in weighed) / sum(weight for _, weight in weighed)
    width = vectors.shape[1]
    within = alone - pairs + shrinkage * np.trace(alone) / width * np.eye(width)
    # The same eigenproblem, made symmetric by the square root of the scatter.
    values, basis = np.linalg.eigh(within)
    root = basis / np.sqrt(values) @ basis.T
    gains, directions = np.linalg.eigh(root @ pairs @ root)
    projection = root @ directions * np.maximum(gains, 0.0) ** 0.25
    found: npt.NDArray[np.float64] = vectors @ projection @ projection.T @ vectors.T
    return found


@pytest.mark.parametrize("block", [1, 2, 100])
def test_it_weighs_the_directions_that_a_users_items_share(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "_USERS", block)
    vectors = _vectors(7, 4)
    projection = metric_of_users(vectors, UserItems.of_lists(_USERS), shrinkage=0.5, rank=4)
    found, expected = (vectors @ projection) @ (vectors @ projection).T, _expected(vectors, 0.5)
    np.testing.assert_allclose(found / np.linalg.norm(found), expected / np.linalg.norm(expected), atol=1e-5)


def test_tastes_are_told_apart_and_noise_is_not() -> None:
    # Ten genres in the first direction pair; the other 30 directions say nothing about who chooses what.
    random = np.random.default_rng(1)
    genre = np.arange(300) % 10
    vectors = random.normal(size=(300, 32)).astype(np.float32)
    vectors[:, :2] += 2.0 * np.stack([np.cos(genre * 0.6), np.sin(genre * 0.6)], axis=1)
    users = [random.choice(np.flatnonzero(genre == taste), 8, replace=False) for taste in range(10) for _ in range(30)]
    projection = metric_of_users(vectors, UserItems.of_lists(users), shrinkage=1.0, rank=2)
    assert projection.shape == (32, 2)
    strength = np.linalg.norm(projection, axis=1)
    assert strength[:2].min() > 4.0 * strength[2:].max()


def test_without_users_of_several_items_the_cosine_stays() -> None:
    vectors = _vectors(9, 5)
    for users in ([], [[0], [3]]):
        projection = metric_of_users(vectors, UserItems.of_lists(users), shrinkage=1.0, rank=5)
        np.testing.assert_allclose((vectors @ projection) @ (vectors @ projection).T, vectors @ vectors.T, atol=1e-4)
    wide = metric_of_users(vectors, UserItems.of_lists([]), shrinkage=1.0, rank=8)
    assert wide.shape == (5, 8)
    assert not wide[:, 5:].any()


def test_items_have_unit_texts_in_the_metric_and_their_categories() -> None:
    scorer = ContentSimilarity(10, 1.0, rank=3, name="content")
    assert scorer.width == 3 + 5
    content = _vectors(7, 10)
    content[2, :5] = 0.0
    scorer.fit(content, UserItems.of_lists(_USERS), shrinkage=0.5)
    texts = content[:, :5] @ metric_of_users(content[:, :5], UserItems.of_lists(_USERS), shrinkage=0.5, rank=3)
    lengths = np.linalg.norm(texts, axis=1, keepdims=True)
    texts = np.divide(texts, lengths, out=np.zeros_like(texts), where=lengths > 0.0)
    found = scorer.items({"content": tf.constant(content)}, tf.zeros([7], tf.int32))  # type: ignore[typeddict-item]
    np.testing.assert_allclose(found, np.concatenate([texts, content[:, 5:]], axis=1), atol=1e-5)
    assert not found.numpy()[2, :3].any()
    plain = ContentSimilarity(10, 1.0, name="content")
    plain.fit(content, UserItems.of_lists(_USERS), shrinkage=0.5)
    assert plain.metric is None
    np.testing.assert_array_equal(
        plain.items({"content": tf.constant(content)}, tf.zeros([7], tf.int32)),  # type: ignore[typeddict-item]
        content,
    )
