"""Inputs and outputs of the exported SavedModel's signatures: names, types and meanings, without TensorFlow.

The exporter's signatures, the inputs of warm-up requests and of the client, and the table in docs/model.md are derived
from it (``python -m serving.contract`` prints the table).
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

DType = Literal["string", "int32", "int64", "bool", "float32"]
Value = str | int | float | bool

DEFAULT: Final = "serving_default"
RECOMMEND: Final = "recommend"
RETRIEVE: Final = "retrieve"
RANK: Final = "rank"
ENCODE_TEXT: Final = "encode_text"
EMBED_ITEMS: Final = "embed_items"
RECOMMEND_FOR_MERGE: Final = "recommend_for_merge"
SCORE_EMBEDDINGS: Final = "score_embeddings"
SHARD_CONTEXT: Final = "shard_context"
SHARD_RETRIEVE: Final = "shard_retrieve"
SHARD_RANK: Final = "shard_rank"


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a signature; its first dimension is the batch.

    Attributes:
        dtype: Type of its elements.
        rank: 1: one value per request, [B]; 2: one list per request, [B, *], padded with empty strings; 3: one list of
            vectors per request, [B, *, *].
        meaning: Description, a sentence fragment.
        default: Value if a request leaves it out (for lists, the padding of an empty one); None: it is required.
        newest_last: Whether a list ends with the newest item, so that its padding comes first.
        minimum: Smallest allowed value of a number; None: any value of its type.
        is_time: Whether it is in unix seconds, for which a client may accept a ``datetime``.
    """

    dtype: DType
    rank: Literal[1, 2, 3]
    meaning: str
    default: Value | None = None
    newest_last: bool = False
    minimum: int | None = None
    is_time: bool = False

    @property
    def shape(self) -> str:
        """Its shape, as written in documentation."""
        return "[B" + ", *" * (self.rank - 1) + "]"


QUERY_INPUTS: Final[Mapping[str, Input]] = {
    "user_id": Input("string", 1, "id of a user, known to the model or not", ""),
    "history": Input("string", 2, "ids of the items that the user has seen, newest last", "", newest_last=True),
    "query": Input("string", 1, "free text in any language", ""),
    "language": Input("string", 1, "the user's language, BCP 47", ""),
    "country": Input("string", 1, "the user's country", ""),
    "timestamp": Input("int64", 1, "time of the request, unix seconds", 0, is_time=True),
}
"""The user, the context and the time: inputs of `recommend`, `retrieve` and `rank`."""

FILTER_INPUTS: Final[Mapping[str, Input]] = {
    "k": Input("int32", 1, "number of items to return, at least 1", 10, minimum=1),
    "exclude": Input("string", 2, "ids of items to leave out", ""),
    "languages": Input("string", 2, "allowed languages of items; none: all", ""),
    "categories": Input("string", 2, "categories of which an item needs at least one; none: any", ""),
    "include_seen": Input("bool", 1, "whether to include items that the user has seen", False),
}
"""Filters and the number of items: additional inputs of `recommend` and `retrieve`."""

RANK_INPUTS: Final[Mapping[str, Input]] = {"item_ids": Input("string", 2, "the items to score")}
ENCODE_TEXT_INPUTS: Final[Mapping[str, Input]] = {"text": Input("string", 1, "texts in any language")}

MERGE_INPUTS: Final[Mapping[str, Input]] = {
    "history_embeddings": Input("float32", 3, "vectors of the history's items that are not in the index, 0: none", 0.0)
}
"""Further inputs of `recommend_for_merge`: for each entry of `history` a vector, of `embed_items`, or zeros."""

ITEM_INPUTS: Final[Mapping[str, Input]] = {
    "item_id": Input("string", 1, "its id, which the model may know"),
    "title": Input("string", 1, "its title", ""),
    "description": Input("string", 1, "its description", ""),
    "language": Input("string", 1, "its language, BCP 47", ""),
    "categories": Input("string", 2, "its category labels, each once", ""),
}
"""Inputs of `embed_items`; a model has more for its numeric and embedding columns, named by `column_input`."""

SCORE_INPUTS: Final[Mapping[str, Input]] = {
    "query_embeddings": Input("float32", 2, "query vectors of `recommend_for_merge`"),
    "embeddings": Input("float32", 3, "items' vectors of `embed_items`"),
    "fits": Input("float32", 2, "how well the items fit the text", 0.0),
    "typed": Input("bool", 1, "whether there is text", False),
}
"""Inputs of `score_embeddings`."""

