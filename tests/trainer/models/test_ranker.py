"""Scores of pairs and whole answers, against the vectors that they are made of."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.data.requests import Requests
from trainer.data.user_items import UserItems
from trainer.models import ranker as ranker_module
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.ranker import CatalogueRanker, query_vectors, score_pairs
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def ranker(tiny_run: Run) -> CatalogueRanker:
    items = item_table_of_run(tiny_run, Catalogue.from_dataset(tiny_run.dataset()))
    return CatalogueRanker(load_recommender(tiny_run, items), items, {"retrieval": 1.0}, candidates=items.size)


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests.of_histories(UserItems.of_lists([[0, 3, 5], [], [2], [1, 4]]), np.array([1, 0, 2, 0], np.int32))


def test_blocks_change_nothing(ranker: CatalogueRanker, requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = np.array([0, 3, 3, 1, 2, 0, 2]), np.array([7, 1, 0, 4, 2, 0, 6])
    whole = ranker.score_pairs(requests, pairs)
    ranking = ranker.rank(requests, 5)
    monkeypatch.setattr(ranker_module, "_BLOCK", 3)
    monkeypatch.setattr(ranker_module, "_PAIRS", 2)
    parts = ranker.score_pairs(requests, pairs)
    for found, expected in zip(parts, whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert ranker.rank(requests, 5).tolist() == ranking.tolist()
    queries = query_vectors(ranker.model, ranker.items, ranker.vectors, requests).numpy()
    products = np.einsum("ed,ed->e", queries[pairs[0]], ranker.vectors.numpy()[pairs[1]])
    np.testing.assert_allclose(whole[0], products / ranker.model.config.retrieval.temperature, rtol=1e-4, atol=1e-5)


def test_candidates_may_be_read_in_another_language_than_histories(ranker: CatalogueRanker, requests: Requests) -> None:
    pairs = np.array([0, 2]), np.array([7, 1])
    own, other = ranker.vectors.numpy(), 2.0 * ranker.vectors.numpy()
    logits, _ = score_pairs(ranker.model, ranker.items, requests, pairs, own, own)
    doubled, _ = score_pairs(ranker.model, ranker.items, requests, pairs, own, other)
    np.testing.assert_allclose(doubled, 2.0 * logits, rtol=1e-5)


def test_nothing_asked(ranker: CatalogueRanker, requests: Requests) -> None:
    nothing = np.zeros(0, np.int64)
    logits, outputs = ranker.score_pairs(requests[:0], (nothing, nothing))
    assert logits.shape == (0,)
    assert outputs.shape == (0, len(ranker.model.heads))
    assert ranker.rank(requests[:0], 3).shape == (0, 3)
    assert ranker.rank_texts(tf.zeros([0, 512]), [], 3).shape == (0, 3)


def test_answers_are_in_the_order_of_the_blend_without_the_history(ranker: CatalogueRanker, requests: Requests) -> None:
    rows, logits, outputs = (part.numpy() for part in ranker.parts(requests))
    for user in range(len(requests)):
        there = rows[user] >= 0
        every = set(range(ranker.items.size)) - set(requests.histories.of_user(user))
        assert set(rows[user][there]) == every
    for weights in ({"retrieval": 1.0}, {"retrieval": 0.5, ranker.model.heads[0].name: 2.0}):
        head = weights.get(ranker.model.heads[0].name, 0.0)
        scores = np.where(rows >= 0, weights["retrieval"] * logits + head * outputs[..., 0], -np.inf)
        expected = np.take_along_axis(rows, np.argsort(-scores, axis=1, kind="stable"), axis=1)
        assert ranker.blended(weights).rank(requests, 4).tolist() == expected[:, :4].tolist()
    allowed = np.arange(ranker.items.size) % 2 == 0
    assert (ranker.restricted(allowed).rank(requests, 4) % 2 == 0).all()
    everything = ranker.rank(requests, ranker.items.size)
    assert (everything >= 0).sum(axis=1).tolist() == [ranker.items.size - n for n in requests.histories.sizes()]
