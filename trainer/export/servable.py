"""The exported graph: text, towers, index, filters and ranking behind its signatures."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving import contract
from trainer.data.catalogue import Catalogue
from trainer.data.query_features import QUERY_FEATURES, QueryFeature
from trainer.data.requests import RequestFeatures
from trainer.data.vocabulary import Vocabulary
from trainer.export.bounds import Bounds, encode_in_parts
from trainer.export.filters import best_rows, category_postings, contains, language_postings, string_table
from trainer.export.fresh_items import FreshItems
from trainer.export.index import Index
from trainer.export.text_search import TextRetrieval
from trainer.export.users import UserTable, variable
from trainer.models.calibration import Calibration
from trainer.models.engine import Engine, membership
from trainer.models.recommender import Recommender
from trainer.models.text_search import TextQueries, TextSearch
from trainer.text.preprocessing import Preprocessor

Tensors = dict[str, tf.Tensor]
# Rows int32 and scores float32, of the same shape.
_Found = tuple[tf.Tensor, tf.Tensor]
_BOUNDED = ("exclude", "languages", "categories")


class Filters(NamedTuple):
    """The inputs `serving.contract.FILTER_INPUTS`, as received or after applying the limits."""

    k: tf.Tensor
    exclude: tf.Tensor
    languages: tf.Tensor
    categories: tf.Tensor
    include_seen: tf.Tensor

    def at(self, lines: tf.Tensor) -> "Filters":
        """The inputs of some rows of the batch."""
        return Filters(*(tf.gather(value, lines) for value in self))


class Understood(NamedTuple):
    """B requests after lookups, encoding and the query tower.

    Attributes:
        queries: Float32 [B, D], query vectors.
        language: String [B], the users' languages as received.
        users: Int32 [B] vocabulary indices, 0 unknown.
        given: Int32 [B, H] rows of the histories in the requests; -1: no such item.
        newest: Int32 [B, L], rows of the histories that count, newest first; -1 pads, N and above are not served here.
        typed: Bool [B], whether there is text.
        sentences: Float32 [T, S], sentence vectors of the T requests with text.
        texts: String [T], their texts.
        nothing: Bool [B]: neither user nor history nor text is known.
        named: Float32 [T], how much the texts name an item that is not served here; None: all are.
    """

    queries: tf.Tensor
    language: tf.Tensor
    users: tf.Tensor
    given: tf.Tensor
    newest: tf.Tensor
    typed: tf.Tensor
    sentences: tf.Tensor
    texts: tf.Tensor
    nothing: tf.Tensor
    named: tf.Tensor | None = None


class Servable(tf.Module):
    """One SavedModel for complete requests.

    Args:
        model: Trained towers and ranking model.
        catalogue: The N items that are served.
        vocabulary: The training part's vocabulary.
        vectors: Float32 [N, D], the items' vectors.
        index: Searches them.
        encoder: Text encoder for queries, string [n] -> float32 [n, T].
        preprocessor: Preprocesses queries; None: no preprocessing.
        users: Histories of known users.
        popularity: Float32 [P, N], share of the audience of each language that interacted with each
            item; row 0 is all users.
        audiences: The P - 1 languages of the other rows.
        weights: Blend of the final score.
        candidates: Number of items that retrieval passes to ranking.
        exact_limit: Filters that leave at most this many items are answered exactly.
        item_rows: Item id -> row; -1 for unknown ids.
        bounds: Limits of a request.
        text_search: Scores for text queries, and their retrieval; None leaves text queries to the towers.
        fresh_items: Signatures by which a service adds items; None: none.
        calibrations: Head -> calibration of its predicted probability. It doesn't affect the ranking:
            the blend's weights were chosen for raw outputs.
        known: Int32 [N], the items' vocabulary indices, 0 unknown; None: no signal of ranking needs them.
    """

    def __init__(
        self,
        model: Recommender,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        vectors: tf.Variable,
        index: Index,
        encoder: tf.keras.layers.Layer,
        users: UserTable,
        popularity: npt.NDArray[np.float32],
        audiences: list[str],
        weights: Mapping[str, float],
        *,
        candidates: int,
        exact_limit: int,
        item_rows: tf.lookup.StaticHashTable,
        bounds: Bounds,
        preprocessor: Preprocessor | None = None,
        text_search: tuple[TextSearch, TextRetrieval] | None = None,
        fresh_items: FreshItems | None = None,
        calibrations: Mapping[str, Calibration] | None = None,
        known: npt.NDArray[np.int32] | None = None,
    ) -> None:
        super().__init__(name="servable")
        self._size = len(catalogue)
        self._wanted = candidates
        self._candidates = min(candidates, self._size)
        self._exact_limit = exact_limit
        self._calibrations = dict(calibrations or {})
        ids = None if known is None else variable(known, tf.int32)
        self._engine = Engine(model, weights, None if text_search is None else text_search[0], ids=ids)
        self._bounds = bounds
        self._vectors = vectors
        self._index = index
        self._encoder = encoder
        self._text_width = int(encoder(tf.constant([""])).shape[1])
        self._preprocessor = preprocessor
        self._text_retrieval = None if text_search is None else text_search[1]
        self._users = users
        self._fresh_items = fresh_items
        self._item_rows = item_rows
        self._feature_values = {
            feature.name: (_language_table if feature.is_language else string_table)(
                vocabulary.query_values[feature.name]
            )
            for feature in QUERY_FEATURES
        }
        self._audiences = _language_table(audiences)
        self._popularity = variable(popularity, tf.float32)
        # One additional row, for "no item" (-1 + 1 = 0).
        self._item_ids = variable(["", *catalogue.item_ids], tf.string)
        self._titles = variable(["", *catalogue.titles], tf.string)
        self._item_languages = variable(["", *catalogue.languages], tf.string)
        self._by_language = language_postings(catalogue)
        self._by_category = category_postings(catalogue)

    def signatures(self) -> dict[str, Any]:
        """Functions by signature name, to be saved.

        Every input but the items to rank and the texts to encode has a default of one row that means "absent".
        TensorFlow Serving fills it in where a request leaves the input out.
        """
        recommend = signature_of(self.recommend, contract.RECOMMEND)
        fresh = {}
        if self._fresh_items is not None:
            fresh = {
                contract.EMBED_ITEMS: signature_of(self.embed_items, contract.EMBED_ITEMS, self._fresh_items.columns),
                contract.RECOMMEND_FOR_MERGE: signature_of(self.recommend_for_merge, contract.RECOMMEND_FOR_MERGE),
                contract.SCORE_EMBEDDINGS: signature_of(self.score_embeddings, contract.SCORE_EMBEDDINGS),
            }
        return fresh | {
            contract.DEFAULT: recommend,
            contract.RECOMMEND: recommend,
            contract.RETRIEVE: signature_of(self.retrieve, contract.RETRIEVE),
            contract.RANK: signature_of(self.rank, contract.RANK),
            contract.ENCODE_TEXT: signature_of(self.encode_text, contract.ENCODE_TEXT),
        }

    def recommend(self, inputs: Tensors) -> Tensors:
        """Retrieves, filters, ranks and orders: the k best items of each request with every head's prediction."""
        return self._recommend(*self._read_filtered(inputs))[0]

    def _recommend(self, request: Understood, filters: Filters) -> tuple[Tensors, tf.Tensor]:
        """The answer of `recommend`, and the candidates' scores before ranking, float32 [B, C]."""
        most = self._most(filters.k)
        count = tf.minimum(tf.maximum(most, self._candidates), self._size)
        rows, products = self._retrieve(request, filters, count)
        vectors = tf.gather(self._vectors, tf.maximum(rows, 0))
        scores, outputs = self._rank(request, rows, vectors, products, lambda: products)
        scores = tf.where(request.nothing[:, tf.newaxis], products, scores)
        scores = tf.where(rows >= 0, scores, -np.inf)
        best = tf.math.top_k(scores, tf.minimum(most, count))
        rows = tf.gather(rows, best.indices, batch_dims=1)
        rows, scores = self._cut(rows, best.values, filters.k)
        predictions = self._predictions(rows, tf.gather(outputs, best.indices, batch_dims=1))
        return self._describe(rows, scores) | predictions, products

    def recommend_for_merge(self, inputs: Tensors) -> Tensors:
        """Like `recommend`, with what a service needs to add items of its own (`trainer.export.fresh_items`)."""
        assert self._fresh_items is not None
        request, filters = self._read_filtered(inputs)
        answer, products = self._recommend(request, filters)
        text = None if self._text_retrieval is None else self._text_queries(request)
        found = self._item_rows.lookup(answer[contract.ITEM_IDS])
        # An item has to become a candidate, and to come before the last item of the answer.
        last = self._last(answer[contract.SCORES], filters.k)
        least = tf.where(request.nothing, last, self._engine.least_found(last, request.typed))
        # Where all items are candidates there is room for more.
        is_all = tf.maximum(filters.k, self._wanted) > self._size
        cutoffs = tf.maximum(tf.where(is_all, contract.LOWEST_SCORE, products[:, -1]), least)
        about = self._fresh_items.requests(request.queries, ~request.nothing, cutoffs, request.typed, text)
        return answer | {contract.EMBEDDINGS: self._fresh_items.places(found)} | about

    def embed_items(self, inputs: Tensors) -> Tensors:
        """Vectors of items that need not be in the index."""
        assert self._fresh_items is not None
        inputs["item_id"] = self._bounds.rows(inputs["item_id"])
        with tf.control_dependencies([_same_batch(inputs)]):
            return self._fresh_items.embed(inputs | {"title": tf.identity(inputs["title"])})

    def score_embeddings(self, inputs: Tensors) -> Tensors:
        """Final scores of items by their vectors, as `recommend` gives them."""
        queries, vectors = inputs["query_embeddings"], inputs["embeddings"]
        width = int(self._vectors.shape[1])
        queries, vectors = tf.ensure_shape(queries, [None, width]), tf.ensure_shape(vectors, [None, None, width])
        outputs = self._engine.outputs(queries, vectors)
        products = tf.linalg.matvec(vectors, queries)
        scores = self._engine.scores(self._engine.logits(products), outputs)
        scores = self._engine.reorder_found_by_text(scores, inputs["typed"], lambda: inputs["fits"], queries, vectors)
        return {contract.SCORES: scores} | self._engine.predictions(outputs, self._calibrations)

    def retrieve(self, inputs: Tensors) -> Tensors:
        """The k nearest allowed items of each request, by dot product, without ranking."""
        request, filters = self._read_filtered(inputs)
        rows, products = self._retrieve(request, filters, tf.minimum(self._most(filters.k), self._size))
        return self._describe(*self._cut(rows, products, filters.k))

    def rank(self, inputs: Tensors) -> Tensors:
        """Scores the given items, in the given order; an unknown item has the lowest finite score."""
        item_ids = self._bounds.ranked(self._bounds.rows(inputs[contract.ITEM_IDS]))
        request = self._understand(self._bounded({name: inputs[name] for name in contract.QUERY_INPUTS}))
        return {contract.ITEM_IDS: item_ids} | self._rank_rows(request, self._item_rows.lookup(item_ids))

    def _rank_rows(self, request: Understood, rows: tf.Tensor) -> Tensors:
        """Final scores of items in int32 ``rows`` [B, C], -1 unknown, and every head's prediction."""
        vectors = tf.gather(self._vectors, tf.maximum(rows, 0))
        products = tf.linalg.matvec(vectors, request.queries)
        scores, outputs = self._rank(request, rows, vectors, products, lambda: self._fit_of(request, rows))
        popular = tf.gather(self._shares(request.language), tf.maximum(rows, 0), batch_dims=1)
        scores = tf.where(request.nothing[:, tf.newaxis], popular, scores)
        return {contract.SCORES: tf.where(rows >= 0, scores, contract.LOWEST_SCORE)} | self._predictions(rows, outputs)

    def encode_text(self, inputs: Tensors) -> Tensors:
        """The sentence encoder's vectors."""
        text = self._bounds.texts(inputs["text"])
        return {contract.EMBEDDINGS: self._encode(text, tf.zeros_like(text))}

    def _encode(self, texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        """String [n] texts, within their limits, and languages -> float32 [n, T]."""

        def encode(part: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
            return self._encoder(part if self._preprocessor is None else self._preprocessor(part, tags))

        return encode_in_parts(encode, self._text_width, texts, languages)

    def _read_filtered(self, inputs: Tensors) -> tuple[Understood, Filters]:
        """Reads the inputs of `recommend` and `retrieve`: the requests, and the filters within their limits."""
        bounded = self._bounded(inputs)
        return self._understand(bounded), Filters(*(bounded[name] for name in Filters._fields))

    def _bounded(self, inputs: Tensors) -> Tensors:
        """Applies the limits to a batch's inputs, and checks that all have the same number of rows."""
        lists = {name: inputs[name] for name in _BOUNDED if name in inputs}
        text, history, lists = self._bounds.request(inputs["query"], inputs["history"], lists)
        inputs = inputs | lists | {"query": text, "history": history}
        # Checks the rows of one input, then that the others have as many.
        inputs["user_id"] = self._bounds.rows(inputs["user_id"])
        with tf.control_dependencies([_same_batch(inputs)]):
            # Everything that would fail on missing rows depends on these.
            return inputs | {name: tf.identity(inputs[name]) for name in ("user_id", "query", "language")}

    def _understand(self, inputs: Tensors) -> Understood:
        users = self._users.index(inputs["user_id"])
        given = self._item_rows.lookup(inputs["history"])
        stored = self._users.newest(users, self._engine.history_length)
        # A history in the request replaces the user's stored one. Most requests have none, and a short run's
        # time depends on the number of operations; so there are branches here and below.
        fresh = inputs.get("history_embeddings")
        places = given if fresh is None else self._with_fresh(given, fresh)
        newest = tf.cond(tf.shape(places)[1] > 0, lambda: _request_or_stored_history(places, stored), lambda: stored)
        vectors, positions = (self._vectors, None) if fresh is None else self._history_vectors(newest, fresh)
        typed = tf.strings.length(tf.strings.strip(inputs["query"])) > 0
        features = {
            feature.name: self._users.own_where_absent(
                feature.name, _lookup(feature, self._feature_values[feature.name], inputs[feature.name]) + 1, users
            )
            for feature in QUERY_FEATURES
        }
        # Only requests with text are encoded.
        place = tf.where(typed)
        texts, tags = tf.gather_nd(inputs["query"], place), tf.gather_nd(inputs["language"], place)
        sentences = self._encode(texts, tags)
        sentences = self._engine.sentences(sentences, tf.gather_nd(features["language"], place))
        request = RequestFeatures(user=users, features=features, history=newest, timestamp=inputs["timestamp"])
        return Understood(
            queries=self._engine.queries(request, vectors, typed, sentences, positions),
            language=inputs["language"],
            users=users,
            given=given,
            newest=newest,
            typed=typed,
            sentences=sentences,
            texts=texts,
            nothing=(users == 0) & ~tf.reduce_any(newest >= 0, axis=1) & ~typed,
        )

    def _with_fresh(self, given: tf.Tensor, fresh: tf.Tensor) -> tf.Tensor:
        """Rows of the history's items, and from N on the places in ``fresh`` of those that have a vector there.

        Args:
            given: Int32 [B, H] rows, -1 unknown.
            fresh: Float32 [B, H, D] vectors, or [B, 0, D]; zeros: none.
        """
        batch, width, given_width = tf.shape(given)[0], tf.shape(fresh)[1], tf.shape(given)[1]
        message = "Input history_embeddings must have a vector for each entry of history, or none, and history at most"
        check = tf.raw_ops.Assert(
            condition=(width == 0) | (width == given_width), data=[message, self._bounds.history, width, given_width]
        )
        with tf.control_dependencies([check]):
            there = tf.reduce_any(fresh != 0.0, axis=2)
        there = tf.concat([there, tf.zeros([batch, given_width - width], tf.bool)], axis=1)
        places = self._size + tf.reshape(tf.range(batch * given_width), [batch, given_width])
        return tf.where(there, places, given)

    def _history_vectors(self, newest: tf.Tensor, fresh: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The vectors of histories' items, float32 [B * L, D], and each item's place there, int32 [B, L].

        Args:
            newest: Int32 [B, L], of `_with_fresh`, -1 pads.
            fresh: As given to it.
        """
        flat, width = tf.reshape(newest, [-1]), int(self._vectors.shape[1])
        own = tf.gather(self._vectors, tf.clip_by_value(flat, 0, self._size - 1))
        # The zeros behind are for those that have no fresh vector.
        others = tf.pad(tf.reshape(fresh, [-1, width]), [[0, 1], [0, 0]])
        is_fresh = flat >= self._size
        other = tf.gather(others, tf.where(is_fresh, flat - self._size, tf.shape(others)[0] - 1))
        vectors = tf.where(is_fresh[:, tf.newaxis], other, own)
        return vectors, tf.reshape(tf.range(tf.size(flat)), tf.shape(newest))

    def _rank(
        self,
        request: Understood,
        rows: tf.Tensor,
        vectors: tf.Tensor,
        products: tf.Tensor,
        fit: Callable[[], tf.Tensor],
    ) -> _Found:
        """Final scores [B, C] and signals of ranking [B, C, signals] of items by rows [B, C] and vectors [B, C, D]."""
        outputs = self._engine.outputs(request.queries, vectors, request.newest, rows)
        scores = self._engine.scores(self._engine.logits(products), outputs)
        return self._engine.reorder_found_by_text(scores, request.typed, fit, request.queries, vectors), outputs

    def _predictions(self, rows: tf.Tensor, outputs: tf.Tensor) -> Tensors:
        """Every head's prediction for the items in ``rows`` [B, C]; 0 for empty positions."""
        predictions = self._engine.predictions(outputs, self._calibrations)
        return {name: tf.where(rows >= 0, value, 0.0) for name, value in predictions.items()}

    def _retrieve(self, request: Understood, filters: Filters, count: tf.Tensor) -> _Found:
        """The best ``count`` allowed items: int32 rows [B, count] (-1 pads) and dot products (or popularity)."""
        users = request.users
        stored = tf.cond(
            tf.reduce_any(users > 0), lambda: self._users.seen(users), lambda: tf.zeros([tf.size(users), 0], tf.int32)
        )
        seen = tf.where(filters.include_seen[:, tf.newaxis], -1, tf.concat([request.given, stored], axis=1))
        barred = tf.concat([self._item_rows.lookup(filters.exclude), seen], axis=1)
        filtered = tf.reduce_any(tf.strings.length(filters.languages) > 0) | tf.reduce_any(
            tf.strings.length(filters.categories) > 0
        )

        def by_towers() -> _Found:
            found: _Found = tf.cond(
                filtered,
                lambda: self._search_filtered(request.queries, count, barred, filters),
                lambda: self._search(request.queries, count, filters.k, barred),
            )
            return found

        def by_text() -> _Found:
            return self._search_text(request, count, barred, filters, filtered)

        if self._text_retrieval is None:
            rows, scores = by_towers()
        else:
            rows, scores = tf.cond(
                tf.reduce_all(request.typed),
                by_text,
                lambda: tf.cond(
                    tf.reduce_any(request.typed),
                    lambda: self._with_found_by_text(request, *by_towers(), *by_text()),
                    by_towers,
                ),
            )
        found: _Found = tf.cond(
            tf.reduce_any(request.nothing),
            lambda: self._with_popular(request, rows, scores, count, barred, filters),
            lambda: (rows, scores),
        )
        return found

    def _text_queries(self, request: Understood) -> TextQueries:
        assert self._engine.text_search is not None
        return self._engine.text_search.read(request.sentences, request.texts)._replace(named=request.named)

    def _search_text(
        self, request: Understood, count: tf.Tensor, barred: tf.Tensor, filters: Filters, filtered: tf.Tensor
    ) -> _Found:
        """The T requests with text: int32 rows [T, count] of the items that fit, and their fit."""
        assert self._text_retrieval is not None
        lines = tf.where(request.typed)[:, 0]

        def allowed(places: tf.Tensor) -> tf.Tensor:
            own = tf.gather(lines, places)
            there = ~membership(tf.gather(barred, own), self._size)
            return tf.cond(filtered, lambda: there & self._allowed(filters.at(own)), lambda: there)

        return self._text_retrieval.search(self._text_queries(request), count, allowed)

    def _allowed(self, filters: Filters) -> tf.Tensor:
        """Bool [B, N], the items allowed by each row's languages and categories."""
        return self._by_language.masks(filters.languages) & self._by_category.masks(filters.categories)

    @staticmethod
    def _with_found_by_text(
        request: Understood, rows: tf.Tensor, scores: tf.Tensor, found: tf.Tensor, fit: tf.Tensor
    ) -> _Found:
        """Item rows and scores of the batch, with those of requests with text replaced."""
        places = tf.where(request.typed)
        return tf.tensor_scatter_nd_update(rows, places, found), tf.tensor_scatter_nd_update(scores, places, fit)

    def _fit_of(self, request: Understood, rows: tf.Tensor) -> tf.Tensor:
        """How well the given items fit requests with text, float32 [B, C]; 0 for other requests."""
        if self._text_retrieval is None:
            return tf.zeros_like(rows, tf.float32)
        places = tf.where(request.typed)
        asked = tf.maximum(tf.gather_nd(rows, places), 0)
        fit = self._text_retrieval.scores_of(self._text_queries(request), asked)
        return tf.scatter_nd(places, fit, tf.shape(rows, out_type=tf.int64))

    def _search(self, queries: tf.Tensor, count: tf.Tensor, k: tf.Tensor, barred: tf.Tensor) -> _Found:
        """The nearest items that aren't excluded; by exact search if the index returns too few for a request."""
        rows, scores, allowed = tf.cond(
            tf.shape(barred)[1] > 0,
            lambda: self._search_around(queries, count, barred),
            lambda: self._search_all(queries, count),
        )
        full = tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=1) >= tf.minimum(tf.minimum(k, count), allowed)
        found: _Found = tf.cond(
            tf.reduce_all(full),
            lambda: (rows, scores),
            lambda: self._search_exactly(queries, count, ~membership(barred, self._size)),
        )
        return found

    def _search_all(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rows and scores of the nearest ``count`` items, and the number of allowed items."""
        scores, rows = self._index.search(queries, count)
        return rows, scores, tf.constant(self._size)

    def _search_around(
        self, queries: tf.Tensor, count: tf.Tensor, barred: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Like `_search_all` without ``barred``: fetches as many more items as may be excluded."""
        most_barred = tf.reduce_max(tf.concat([[0], tf.reduce_sum(tf.cast(barred >= 0, tf.int32), axis=1)], axis=0))
        scores, rows = self._index.search(queries, tf.minimum(count + most_barred, self._size))
        return (*best_rows(tf.where(contains(rows, barred), -1, rows), scores, count), self._size - most_barred)

    def _search_filtered(self, queries: tf.Tensor, count: tf.Tensor, barred: tf.Tensor, filters: Filters) -> _Found:
        """Request by request: exact search over few allowed items, over-fetching and filtering for many."""

        def line(inputs: tuple[tf.Tensor, ...]) -> _Found:
            # One request's mask at a time: N flags instead of B x N.
            query, own_barred, own_languages, own_categories, wanted = inputs
            mask = self._by_language.mask(own_languages) & self._by_category.mask(own_categories)
            mask &= ~membership(own_barred[tf.newaxis], self._size)[0]
            total = tf.reduce_sum(tf.cast(mask, tf.int32))
            found: _Found = tf.cond(
                total <= self._exact_limit,
                lambda: self._exact_line(query, mask, count),
                lambda: self._over_fetch(query, mask, total, count, wanted),
            )
            return found

        rows = tf.TensorSpec([None], tf.int32)
        scores = tf.TensorSpec([None], tf.float32)
        found: _Found = tf.map_fn(
            line,
            (queries, barred, filters.languages, filters.categories, tf.minimum(filters.k, count)),
            fn_output_signature=(rows, scores),
        )
        return found

    def _exact_line(self, query: tf.Tensor, mask: tf.Tensor, count: tf.Tensor) -> _Found:
        rows = tf.cast(tf.where(mask)[:, 0], tf.int32)
        scores = tf.linalg.matvec(tf.gather(self._vectors, rows), query)
        best = tf.math.top_k(scores, tf.minimum(count, tf.size(rows)))
        missing = [[0, count - tf.size(best.indices)]]
        return (
            tf.pad(tf.gather(rows, best.indices), missing, constant_values=-1),
            tf.pad(best.values, missing, constant_values=-np.inf),
        )

    def _over_fetch(
        self, query: tf.Tensor, mask: tf.Tensor, total: tf.Tensor, count: tf.Tensor, wanted: tf.Tensor
    ) -> _Found:
        # Twice the number that would suffice if allowed items were evenly distributed over the ranking.
        share = tf.cast(self._size, tf.float32) / tf.cast(total, tf.float32)
        fetch = tf.cast(tf.minimum(2.0 * share * tf.cast(count, tf.float32), float(self._size)), tf.int32)
        scores, rows = self._index.search(query[tf.newaxis], fetch)
        kept = tf.where((rows >= 0) & tf.gather(mask, tf.maximum(rows, 0)), rows, -1)
        kept, scores = best_rows(kept, scores, count)
        found: _Found = tf.cond(
            tf.reduce_sum(tf.cast(kept >= 0, tf.int32)) >= wanted,
            lambda: (kept[0], scores[0]),
            lambda: self._exact_line(query, mask, count),
        )
        return found

    def _search_exactly(self, queries: tf.Tensor, count: tf.Tensor, allowed: tf.Tensor) -> _Found:
        scores = tf.matmul(queries, self._vectors, transpose_b=True)
        return best_rows(tf.where(allowed, tf.range(self._size)[tf.newaxis], -1), scores, count)

    def _with_popular(
        self,
        request: Understood,
        rows: tf.Tensor,
        scores: tf.Tensor,
        count: tf.Tensor,
        barred: tf.Tensor,
        filters: Filters,
    ) -> _Found:
        """Answers requests without information with the most popular items among the audience of their language."""
        places = tf.where(request.nothing)
        lines = places[:, 0]
        allowed = self._allowed(filters.at(lines)) & ~membership(tf.gather(barred, lines), self._size)
        shares = self._shares(tf.gather(request.language, lines))
        popular_rows, popular_scores = best_rows(tf.where(allowed, tf.range(self._size)[tf.newaxis], -1), shares, count)
        return (
            tf.tensor_scatter_nd_update(rows, places, popular_rows),
            tf.tensor_scatter_nd_update(scores, places, popular_scores),
        )

    def _shares(self, language: tf.Tensor) -> tf.Tensor:
        """String [B] -> float32 [B, N], each item's share of that language's audience."""
        return tf.gather(self._popularity, _lookup_language(self._audiences, language) + 1)

    def _most(self, k: tf.Tensor) -> tf.Tensor:
        """The largest k of the batch."""
        check = tf.raw_ops.Assert(condition=tf.reduce_all(k > 0), data=["k must be at least 1.", k], summarize=3)
        with tf.control_dependencies([check]):
            most = tf.minimum(tf.reduce_max(tf.concat([[0], k], axis=0)), self._size)
        return self._bounds.items(most, self._size)

    @staticmethod
    def _cut(rows: tf.Tensor, scores: tf.Tensor, k: tf.Tensor) -> _Found:
        """Clears the positions beyond each request's own k."""
        own = (tf.range(tf.shape(rows)[1])[tf.newaxis] < k[:, tf.newaxis]) & (rows >= 0)
        return tf.where(own, rows, -1), tf.where(own, scores, -np.inf)

    @staticmethod
    def _last(scores: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
        """The k-th best score of each request, float32 [B]; the lowest where there are fewer items than k."""
        there = tf.shape(scores)[1]
        place = tf.maximum(tf.minimum(k, there) - 1, 0)
        padded = tf.pad(scores, [[0, 0], [0, 1]], constant_values=contract.LOWEST_SCORE)
        return tf.where(k <= there, tf.gather(padded, place, batch_dims=1), contract.LOWEST_SCORE)

    def _describe(self, rows: tf.Tensor, scores: tf.Tensor) -> Tensors:
        places = rows + 1
        return {
            contract.ITEM_IDS: tf.gather(self._item_ids, places),
            # JSON has no infinity.
            contract.SCORES: tf.maximum(scores, contract.LOWEST_SCORE),
            contract.LANGUAGES: tf.gather(self._item_languages, places),
            contract.TITLES: tf.gather(self._titles, places),
        }


def tensor_specs(signature: str, columns: Mapping[str, int | None] | None = None) -> dict[str, tf.TensorSpec]:
    """The inputs of a signature by name, from `serving.contract`.

    Args:
        signature: Its name.
        columns: Further float inputs, and the widths of those that are vectors.
    """
    specs = {
        name: tf.TensorSpec([None] * each.rank, tf.as_dtype(each.dtype), name)
        for name, each in contract.SIGNATURES[signature].items()
    }
    for name, width in (columns or {}).items():
        specs[name] = tf.TensorSpec([None] if width is None else [None, width], tf.float32, name)
    return specs


def signature_of(
    method: Callable[[Tensors], Tensors], name: str, columns: Mapping[str, int | None] | None = None
) -> tf.types.experimental.PolymorphicFunction:
    """A method as a `tf.function`, whose inputs' defaults TensorFlow writes into the signature."""
    specs = tensor_specs(name, columns)
    defaults = {key: _default(each) for key, each in contract.SIGNATURES[name].items()}
    for key, width in (columns or {}).items():
        defaults[key] = tf.constant([np.nan], tf.float32) if width is None else tf.zeros([1, width])

    def run(*values: tf.Tensor) -> Tensors:
        return method(dict(zip(specs, values, strict=True)))

    run.__name__ = method.__name__
    # TensorFlow takes names and defaults of the inputs from here.
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=defaults[key]) for key in specs]
    )
    # No Python control flow depends on a tensor; AutoGraph would double the tracing time in a new process.
    return tf.function(run, input_signature=list(specs.values()), autograph=False)


def _default(each: contract.Input) -> object:
    """One row that means "absent", or no default."""
    dtype = tf.as_dtype(each.dtype)
    if each.default is None:
        return inspect.Parameter.empty
    if each.rank == 1:
        return tf.fill([1], tf.constant(each.default, dtype))
    return tf.zeros([1, 0] if each.rank == 2 else [1, 0, 0], dtype)


def _language_table(tags: Sequence[str]) -> tf.lookup.StaticHashTable:
    return string_table([tag.lower() for tag in tags])


def _lookup(feature: QueryFeature, table: tf.lookup.StaticHashTable, values: tf.Tensor) -> tf.Tensor:
    """Index of each value, -1 unknown."""
    return _lookup_language(table, values) if feature.is_language else table.lookup(values)


def _lookup_language(table: tf.lookup.StaticHashTable, tags: tf.Tensor) -> tf.Tensor:
    """Index of each tag, ignoring case; an unknown locale falls back to its language (``ko-KR`` to ``ko``)."""
    tags = tf.strings.lower(tags, encoding="utf-8")
    exact = table.lookup(tags)
    return tf.where(exact >= 0, exact, table.lookup(tf.strings.regex_replace(tags, "[-_].*", "")))


def _same_batch(inputs: Mapping[str, tf.Tensor]) -> tf.Operation:
    """An assertion that no input is broadcast over the batch by mistake."""
    sizes = tf.stack([tf.size(value) if value.shape.rank == 1 else tf.shape(value)[0] for value in inputs.values()])
    first = next(iter(inputs))
    remedy = f"must have as many rows as {first}. Pad it with empty strings or 0, which mean absent."
    messages = tf.constant([f"Input {name} {remedy}" for name in inputs])
    differs = sizes != sizes[0]
    return tf.raw_ops.Assert(
        condition=~tf.reduce_any(differs), data=[tf.gather(messages, tf.argmax(tf.cast(differs, tf.int32))), sizes]
    )


def _request_or_stored_history(given: tf.Tensor, stored: tf.Tensor) -> tf.Tensor:
    """Known rows of ``given`` [B, H], or ``stored`` [B, L] if there is none; newest first, padded with -1, [B, L]."""
    newest = tf.reverse(given, axis=[1])
    known = tf.ragged.boolean_mask(newest, newest >= 0)
    length = stored.shape[1]
    return tf.where(known.row_lengths()[:, tf.newaxis] > 0, known.to_tensor(-1, shape=[None, length]), stored)