SHARD_CONTEXT_INPUTS: Final[Mapping[str, Input]] = {
    name: QUERY_INPUTS[name] for name in ("user_id", "history", "query", "language")
}
"""Inputs of `shard_context`: what other shards may know more about."""

SHARED_INPUTS: Final[Mapping[str, Input]] = {
    "history_embeddings": Input("float32", 3, "vectors of the history's items, added up over all shards", 0.0),
    "named": Input("float32", 1, "how much the text names the item that it names best in any shard", -1.0e9),
}
"""Further inputs of `shard_retrieve` and `shard_rank`: what the shards' answers to `shard_context` come to."""

SIGNATURES: Final[Mapping[str, Mapping[str, Input]]] = {
    DEFAULT: {**QUERY_INPUTS, **FILTER_INPUTS},
    RECOMMEND: {**QUERY_INPUTS, **FILTER_INPUTS},
    RETRIEVE: {**QUERY_INPUTS, **FILTER_INPUTS},
    RANK: {**RANK_INPUTS, **QUERY_INPUTS},
    ENCODE_TEXT: ENCODE_TEXT_INPUTS,
    EMBED_ITEMS: ITEM_INPUTS,
    RECOMMEND_FOR_MERGE: {**QUERY_INPUTS, **FILTER_INPUTS, **MERGE_INPUTS},
    SCORE_EMBEDDINGS: SCORE_INPUTS,
    SHARD_CONTEXT: SHARD_CONTEXT_INPUTS,
    SHARD_RETRIEVE: {**QUERY_INPUTS, **FILTER_INPUTS, **SHARED_INPUTS},
    SHARD_RANK: {**RANK_INPUTS, **QUERY_INPUTS, **SHARED_INPUTS},
}
"""Signature -> its inputs. `EMBED_ITEMS` and the two after it are in exports with ``export.fresh_items``, the last
three in those with ``export.shards`` above 1, in place of all that list or rank items."""

ITEM_IDS: Final = "item_ids"
SCORES: Final = "scores"
LANGUAGES: Final = "languages"
TITLES: Final = "titles"
EMBEDDINGS: Final = "embeddings"
QUERY_EMBEDDINGS: Final = "query_embeddings"
CUTOFFS: Final = "cutoffs"
INFORMED: Final = "informed"
SEALED: Final = "sealed"
NAMED: Final = "named"
TEXT_EMBEDDINGS: Final = "text_embeddings"
LABEL_SIMILARITIES: Final = "label_similarities"
LABELS: Final = "labels"
LABEL_NORMS: Final = "label_norms"
GRAM_BUCKETS: Final = "gram_buckets"
GRAM_WEIGHTS: Final = "gram_weights"
GRAM_SCORES: Final = "gram_scores"
LEXICAL_WEIGHTS: Final = "lexical_weights"
HISTORY_EMBEDDINGS: Final = "history_embeddings"
STORED_EMBEDDINGS: Final = "stored_embeddings"
PLACES: Final = "places"
WANTED: Final = "wanted"
SHARD: Final = "shard"
SHARDS: Final = "shards"
EXPORT_ID: Final = "export_id"

NAMES_NONE: Final = 0.25
NAMES_AN_ITEM: Final = 0.45
"""Fit by meaning and spelling of a text query's best item: up to the first it names no item and describes categories,
from the second on it names that item. The values lie between those of translated titles (KMRD, English to Korean) and
of the queries in benchmarks/quality/text_queries_development.yaml."""

LOWEST_SCORE: Final = -3.4028234663852886e38
"""The lowest finite float32: the score of empty positions, and of items that the model doesn't know."""


def column_input(kind: Literal["number", "embedding"], column: str) -> str:
    """The input of `embed_items` for an item column, such as ``number_price``."""
    return f"{kind}_{re.sub('[^0-9A-Za-z]', '_', column)}"


def inputs_markdown() -> str:
    """The inputs as a table for documentation."""
    rows = ["| input | type | meaning | left out |", "|---|---|---|---|"]
    for name, each in {**QUERY_INPUTS, **FILTER_INPUTS}.items():
        default = "none" if each.rank == 2 or each.default == "" else str(each.default).lower()
        rows.append(f"| `{name}` | {each.dtype} {each.shape} | {each.meaning} | {default} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(inputs_markdown())
