"""Chooses the weights of text search on the validation part, with text queries made from the catalogue.

No logged queries exist at training time, but three kinds can be generated: the title of an item in another
language (a sentence vector with noise, with no letter in common), its title with a typo, and the name of a category of
an item that a user chose, according to held-out positives. The wanted item should be ranked first.
"""

import itertools
import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.item_table import ItemTable
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.assembly import typed_vectors
from trainer.models.ranker import CatalogueRanker
from trainer.models.text_search import (
    CHOICES,
    SearchFeatures,
    SearchWeights,
    TowerMoments,
    TowerScale,
    bounded,
    default_weights,
    names_no_item,
)
from trainer.text.unit_vectors import unit

_LOG = logging.getLogger(__name__)
_Floats = npt.NDArray[np.float32]
_CUT_OFF = 10
# Lengths of the noise that simulates a translation, drawn log-uniformly: they give cosines of 0.78 to 0.37, like the
# better half of KMRD's English and Korean titles; the rest is hardly found by meaning.
_TRANSLATION_NOISE = (0.8, 2.5)
# Queries x items of one kind, unless these are fewer than `_FEWEST` queries.
_MOST_PAIRS = 8_000_000
_FEWEST = 50
# Queries x items whose parts of the score are in memory at once, 32 MB each.
_PAIRS_AT_ONCE = 8_000_000
# Share of the sentence encoder's NDCG@10 that each kind of query must keep. NDCG, because title recall is close to 1;
# the value is from KMRD's English titles in its Korean catalogue, where what it rules out costs 1.4 % of the recall.
_KEPT = 0.97
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# The sentence encoder's similarity and nothing else.
_ALONE = SearchWeights(0.0, 0.0, 0.0, 0.0)


def choose_search_weights(
    config: Config, ranker: CatalogueRanker, counts: npt.NDArray[np.integer | np.floating], hold_out: HoldOut
) -> SearchWeights:
    """The weights with the highest NDCG@10: geometric mean over kinds of the mean over item languages.

    With the geometric mean, an item of a queried category, one of hundreds, counts as much as one found by title.
    Weights are not considered if the NDCG@10 of any kind of query is less than 0.97 of that of the sentence encoder's
    similarity alone.

    Args:
        config: Settings of the run.
        ranker: The trained model's for the validation part.
        counts: [N] number of training positives of each item.
        hold_out: The validation part.
    """
    fields, settings = zip(*CHOICES, strict=True)
    choices = [
        SearchWeights(**dict(zip(fields, choice, strict=True)))
        for choice in itertools.product(*(getattr(config.model.search, setting) for setting in settings))
    ]
    best, value = default_weights(config.model.search), -math.inf
    if len(choices) == 1:
        return best
    queries = _ValidationQueries(config, ranker, counts, hold_out, [_ALONE, *choices])
    if not queries.kinds:
        return best
    alone = queries.quality(_ALONE)
    for weights in choices:
        quality = queries.quality(weights)
        score = float(np.mean(np.log(np.maximum(quality.ndcg, 1e-6))))
        if score > value and np.all(quality.ndcg >= _KEPT * alone.ndcg):
            best, value = weights, score
    if value == -math.inf:
        _LOG.warning("No candidate weights of text search match the sentence encoder alone; using the defaults.")
    reached = queries.quality(best)
    _LOG.info("Text search: %s, chosen on at most %d queries of each kind.", best, queries.size)
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
    """Per kind of query, float64 [kinds]: how often the wanted item is in the top ten, and its NDCG@10."""

    recall: npt.NDArray[np.float64]
    ndcg: npt.NDArray[np.float64]


class _Queries(NamedTuple):
    """Queries of one kind: users (positions in the hold-out), wanted item rows, query texts."""

    users: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.int64]
    texts: list[str]
    translated: bool


class _Ranked(NamedTuple):
    """Queries of one kind: the language of each one's item [n], and the items before it for each choice of weights."""

    languages: npt.NDArray[np.intp]
    ranks: dict[SearchWeights, npt.NDArray[np.int64]]


class _Parts(NamedTuple):
    """The parts of all items' scores for some queries, float32 [n, N]."""

    text: _Floats
    categories: _Floats
    lexical: _Floats
    popularity: _Floats
    towers: _Floats


