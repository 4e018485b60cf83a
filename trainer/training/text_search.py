"""Chooses the weights of text search on the validation part, from text queries that the catalogue itself yields.

Nobody has typed anything yet when a model is trained. But each held-out positive is an item that somebody wanted, and
what such a person might have typed is known: its title as a translation would say it (a blurred sentence vector, with
no letter in common), its title with a typo, or the name of one of its categories. The wanted item should come first.
"""

import itertools
import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config import Config
from trainer.data.languages import UNDETERMINED
from trainer.data.vocabulary import UNKNOWN
from trainer.evaluation.holdout import HoldOut
from trainer.models.assembly import text_inputs
from trainer.models.recommender import Recommender
from trainer.models.requests import CatalogueRanker, text_query_vectors
from trainer.models.text_search import (
    CHOICES,
    SearchFeatures,
    SearchWeights,
    TowerScale,
    bounded,
    default_weights,
    names_no_item,
)
from trainer.towers.items import ItemTable
from trainer.towers.neighbours import unit

_LOG = logging.getLogger(__name__)
_Floats = npt.NDArray[np.float32]
_CUT_OFF = 10
# Lengths of the noise that stands for a translation, drawn log-uniformly: they leave cosines of 0.78 to 0.2, as
# KMRD's English and Korean titles have them (quartiles 0.31, 0.49, 0.64).
_TRANSLATION_NOISE = (0.8, 5.0)
# Numbers of one matrix of queries x items.
_LARGEST = 8_000_000
# Share of the sentence encoder's recall that each kind of query must keep.
_KEPT = 0.95
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def choose_search_weights(
    config: Config,
    model: Recommender,
    ranker: CatalogueRanker,
    counts: npt.NDArray[np.floating],
    hold_out: HoldOut,
) -> SearchWeights:
    """The weights with the highest NDCG@10 of the wanted item: geometric mean over kinds, mean over items' languages.

    The geometric mean makes an item of a named category, which is one of hundreds, count as much as one whose title is
    typed. Weights with which any kind of query finds its item among the first ten less often than with the sentence
    encoder's similarity alone, by more than a twentieth, are not considered.

    Args:
        config: Of the run.
        model: Trained.
        ranker: Answers the validation part by it.
        counts: [N] training positives of each item.
        hold_out: The validation part.
    """
    queries = _ValidationQueries(config, model, ranker, counts, hold_out)
    if not queries.kinds:
        return default_weights(config.model.search)
    alone = queries.quality(SearchWeights(0.0, 0.0, 0.0, 0.0))
    best, value, reached = default_weights(config.model.search), -math.inf, alone
    fields, settings = zip(*CHOICES, strict=True)
    for choice in itertools.product(*(getattr(config.model.search, setting) for setting in settings)):
        weights = SearchWeights(**dict(zip(fields, choice, strict=True)))
        quality = queries.quality(weights)
        judged = float(np.mean(np.log(np.maximum(quality.ndcg, 1e-6))))
        if judged > value and np.all(quality.recall >= _KEPT * alone.recall):
            best, value, reached = weights, judged, quality
    _LOG.info("Text search: %s, chosen on queries for %d held-out positives.", best, queries.size)
    for kind, name in enumerate(queries.kinds):
        _LOG.info(
            "  %s: recall@10 %.3f, ndcg@10 %.3f (sentence encoder alone %.3f, %.3f)",
            name,
            reached.recall[kind],
            reached.ndcg[kind],
            alone.recall[kind],
            alone.ndcg[kind],
        )
    return best


class _Quality(NamedTuple):
    """Of each kind of query, float64 [kinds]: how often the wanted item is among the first ten, and its NDCG@10."""

    recall: npt.NDArray[np.float64]
    ndcg: npt.NDArray[np.float64]


