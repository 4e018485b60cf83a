"""Choosing the weights of text search: how queries are generated, and what the choice preserves."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.requests import Requests
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.ranker import CatalogueRanker
from trainer.models.text_search import CHOICES, SearchFeatures, SearchWeights, TextSearch
from trainer.runs import Run
from trainer.training import text_search
from trainer.training.text_search import _KEPT, _ValidationQueries, choose_search_weights, misspell

pytestmark = pytest.mark.usefixtures("cache")

Validation = tuple[CatalogueRanker, HoldOut, npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def validation(tiny_run: Run) -> Validation:
    dataset = tiny_run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    vocabulary = Vocabulary.load(tiny_run.vocabulary)
    items = item_table_of_run(tiny_run, catalogue)
    parts = split(dataset, tiny_run.config.data)
    hold_out = HoldOut(catalogue, vocabulary, parts.train, parts.validation, candidates=20)
    counts = np.bincount(catalogue.rows(parts.train["item_id"]), minlength=len(catalogue))
    return hold_out.ranker(load_recommender(tiny_run, items), items, {"retrieval": 1.0}), hold_out, counts


def _with_lists(config: Config, **lists: Sequence[float]) -> Config:
    search = config.model.search.model_copy(update=lists)
    return config.model_copy(update={"model": config.model.model_copy(update={"search": search})})


def test_a_run_records_weights_that_were_offered(tiny_run: Run) -> None:
    chosen = tiny_run.read("search.json")
    for field, setting in CHOICES:
        assert chosen[field] in getattr(tiny_run.config.model.search, setting)


def test_the_choice_is_the_best_that_keeps_what_the_encoder_finds(tiny_run: Run, validation: Validation) -> None:
    ranker, hold_out, counts = validation
    lists: dict[str, Sequence[float]] = {
        "category_weights": [0.0, 2.0],
        "lexical_weights": [0.4],
        "popularity_weights": [0.0, 50.0],
        "tower_weights": [0.0, 0.1],
    }
    config = _with_lists(tiny_run.config, **lists)
    chosen = choose_search_weights(config, ranker, counts, hold_out)
    # With a weight of 50, popularity outweighs everything else.
    assert chosen.popularity == 0.0
    nothing = SearchWeights(0.0, 0.0, 0.0, 0.0)
    others = [SearchWeights(categories, 0.4, 0.0, towers) for categories in (0.0, 2.0) for towers in (0.0, 0.1)]
    queries = _ValidationQueries(config, ranker, counts, hold_out, [nothing, *others])
    alone, best = queries.quality(nothing), queries.quality(chosen)
    assert (best.ndcg >= _KEPT * alone.ndcg).all()
    for weights in others:
        other = queries.quality(weights)
        if (other.ndcg >= _KEPT * alone.ndcg).all():
            assert np.log(np.maximum(best.ndcg, 1e-6)).mean() >= np.log(np.maximum(other.ndcg, 1e-6)).mean() - 1e-9


def test_the_same_seed_chooses_the_same(tiny_run: Run, validation: Validation) -> None:
    ranker, hold_out, counts = validation
    first, second = (choose_search_weights(tiny_run.config, ranker, counts, hold_out) for _ in range(2))
    assert asdict(first) == asdict(second)


def test_queries_are_of_held_out_items_and_bar_what_serving_bars(
    validation: Validation,
) -> None:
    _, hold_out, _ = validation
    users, rows = hold_out.sample_positives(1_000, np.random.default_rng(0))
    there = np.zeros((len(hold_out.user_ids), len(hold_out.candidate_rows)), bool)
    there[users, np.searchsorted(hold_out.candidate_rows, rows)] = True
    np.testing.assert_array_equal(np.flatnonzero(there), np.sort(hold_out.test.keys()))
    barred = hold_out.seen(users)
    assert not barred[np.arange(len(rows)), rows].any()
    batch = hold_out.requests.at(users).batch(4)
    history = batch["history"].numpy()
    assert history.shape == (len(users), 4)
    assert (batch["user"].numpy() > 0).all()
    for line, seen in zip(barred, history, strict=True):
        assert line[seen[seen >= 0]].all()
    some, _ = hold_out.sample_positives(5, np.random.default_rng(0))
    assert len(some) == 5


@pytest.mark.parametrize(
    "weights",
    [
        SearchWeights(categories=0.0, lexical=0.0, popularity=0.0, towers=0.0),
        SearchWeights(categories=2.0, lexical=0.4, popularity=0.05, towers=0.3),
        SearchWeights(categories=0.5, lexical=1.5, popularity=0.0, towers=0.1),
    ],
    ids=["meaning", "all", "no popularity"],
)
def test_weights_are_evaluated_by_the_order_in_which_text_search_answers(
    tiny_run: Run,
    validation: Validation,
    weights: SearchWeights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranker, hold_out, counts = validation
    read: list[tuple[tf.Tensor, tf.Tensor]] = []

    plain = CatalogueRanker.query_vectors

    def watched(self: CatalogueRanker, requests: Requests, sentences: tf.Tensor) -> tf.Tensor:
        read.append((sentences, plain(self, requests, sentences)))
        return read[-1][1]

    monkeypatch.setattr(CatalogueRanker, "query_vectors", watched)
    # The last two rows of scores are made alone, and other weights are asked about at the same time.
    monkeypatch.setattr(text_search, "_PAIRS_AT_ONCE", 3 * ranker.items.size)
    many = SearchWeights(categories=0.0, lexical=3.0, popularity=1.0, towers=0.0)
    queries = _ValidationQueries(tiny_run.config, ranker, counts, hold_out, [many, weights])
    # The generated texts of each kind; a translated title has no letter in common with its item.
    made = queries._generate(ranker.items, hold_out, np.random.default_rng(tiny_run.config.seed))
    features = SearchFeatures.of(ranker.model, ranker.items, counts)
    search = TextSearch(features, weights, tiny_run.config.model.search.dimension, ranker.vectors)
    assert queries.kinds == list(made)
    for (kind, asked), (sentences, vectors), ranks in zip(made.items(), read, queries.ranks(weights), strict=True):
        texts = [""] * len(asked.texts) if asked.translated else asked.texts
        fit = search.scores(search.read(sentences, tf.constant(texts)))
        everything = tf.tile(ranker.vectors.value()[tf.newaxis], [len(texts), 1, 1])
        scores = search.reorder(fit, vectors, everything).numpy()
        lines = np.arange(len(texts))
        own = scores[lines, asked.wanted][:, np.newaxis]
        barred = hold_out.seen(asked.users)
        # Equal scores come in either order.
        first, last = (((scores > own + margin) & ~barred).sum(axis=1) for margin in (1e-5, -1e-5))
        last -= ~barred[lines, asked.wanted]
        assert ((first <= ranks) & (ranks <= last)).all(), kind
        assert (first == last).mean() > 0.9, kind


def _edits(text: str) -> set[str]:
    """Every text one deletion, replacement, insertion or swap of neighbours away."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    places = range(len(text))
    deleted = {text[:i] + text[i + 1 :] for i in places}
    replaced = {text[:i] + letter + text[i + 1 :] for i in places for letter in letters}
    inserted = {text[:i] + letter + text[i:] for i in places for letter in letters}
    exchanged = {text[:i] + text[i + 1] + text[i] + text[i + 2 :] for i in places if i + 1 < len(text)}
    return deleted | replaced | inserted | exchanged | {text}


@pytest.mark.parametrize("text", ["Toy Story", "캠핑 텐트", "a", "头戴式耳机", "🎉🎊"])
def test_misspelling_changes_one_place(text: str) -> None:
    draws = np.random.default_rng(0)
    found = {misspell(text, draws) for _ in range(100)}
    assert found <= _edits(text)
    assert len(found) > 5