class _ValidationQueries:
    """Text queries generated from the catalogue and the held-out positives, to evaluate weights on.

    Args:
        config, ranker, counts, hold_out: As for `choose_search_weights`.
        choices: The weights that will be asked about.
    """

    def __init__(
        self,
        config: Config,
        ranker: CatalogueRanker,
        counts: npt.NDArray[np.integer | np.floating],
        hold_out: HoldOut,
        choices: Sequence[SearchWeights],
    ) -> None:
        model, items = ranker.model, ranker.items
        draws = np.random.default_rng(config.seed)
        features = SearchFeatures.of(model, items, counts)
        # As compared in serving.
        projection = features.principal_directions(config.model.search.dimension)
        texts = features.text @ projection
        self.size = min(config.model.search.queries, max(_FEWEST, _MOST_PAIRS // items.size))
        scale = TowerScale(TowerMoments.of(ranker.vectors))
        self._kinds: dict[str, _Ranked] = {}
        requests = hold_out.requests.and_nobody()
        at_once = max(1, _PAIRS_AT_ONCE // items.size)
        for kind, generated in self._generate(items, hold_out, draws).items():
            if not generated.texts:
                continue
            unknown = tf.zeros([len(generated.texts)], tf.int32)
            vectors = unit(
                model.candidate_tower.convert(typed_vectors(model, generated.texts, config.text), unknown).numpy()
            )
            if generated.translated:
                shortest, longest = np.log(_TRANSLATION_NOISE)
                lengths = np.exp(draws.uniform(shortest, longest, (len(vectors), 1))).astype(np.float32)
                vectors = unit(vectors + lengths * _gaussian_like(features.text, len(vectors), draws))
            # Every second user is unknown.
            rows = np.where(np.arange(len(generated.users)) % 2, generated.users, len(hold_out.requests))
            queries = ranker.query_vectors(requests.at(rows), tf.constant(vectors))
            tags = [items.catalogue.languages[row] for row in generated.wanted]
            _, languages = np.unique(tags, return_inverse=True)
            letters = [""] * len(generated.texts) if generated.translated else generated.texts
            ranks: dict[SearchWeights, list[npt.NDArray[np.int64]]] = {choice: [] for choice in choices}
            for start in range(0, len(vectors), at_once):
                block = slice(start, start + at_once)
                products = tf.matmul(queries[block], ranker.vectors, transpose_b=True)
                parts = _Parts(
                    text=((vectors[block] @ projection) @ texts.T).astype(np.float32),
                    categories=features.category_scores(vectors[block]),
                    lexical=np.square(features.lexical(tf.constant(letters[block], tf.string)).numpy()),
                    popularity=np.broadcast_to(features.popularity, products.shape),
                    towers=bounded(scale(queries[block], products)).numpy(),
                )
                barred = hold_out.seen(generated.users[block])
                for choice, found in _ranks(parts, generated.wanted[block], barred, choices).items():
                    ranks[choice].append(found)
            self._kinds[kind] = _Ranked(languages, {choice: np.concatenate(found) for choice, found in ranks.items()})

    @property
    def kinds(self) -> list[str]:
        """The available kinds of query."""
        return list(self._kinds)

    def quality(self, weights: SearchWeights) -> _Quality:
        """How well the wanted items are found, averaged over the items' languages."""
        recall, ndcg = [], []
        for part, ranks in zip(self._kinds.values(), self.ranks(weights), strict=True):
            found = ranks < _CUT_OFF
            recall.append(_mean_over_groups(found.astype(np.float64), part.languages))
            ndcg.append(_mean_over_groups(np.where(found, 1.0 / np.log2(ranks + 2.0), 0.0), part.languages))
        return _Quality(np.array(recall), np.array(ndcg))

    def ranks(self, weights: SearchWeights) -> list[npt.NDArray[np.int64]]:
        """Per kind of query, the number of items ranked before each wanted one [n]."""
        return [part.ranks[weights] for part in self._kinds.values()]

    def _generate(self, items: ItemTable, hold_out: HoldOut, draws: np.random.Generator) -> dict[str, _Queries]:
        """Kind -> queries: titles of arbitrary items, and categories of held-out positives."""
        catalogue = items.catalogue
        users, rows = hold_out.sample_positives(self.size, draws)
        # Rare items, and those without any positive, are queried by title as well.
        titled = np.flatnonzero([bool(title.strip()) for title in catalogue.titles])
        named = draws.permutation(titled)[: self.size]
        askers = draws.choice(users, len(named))
        titles = [catalogue.titles[row] for row in named]
        labels = [row[row >= 0] for row in catalogue.categories[rows]]
        labelled = np.flatnonzero([len(row) > 0 for row in labels])
        names = [items.names_of(int(draws.choice(labels[place]))) for place in labelled]
        return {
            "translated title": _Queries(askers, named, titles, True),
            "title with a typo": _Queries(askers, named, [misspell(title, draws) for title in titles], False),
            "category": _Queries(
                users[labelled], rows[labelled], [own[int(draws.integers(len(own)))] for own in names], False
            ),
        }


def _ranks(
    parts: _Parts, wanted: npt.NDArray[np.int64], barred: npt.NDArray[np.bool_], choices: Sequence[SearchWeights]
) -> dict[SearchWeights, npt.NDArray[np.int64]]:
    """The number of items before each wanted one, int64 [n], by weights.

    Args:
        parts: Of the scores of n queries.
        wanted: [n] item rows.
        barred: Bool [n, N], items that are no results; that of a wanted one is ignored.
        choices: The weights.
    """
    lines = np.arange(len(wanted))
    most = {name: max(getattr(choice, name) for choice in choices) for name, _ in CHOICES}
    described = {
        weight: names_no_item((parts.text + weight * parts.lexical).max(axis=1)).numpy()
        for weight in {choice.lexical for choice in choices if choice.categories}
    }
    ahead = _Parts(*(part - part[lines, wanted][:, np.newaxis] for part in parts))
    # No choice of weights, none of which is negative, brings the other items before the wanted one.
    reach = ahead.text + sum(most[name] * np.maximum(getattr(ahead, name), 0.0) for name in most)
    who, rows = np.nonzero((reach > 0.0) & ~barred)
    rivals = _Parts(*(part[who, rows] for part in ahead))
    found = {}
    for choice in choices:
        margin = rivals.text + choice.lexical * rivals.lexical
        if choice.categories:
            margin += choice.categories * described[choice.lexical][who] * rivals.categories
        margin += choice.popularity * rivals.popularity + choice.towers * rivals.towers
        found[choice] = np.bincount(who[margin > 0.0], minlength=len(wanted))
    return found


def _gaussian_like(vectors: _Floats, count: int, draws: np.random.Generator) -> _Floats:
    """Gaussian vectors [count, T] with the covariance of ``vectors`` [N, T], of length 1 on average."""
    mixed = draws.normal(size=(count, len(vectors))).astype(np.float32) @ vectors
    length = np.sqrt(np.mean(np.sum(np.square(mixed), axis=1)))
    return mixed / length if length > 0.0 else mixed


def misspell(text: str, draws: np.random.Generator) -> str:
    """The text with one character removed, replaced, added, or swapped with the next."""
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
