"""Text search: items are found by meaning, spelling and popularity, and re-ordered by the towers.

The towers need interactions, which are few at first; the meaning of a text is known without any. So a text query is
answered by the sentence encoder's similarity, which needs no training and works in every language, and by shared
n-grams, which find names. The towers then change an item's score by a bounded amount, given the user and the text:
this re-orders items that fit and never adds one that doesn't (hybrid retrieval by a weighted sum of scores, Bruch
et al., 2023, doi 10.1145/3596512).
"""

import itertools
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving.contract import NAMES_AN_ITEM, NAMES_NONE
from trainer.data.item_table import ItemTable
from trainer.models.recommender import Recommender
from trainer.models.settings import SearchConfig
from trainer.text.language_means import LanguageMeans
from trainer.text.lexical import GramStatistics, LexicalIndex
from trainer.text.unit_vectors import unit

_Floats = npt.NDArray[np.float32]
# Standard deviations of the towers' scores within which their influence is roughly linear.
_LINEAR_RANGE = 2.0
_BLOCK = 4_096
# Maximum size of the items x labels matrix for which the dense form is faster.
_MOST_DENSE = 1 << 20
# File with the chosen weights in a run directory.
SEARCH_RECORD = "search.json"
# Fields of `SearchWeights` and the settings with their candidates.
CHOICES: Final = (
    ("categories", "category_weights"),
    ("lexical", "lexical_weights"),
    ("popularity", "popularity_weights"),
    ("towers", "tower_weights"),
)


@dataclass(frozen=True, slots=True)
class SearchWeights:
    """Weights of the parts of text search's score; the cosine of sentence vectors has weight 1.

    Attributes:
        categories: Weight of the similarity to an item's category labels, for queries that name no item.
        lexical: Weight of the squared share of the query's n-grams in an item's text.
        popularity: Weight of an item's popularity, in standard deviations of its logarithm.
        towers: Maximum amount by which the towers change an item's score.
    """

    categories: float
    lexical: float
    popularity: float
    towers: float


def default_weights(config: SearchConfig) -> SearchWeights:
    """The first candidate of each list, for runs without a validation part."""
    return SearchWeights(**{field: getattr(config, setting)[0] for field, setting in CHOICES})


@dataclass(frozen=True, slots=True, eq=False)
class TowerMoments:
    """Moments of the candidate tower's vectors over a catalogue.

    Attributes:
        mean: Float32 [D].
        covariance: Float32 [D, D].
    """

    mean: _Floats
    covariance: _Floats

    @classmethod
    def of(cls, vectors: tf.Tensor) -> "TowerMoments":
        """Moments of vectors [N, D]."""
        values = tf.convert_to_tensor(vectors)
        mean = tf.reduce_mean(values, axis=0)
        centred = values - mean
        covariance = tf.matmul(centred, centred, transpose_a=True) / float(values.shape[0])
        return cls(mean.numpy(), covariance.numpy())


@dataclass(frozen=True, slots=True, eq=False)
class SearchStatistics:
    """What text search takes from the catalogue that a model was trained on, for later states of it.

    Attributes:
        means: What texts are centred by.
        common: Float32 [T], what the labels have in common.
        spread: Mean and standard deviation by which popularity is standardised; a deviation of 0 makes it zero.
        grams: Weights of n-grams.
        projection: Float32 [T, S], principal directions of the texts.
        towers: What the towers' scores are standardised by.
    """

    means: LanguageMeans
    common: _Floats
    spread: tuple[float, float]
    grams: GramStatistics
    projection: _Floats
    towers: TowerMoments


