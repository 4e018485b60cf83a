"""The graph of one of several models that hold a share of the items each.

A client asks all of them three times (`serving.client.sharded`): what they know of the request, for their best
candidates, and for the final scores of those that are among the best of all. The score of an item before and after
ranking depends on the request and the item alone once the request is the same everywhere, so that what is merged is the
answer of one model over all items. What a request means does depend on all shards, in two places, which
`shard_context` answers: a history's items may be in any of them, and a text may name an item of another shard.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving import contract
from trainer.export.servable import Filters, Servable, Tensors, Understood, signature_of
from trainer.export.shares import HistoryParts, Share
from trainer.export.users import Lines, variable


class ShardServable(Servable):
    """A `Servable` over a share of the items, with the signatures by which shards answer as one.

    Args:
        arguments: Of `Servable`, for the share's n items.
        share: Which share.
        export_id: The same in all shards of an export.
        places: Int32 [n], the items' rows in the whole catalogue of N items.
        size: N.
        histories: What the share holds of known users' histories.
        options: Of `Servable`.
    """

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401
        share: Share,
        export_id: str,
        places: npt.NDArray[np.int32],
        size: int,
        histories: HistoryParts,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*arguments, **options)
        self._share = share
        self._export_id = export_id
        self._whole_candidates = min(self._wanted, size)
        # One more, for "no item".
        self._places = variable(np.concatenate([[-1], places]), tf.int32)
        self._parts = Lines(histories.items)
        self._ages = variable(np.append(histories.ages, 0), tf.int32)

    def signatures(self) -> dict[str, Any]:
        """Those for a client of all shards, and what doesn't depend on the catalogue.

        There are none that would answer from this share alone, and be taken for the answer of all.
        """
        independent = (contract.ENCODE_TEXT, contract.EMBED_ITEMS, contract.SCORE_EMBEDDINGS)
        return {name: each for name, each in super().signatures().items() if name in independent} | {
            contract.SHARD_CONTEXT: signature_of(self.shard_context, contract.SHARD_CONTEXT),
            contract.SHARD_RETRIEVE: signature_of(self.shard_retrieve, contract.SHARD_RETRIEVE),
            contract.SHARD_RANK: signature_of(self.shard_rank, contract.SHARD_RANK),
        }

    def shard_context(self, inputs: Tensors) -> Tensors:
        """What this share knows of B requests that the others may not.

        Returns:
            ``history_embeddings`` float32 [B, H, D], the vectors of the history's items, and ``stored_embeddings``
            float32 [B, L, D], those of the stored history from the newest back, with zeros for items of other shares;
            ``named`` float32 [B]; and which shard of which export this is.
        """
        bounded = self._bounded(inputs)
        given = self._item_rows.lookup(bounded["history"])
        users = self._users.index(bounded["user_id"])
        return {
            contract.ITEM_IDS: bounded["history"],
            contract.HISTORY_EMBEDDINGS: self._vectors_of(given),
            contract.STORED_EMBEDDINGS: self._stored_vectors(users),
            contract.NAMED: self._named(bounded),
        } | self._about(tf.size(users))

    def shard_retrieve(self, inputs: Tensors) -> Tensors:
        """The share's candidates of B requests: at most as many as one model over all items would rank.

        Returns:
            ``item_ids`` and ``scores`` [B, C] before ranking, best first; ``places`` int32 [B, C], the items' rows in
            the whole catalogue, by which equal scores are ordered, -1 pads; ``wanted`` int32 [B], the number of
            candidates of a model over all items.
        """
        request, filters = self._read_shared(inputs)
        wanted = tf.maximum(filters.k, self._whole_candidates)
        count = tf.minimum(tf.maximum(self._most(filters.k), self._whole_candidates), self._size)
        rows, products = self._retrieve(request, filters, count)
        rows, products = self._cut(rows, products, wanted)
        described = self._describe(rows, products)
        return {
            contract.ITEM_IDS: described[contract.ITEM_IDS],
            contract.SCORES: described[contract.SCORES],
            contract.PLACES: tf.gather(self._places, rows + 1),
            contract.WANTED: wanted,
        } | self._about(tf.size(filters.k))

    def shard_rank(self, inputs: Tensors) -> Tensors:
        """Final scores of given items of this share, with every head's prediction, languages and titles.

        Returns:
            As `recommend`, in the given order; an unknown item has the lowest finite score.
        """
        item_ids = self._bounds.ranked(self._bounds.rows(inputs[contract.ITEM_IDS]), self._whole_candidates)
        request = self._shared(self._bounded({n: inputs[n] for n in contract.QUERY_INPUTS}), inputs)
        rows = self._item_rows.lookup(item_ids)
        answer = self._rank_rows(request, rows)
        described = self._describe(rows, answer.pop(contract.SCORES))
        return answer | described | {contract.ITEM_IDS: item_ids} | self._about(tf.shape(rows)[0])

    def _read_shared(self, inputs: Tensors) -> tuple[Understood, Filters]:
        bounded = self._bounded({name: inputs[name] for name in contract.SIGNATURES[contract.RETRIEVE]})
        return self._shared(bounded, inputs), Filters(*(bounded[name] for name in Filters._fields))

    def _shared(self, bounded: Tensors, inputs: Tensors) -> Understood:
        """The requests, as all shards know them."""
        request = self._understand(bounded | {"history_embeddings": inputs[contract.HISTORY_EMBEDDINGS]})
        named = tf.gather_nd(inputs[contract.NAMED], tf.where(request.typed))
        return request._replace(named=named)

    def _vectors_of(self, rows: tf.Tensor) -> tf.Tensor:
        """Int32 [B, H] -> float32 [B, H, D], zeros for -1."""
        vectors = tf.gather(self._vectors, tf.maximum(rows, 0))
        return tf.where((rows >= 0)[..., tf.newaxis], vectors, 0.0)

    def _stored_vectors(self, users: tf.Tensor) -> tf.Tensor:
        """Int32 [B] users -> float32 [B, L, D], vectors by age."""
        places = self._parts.places(users)
        rows = tf.gather(self._parts.values, places)
        there = tf.where(rows >= 0)
        ages = tf.gather(self._ages, tf.gather_nd(places, there))
        shape = [tf.size(users), self._engine.history_length, int(self._vectors.shape[1])]
        at = tf.stack([tf.cast(there[:, 0], tf.int32), ages], axis=1)
        return tf.scatter_nd(at, tf.gather(self._vectors, tf.gather_nd(rows, there)), tf.stack(shape))

    def _named(self, bounded: Tensors) -> tf.Tensor:
        """How much each text names an item of this share, float32 [B]; the default of the input without text."""
        default = contract.SHARED_INPUTS[contract.NAMED].default
        nothing = tf.fill([tf.size(bounded["query"])], tf.constant(default, tf.float32))
        search = self._engine.text_search
        if self._text_retrieval is None or search is None or not search.reads_categories:
            return nothing
        typed = tf.strings.length(tf.strings.strip(bounded["query"])) > 0

        def best() -> tf.Tensor:
            assert self._text_retrieval is not None
            place = tf.where(typed)
            request = self._understand(self._alone(bounded))
            return tf.tensor_scatter_nd_update(nothing, place, self._text_retrieval.best(self._text_queries(request)))

        return tf.cond(tf.reduce_any(typed), best, lambda: nothing)

    @staticmethod
    def _alone(bounded: Tensors) -> Tensors:
        """A request with what decides its sentence vectors, and nothing else."""
        nobody = tf.fill([tf.size(bounded["query"])], "")
        return {
            "user_id": bounded["user_id"],
            "history": tf.zeros([tf.size(nobody), 0], tf.string),
            "query": bounded["query"],
            "language": bounded["language"],
            "country": nobody,
            "timestamp": tf.zeros([tf.size(nobody)], tf.int64),
        }

    def _about(self, batch: tf.Tensor) -> Tensors:
        """Which shard of which export answers, once for each of B requests."""
        return {
            contract.SHARD: tf.fill([batch], self._share.index),
            contract.SHARDS: tf.fill([batch], self._share.count),
            contract.EXPORT_ID: tf.fill([batch], self._export_id),
        }