class _ValidationQueries:
    """Text queries for held-out positives, and every part of the score of every item for each."""

    def __init__(
        self,
        config: Config,
        model: Recommender,
        ranker: CatalogueRanker,
        counts: npt.NDArray[np.floating],
        hold_out: HoldOut,
    ) -> None:
        items = ranker.items
        catalogue = items.catalogue
        draws = np.random.default_rng(config.seed)
        features = SearchFeatures.of(model, items, counts)
        most = min(config.model.search.queries, max(50, _LARGEST // items.size))
        users, self._wanted = hold_out.sample_positives(most, draws)
        self._barred = hold_out.barred(users)
        self._languages = np.unique([catalogue.languages[row] for row in self._wanted], return_inverse=True)[1]
        self._popularity = features.popularity
        scale = TowerScale(ranker.vectors)
        self._parts: dict[str, tuple[npt.NDArray[np.intp], _Floats, _Floats, _Floats, _Floats]] = {}
        for kind, (places, texts, translated) in self._asked(items, draws).items():
            if not len(places):
                continue
            sentences = model.candidate_tower.convert(_read(texts, config, model), tf.zeros([len(texts)], tf.int32))
            vectors = unit(sentences.numpy())
            if translated:
                shortest, longest = _TRANSLATION_NOISE
                lengths = np.exp(draws.uniform(math.log(shortest), math.log(longest), (len(texts), 1))).astype(
                    np.float32
                )
                vectors = unit(vectors + lengths * _like(features.text, len(texts), draws))
            history, known = hold_out.histories(users[places], model.config.query.history_length)
            # Every second person is unknown.
            history[::2], known[::2] = -1, UNKNOWN
            queries = text_query_vectors(model, tf.constant(vectors), ranker.vectors, history, known)
            products = tf.matmul(queries, ranker.vectors, transpose_b=True)
            self._parts[kind] = (
                places,
                vectors @ features.text.T,
                features.category_scores(vectors),
                np.square(features.lexical(tf.constant([""] * len(texts) if translated else texts, tf.string)).numpy()),
                bounded(scale(queries, products)).numpy(),
            )

    @property
    def kinds(self) -> list[str]:
        """Kinds of query that there are."""
        return list(self._parts)

    @property
    def size(self) -> int:
        """How many positives the queries are made of."""
        return len(self._wanted)

    def quality(self, weights: SearchWeights) -> _Quality:
        """How well the wanted items are found, averaged over the items' languages."""
        recall, ndcg = [], []
        for places, text, categories, lexical, towers in self._parts.values():
            scores = text + weights.lexical * lexical
            if weights.categories:
                scores += weights.categories * names_no_item(scores.max(axis=1, keepdims=True)).numpy() * categories
            scores += weights.popularity * self._popularity + weights.towers * towers
            own = scores[np.arange(len(places)), self._wanted[places]][:, np.newaxis]
            ranks = ((scores > own) & ~self._barred[places]).sum(axis=1)
            found = ranks < _CUT_OFF
            languages = self._languages[places]
            recall.append(_mean_over_groups(found.astype(np.float64), languages))
            ndcg.append(_mean_over_groups(np.where(found, 1.0 / np.log2(ranks + 2.0), 0.0), languages))
        return _Quality(np.array(recall), np.array(ndcg))

    def _asked(
        self, items: ItemTable, draws: np.random.Generator
    ) -> dict[str, tuple[npt.NDArray[np.intp], list[str], bool]]:
        """Kind -> places among the wanted items, texts, whether they are in another language."""
        catalogue = items.catalogue
        titles = [catalogue.titles[row] for row in self._wanted]
        written = np.flatnonzero([bool(title.strip()) for title in titles])
        labels = [row[row >= 0] for row in catalogue.categories[self._wanted]]
        labelled = np.flatnonzero([len(row) > 0 for row in labels])
        names = [items.names_of(int(draws.choice(labels[place]))) for place in labelled]
        return {
            "translated title": (written, [titles[place] for place in written], True),
            "title with a typo": (written, [misspell(titles[place], draws) for place in written], False),
            "category": (labelled, [own[int(draws.integers(len(own)))] for own in names], False),
        }


def _like(vectors: _Floats, count: int, draws: np.random.Generator) -> _Floats:
    """Gaussian vectors [count, T] with the covariance of ``vectors`` [N, T], of length 1 on average."""
    mixed = draws.normal(size=(count, len(vectors))).astype(np.float32) @ vectors
    length = np.sqrt(np.mean(np.sum(np.square(mixed), axis=1)))
    return mixed / length if length > 0.0 else mixed


def _read(texts: Sequence[str], config: Config, model: Recommender) -> tf.Tensor:
    """Sentence vectors as typed texts get them in serving."""
    inputs = text_inputs(texts, [UNDETERMINED] * len(texts), config.text)
    return model.candidate_tower.text_vectors(inputs)


def misspell(text: str, draws: np.random.Generator) -> str:
    """The text with one character left out, replaced, added, or exchanged with the next one."""
    place, letter = int(draws.integers(len(text))), _LETTERS[int(draws.integers(len(_LETTERS)))]
    ways = (
        text[:place] + text[place + 1 :],
        text[:place] + letter + text[place + 1 :],
        text[:place] + letter + text[place:],
        text[:place] + text[place + 1 : place + 2] + text[place : place + 1] + text[place + 2 :],
    )
    return ways[int(draws.integers(len(ways)))]


def _mean_over_groups(values: npt.NDArray[np.float64], groups: npt.NDArray[np.integer]) -> float:
    """Mean over the groups of the means within them."""
    sizes = np.bincount(groups)
    return float(np.mean(np.bincount(groups, values)[sizes > 0] / sizes[sizes > 0]))