@dataclass(frozen=True, slots=True, eq=False)
class SearchFeatures:
    """Features of N items for text search.

    Attributes:
        text: Float32 [N, T], unit sentence vectors less the mean of the item's language; zero for a blank text.
        labels: Float32 [K, T], unit vectors of the category labels less their mean.
        categories: Int32 [N, C], each item's labels, -1 pads.
        popularity: Float32 [N], logarithm of the training positives, standardised over the items with any; zero
            for the others.
        lexical: Index of the items' texts.
        means: What the texts are centred by.
        common: Float32 [T], what the labels have in common.
        spread: Mean and standard deviation by which popularity was standardised; a deviation of 0 makes it zero.
    """

    text: _Floats
    labels: _Floats
    categories: npt.NDArray[np.int32]
    popularity: _Floats
    lexical: LexicalIndex
    means: LanguageMeans
    common: _Floats
    spread: tuple[float, float]

    @classmethod
    def of(
        cls,
        model: Recommender,
        items: ItemTable,
        counts: npt.NDArray[np.integer | np.floating],
        fitted: SearchStatistics | None = None,
    ) -> "SearchFeatures":
        """Features of a catalogue.

        Centring without scaling again adds a constant to all items of a language: within one language the order is that
        of the plain cosine, and across languages no item has an advantage for its language alone.

        Args:
            model: The model, for its encoder's trained part and its language conversion.
            items: The catalogue, N items.
            counts: [N] training positives.
            fitted: Statistics of the catalogue that the model was trained on; None: it is this one.
        """
        catalogue, tower = items.catalogue, model.candidate_tower
        # The labels' vectors are the pretrained encoder's: queries of a tuned encoder can't be compared with them.
        comparable = tower.encoder is None and tower.conversion is None
        text = _sentence_vectors(model, items)
        means = LanguageMeans.of(text, catalogue.languages) if fitted is None else fitted.means
        written = np.array([bool(text.strip()) for text in catalogue.texts])[:, np.newaxis]
        for start in range(0, items.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            text[block] = means.centred(text[block], catalogue.languages[block]) * written[block]
        names = _label_means(items, text.shape[1]) if comparable else np.zeros((0, text.shape[1]), np.float32)
        if fitted is not None:
            common = fitted.common
        else:
            common = names.mean(axis=0) if len(names) else np.zeros(text.shape[1], np.float32)
        spread = spread_of_popularity(counts) if fitted is None else fitted.spread
        return cls(
            text=text,
            labels=unit(names - common),
            categories=catalogue.categories if comparable else np.full_like(catalogue.categories, -1),
            popularity=standard_popularity(counts, spread),
            lexical=LexicalIndex(catalogue.texts, None if fitted is None else fitted.grams),
            means=means,
            common=common,
            spread=spread,
        )

    def principal_directions(self, dimension: int) -> _Floats:
        """Projection float32 [T, S] of texts onto their first ``dimension`` principal directions.

        The directions are about the origin (uncentred), which preserves dot products.
        """
        values, directions = np.linalg.eigh((self.text.T @ self.text).astype(np.float64))
        return directions[:, np.argsort(-values, kind="stable")[:dimension]].astype(np.float32)

    def category_scores(self, sentences: _Floats) -> _Floats:
        """Similarity of unit sentence vectors [n, T] to the items' categories, float32 [n, N]: see `TextSearch`."""
        likely = np.maximum(sentences @ self.labels.T, 0.0)
        padded = np.concatenate([likely, np.zeros((len(likely), 1), np.float32)], axis=1)
        total = np.zeros((len(sentences), len(self.text)), np.float32)
        for column in self.categories.T:
            total += padded[:, column]
        return total * label_norm(self.categories)


class TextQueries(NamedTuple):
    """T text queries.

    Attributes:
        vectors: Float32 [T, S], sentence vectors in the items' principal directions.
        labels: Float32 [T, K + 1], positive part of the similarity to each category label, then 0.
        texts: String [T].
        named: Float32 [T], how much they name an item beyond this catalogue (`TextSearch.best`); None: there is none.
    """

    vectors: tf.Tensor
    labels: tf.Tensor
    texts: tf.Tensor
    named: tf.Tensor | None = None

    def at(self, place: tf.Tensor) -> "TextQueries":
        """The query at one place, as a batch of one."""
        return TextQueries(*(None if part is None else part[place : place + 1] for part in self))

    def best(self, own: tf.Tensor) -> tf.Tensor:
        """The larger of ``named`` and what was found in the catalogue, both float32 [T]."""
        return own if self.named is None else tf.maximum(own, self.named)


class TextSearch(tf.Module):
    """Scores items for text queries, and re-orders those that fit by the towers.

    An item's fit is the sum of

    * the cosine of the sentence vectors, centred by language,
    * ``lexical`` times the squared share of the query's n-grams in its text,
    * ``popularity`` times its standardised popularity, and
    * ``categories`` times the sum of its labels' positive similarities to the query, over the square root of their
      number. A query that is close to an item, in meaning or spelling, names it and doesn't describe a category: this
      part fades out as the first two together reach 0.45 for the best item.

    Args:
        features: Features of N items.
        weights: Weights of the parts.
        dimension: Number of principal directions of the sentence vectors to keep.
        tower_vectors: Float32 [N, D], the candidate tower's vectors.
        fitted: Statistics of the catalogue that the model was trained on, as for the features; None: it is this one.

    Attributes:
        statistics: Those that are used.
    """

    def __init__(
        self,
        features: SearchFeatures,
        weights: SearchWeights,
        dimension: int,
        tower_vectors: tf.Tensor,
        fitted: SearchStatistics | None = None,
    ) -> None:
        super().__init__(name="text_search")
        self.weights = weights
        self.size = len(features.text)
        self.statistics = fitted or SearchStatistics(
            means=features.means,
            common=features.common,
            spread=features.spread,
            grams=features.lexical.statistics,
            projection=features.principal_directions(dimension),
            towers=TowerMoments.of(tower_vectors),
        )
        projection = self.statistics.projection
        vectors = features.text @ projection
        with tf.device("CPU:0"):
            self.vectors = tf.Variable(vectors, trainable=False, name="vectors")
            self.popularity = tf.Variable(weights.popularity * features.popularity, trainable=False, name="popularity")
            # Into the principal directions, of every label, and of no label: read by one product.
            nothing = np.zeros((len(projection), 1), np.float32)
            read = np.concatenate([projection, features.labels.T, nothing], axis=1)
            self._read = tf.Variable(read, trainable=False, name="read")
            # -1, "no label", becomes K.
            rows = np.where(features.categories >= 0, features.categories, len(features.labels))
            self._categories = tf.Variable(rows, trainable=False, name="categories")
            norm = weights.categories * label_norm(features.categories)
            self._label_norm = tf.Variable(norm, trainable=False, name="label_norm")
            self._having = _having(rows, norm, len(features.labels) + 1)
        self._lexical = features.lexical if weights.lexical else None
        self.reads_categories = bool(weights.categories and len(features.labels))
        self._scale = TowerScale(self.statistics.towers) if weights.towers else None

    def read(self, sentences: tf.Tensor, texts: tf.Tensor) -> TextQueries:
        """Text queries, from sentence vectors float32 [T, E] and texts string [T]."""
        sentences = tf.math.l2_normalize(sentences, axis=1)
        vectors, labels = tf.split(tf.matmul(sentences, self._read), [int(self.vectors.shape[1]), -1], axis=1)
        return TextQueries(vectors, tf.nn.relu(labels), texts)

    def index_query(self, queries: TextQueries) -> tf.Tensor:
        """Query vectors for searching `index_vectors`, float32 [T, S + 1]."""
        return tf.concat([queries.vectors, tf.ones_like(queries.vectors[:, :1])], axis=1)

    def index_vectors(self) -> tf.Tensor:
        """Items' vectors float32 [N, S + 1], whose dot products are semantic similarity plus popularity."""
        return tf.concat([self.vectors, self.popularity[:, tf.newaxis]], axis=1)

    def scores(self, queries: TextQueries) -> tf.Tensor:
        """How well every item fits, float32 [T, N]."""
        named = self._named(queries)
        fit = named + self.popularity
        if self.reads_categories:
            best = queries.best(tf.reduce_max(named, axis=1))[:, tf.newaxis]
            fit += names_no_item(best) * self.described(queries)
        return fit

    def best(self, queries: TextQueries) -> tf.Tensor:
        """How much each query names the item that it names best, float32 [T]."""
        return tf.reduce_max(self._named(queries), axis=1)

    def _named(self, queries: TextQueries) -> tf.Tensor:
        return tf.matmul(queries.vectors, self.vectors, transpose_b=True) + self.lexical(queries.texts)

    def described(self, queries: TextQueries) -> tf.Tensor:
        """Weighted similarity of every item's categories to the queries, float32 [T, N]."""
        return self._having(queries.labels)

    def named(self, queries: TextQueries, rows: tf.Tensor, lexical: tf.Tensor) -> tf.Tensor:
        """How closely the queries match items in meaning and spelling; arguments and result as in `scores_of`."""
        return tf.linalg.matvec(tf.gather(self.vectors, rows), queries.vectors) + lexical

    def lexical(self, texts: tf.Tensor) -> tf.Tensor:
        """The spelling part of the scores, float32 [T, N]; the scalar 0 if its weight is 0."""
        if self._lexical is None:
            return tf.constant(0.0)
        return self.weights.lexical * tf.square(self._lexical(texts))

    def new_items(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The spelling of further items: see `trainer.text.lexical.LexicalIndex.new_items`; nothing where unused."""
        return _no_grams(texts) if self._lexical is None else self._lexical.new_items(texts)

    def lexical_weights(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The n-grams of queries and their weights: see `trainer.text.lexical.LexicalIndex.weights`."""
        return _no_grams(texts) if self._lexical is None else self._lexical.weights(texts)

    def grams(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Input of `lexical_of_one` for each of the texts [T]: the buckets of its n-grams, int32 [T, None]."""
        if self._lexical is None:
            return tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros([tf.size(texts)], tf.int32))
        found = self._lexical.grams(texts)
        counts = tf.math.bincount(found.lines, minlength=tf.size(texts), maxlength=tf.size(texts))
        return tf.RaggedTensor.from_row_lengths(found.buckets, counts, validate=False)

    def lexical_of_one(self, buckets: tf.Tensor) -> tf.Tensor:
        """The spelling part of one query's scores, float32 [N]."""
        if self._lexical is None:
            return tf.zeros([self.size])
        return self.weights.lexical * tf.square(self._lexical.scores_of_one(buckets))

    def scores_of(self, queries: TextQueries, rows: tf.Tensor, lexical: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
        """How well the given items fit.

        Args:
            queries: T queries.
            rows: Int32 [T, C] item rows.
            lexical: Float32 [T, C], their values of `lexical`.
            best: Float32 [T], the largest `named` of the whole catalogue.

        Returns:
            Float32 [T, C], equal to those of `scores` for these items.
        """
        fit = self.named(queries, rows, lexical) + tf.gather(self.popularity, rows)
        if self.reads_categories:
            labels = tf.gather(queries.labels, tf.gather(self._categories, rows), batch_dims=1)
            similar = tf.reduce_sum(labels, axis=2) * tf.gather(self._label_norm, rows)
            fit += names_no_item(best)[:, tf.newaxis] * similar
        return fit

    @property
    def largest_influence(self) -> float:
        """Most that `reorder` adds to an item's fit."""
        return 0.0 if self._scale is None else self.weights.towers

    def reorder(self, fit: tf.Tensor, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Final scores: the fit plus the bounded influence of the towers.

        Args:
            fit: Float32 [B, C].
            queries: Float32 [B, D], the query tower's vectors of the complete requests.
            candidates: Float32 [B, C, D], the candidate tower's vectors.

        Returns:
            Float32 [B, C], within ``weights.towers`` of ``fit``.
        """
        if self._scale is None:
            return fit
        return fit + self.weights.towers * bounded(self._scale(queries, tf.linalg.matvec(candidates, queries)))


class _DenseLabels(tf.Module):
    """Weights of K labels for N items as a matrix [K, N]."""

    def __init__(self, rows: npt.NDArray[np.int32], norm: _Floats, labels: int) -> None:
        super().__init__(name="dense_labels")
        weights = np.zeros((labels, len(rows)), np.float32)
        for column in rows.T:
            weights[column, np.arange(len(rows))] += norm
        self._weights = tf.Variable(weights, trainable=False, name="weights")

    def __call__(self, similar: tf.Tensor) -> tf.Tensor:
        """Similarity to labels [T, K] -> to items [T, N]."""
        return tf.matmul(similar, self._weights)


class _SparseLabels(tf.Module):
    """Weights of labels for items in sparse form, if a matrix would be large."""

    def __init__(self, rows: npt.NDArray[np.int32], norm: _Floats, labels: int) -> None:
        super().__init__(name="sparse_labels")
        who, place = np.nonzero(rows < labels - 1)
        pairs = np.stack([who, rows[who, place]], axis=1).astype(np.int64)
        self._pairs = tf.Variable(pairs, trainable=False, name="pairs")
        self._weights = tf.Variable(norm[who], trainable=False, name="weights")
        self._shape = [len(rows), labels]

    def __call__(self, similar: tf.Tensor) -> tf.Tensor:
        """Similarity to labels [T, K] -> to items [T, N]."""
        having = tf.SparseTensor(self._pairs, self._weights, tf.constant(self._shape, tf.int64))
        return tf.transpose(tf.sparse.sparse_dense_matmul(having, similar, adjoint_b=True))


def _having(rows: npt.NDArray[np.int32], norm: _Floats, labels: int) -> _DenseLabels | _SparseLabels:
    """Creates the function that sums the similarities of each item's labels.

    Args:
        rows: [N, C] labels; ``labels`` means none and has similarity 0.
        norm: [N], factor of each item's sum.
        labels: K, number of labels.
    """
    make = _DenseLabels if labels * len(rows) <= _MOST_DENSE else _SparseLabels
    return make(rows, norm, labels)


class TowerScale(tf.Module):
    """Dot products of the towers' vectors in standard deviations over the whole catalogue.

    Mean and deviation of a query's dot products are derived from mean and covariance of the items' vectors, without
    computing the products.

    Args:
        moments: Of the vectors of all items.
    """

    def __init__(self, moments: TowerMoments) -> None:
        super().__init__(name="tower_scale")
        with tf.device("CPU:0"):
            self._mean = tf.Variable(moments.mean, trainable=False, name="mean")
            self._covariance = tf.Variable(moments.covariance, trainable=False, name="covariance")

    def __call__(self, queries: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        """Queries [B, D] and dot products [B, C] of them -> [B, C]; zero if all items have the same product."""
        mean = tf.linalg.matvec(queries, self._mean)[:, tf.newaxis]
        variance = tf.reduce_sum(tf.matmul(queries, self._covariance) * queries, axis=1, keepdims=True)
        return tf.math.divide_no_nan(products - mean, tf.sqrt(tf.maximum(variance, 0.0)))


def _no_grams(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Buckets int32 [n, 0] and their numbers float32 [n, 0]."""
    return tf.zeros([tf.size(texts), 0], tf.int32), tf.zeros([tf.size(texts), 0])


def bounded(deviations: tf.Tensor) -> tf.Tensor:
    """Standard deviations squashed to (-1, 1)."""
    return tf.tanh(deviations / _LINEAR_RANGE)


def names_no_item(best: tf.Tensor) -> tf.Tensor:
    """Degree, 0 to 1, to which queries with this best match, float32 [...], are descriptions and not names."""
    return tf.clip_by_value((NAMES_AN_ITEM - best) / (NAMES_AN_ITEM - NAMES_NONE), 0.0, 1.0)


def label_norm(categories: npt.NDArray[np.int32]) -> _Floats:
    """1 / sqrt(number of labels) of each item, float32 [N]; zero without labels."""
    count = (categories >= 0).sum(axis=1)
    return np.where(count > 0, 1.0 / np.sqrt(np.maximum(count, 1)), 0.0).astype(np.float32)


def spread_of_popularity(counts: npt.NDArray[np.integer | np.floating]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithms of those counts [N] that are not zero; zeros if all are."""
    logarithm = np.log(counts[counts > 0])
    return (float(logarithm.mean()), float(logarithm.std())) if len(logarithm) else (0.0, 0.0)


def standard_popularity(
    counts: npt.NDArray[np.integer | np.floating], spread: tuple[float, float] | None = None
) -> _Floats:
    """Counts [N] -> standardised logarithms of those that are not zero, float32 [N]; zero for the others.

    Args:
        counts: Training positives.
        spread: Mean and standard deviation; None: those of the counts.
    """
    mean, deviation = spread or spread_of_popularity(counts)
    if not deviation > 0.0:
        return np.zeros(len(counts), np.float32)
    return np.where(counts > 0, (np.log(np.maximum(counts, 1)) - mean) / deviation, 0.0).astype(np.float32)


def _sentence_vectors(model: Recommender, items: ItemTable) -> _Floats:
    """Float32 [N, T]: unit sentence vectors of the items' texts, as the model reads and converts them."""
    tower = model.candidate_tower
    found: _Floats | None = None
    for start in range(0, items.size, _BLOCK):
        end = min(start + _BLOCK, items.size)
        texts, languages = items.text(tf.range(start, end))
        vectors = unit(tower.convert(tower.text_vectors(texts), languages).numpy())
        if found is None:  # filled, since parts and their concatenation would be in memory at once
            found = np.empty((items.size, vectors.shape[1]), np.float32)
        found[start:end] = vectors
    assert found is not None, "a catalogue has items"
    return found


def _label_means(items: ItemTable, width: int) -> _Floats:
    """Float32 [K, T]: unit vectors of the labels; a label is the mean of its names in all languages."""
    names, splits = items.names
    if len(splits) < 2:
        return np.zeros((0, width), np.float32)
    return unit(np.stack([unit(names[first:end]).mean(axis=0) for first, end in itertools.pairwise(splits)]))
