"""What the exported SavedModel is asked and answers: names, types and meaning, without TensorFlow.

The exporter makes its signatures of this, warm-up requests and the client their inputs, and docs/model.md its table
(``python -m serving.contract`` prints it).
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

DType = Literal["string", "int32", "int64", "bool"]
Value = str | int | bool

DEFAULT: Final = "serving_default"
RECOMMEND: Final = "recommend"
RETRIEVE: Final = "retrieve"
RANK: Final = "rank"
ENCODE_TEXT: Final = "encode_text"


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a signature; its first dimension is the batch.

    Attributes:
        dtype: Of its elements.
        rank: 1: a value for each request, [B]; 2: a list for each request, [B, *], padded with empty strings.
        meaning: Half a sentence.
        default: What a request that leaves it out means: a value, or an empty list. None: it can't be left out.
        newest_last: A list whose padding comes first.
        minimum: The least value of a number, where not all of its type are allowed.
        is_time: Unix seconds, for which a client may take a ``datetime``.
    """

    dtype: DType
    rank: Literal[1, 2]
    meaning: str
    default: Value | None = None
    newest_last: bool = False
    minimum: int | None = None
    is_time: bool = False

    @property
    def shape(self) -> str:
        """As documentation writes it."""
        return "[B]" if self.rank == 1 else "[B, *]"


QUERY_INPUTS: Final[Mapping[str, Input]] = {
    "user_id": Input("string", 1, "a user, whom the model may know", ""),
    "history": Input("string", 2, "ids of the items that the user has seen, newest last", "", newest_last=True),
    "query": Input("string", 1, "free text in any language", ""),
    "language": Input("string", 1, "the user's language, BCP 47", ""),
    "country": Input("string", 1, "the user's country", ""),
    "timestamp": Input("int64", 1, "the moment to recommend for, unix seconds", 0, is_time=True),
}
"""Of whom and when: inputs of `recommend`, `retrieve` and `rank`."""

FILTER_INPUTS: Final[Mapping[str, Input]] = {
    "k": Input("int32", 1, "how many items, at least 1", 10, minimum=1),
    "exclude": Input("string", 2, "ids of items that must not appear", ""),
    "languages": Input("string", 2, "allowed languages of items; none: all", ""),
    "categories": Input("string", 2, "items must have one of these; none: any", ""),
    "include_seen": Input("bool", 1, "whether items that the user has seen may appear", False),
}
"""Which items: further inputs of `recommend` and `retrieve`."""

RANK_INPUTS: Final[Mapping[str, Input]] = {"item_ids": Input("string", 2, "the items to score")}
ENCODE_TEXT_INPUTS: Final[Mapping[str, Input]] = {"text": Input("string", 1, "texts in any language")}

SIGNATURES: Final[Mapping[str, Mapping[str, Input]]] = {
    DEFAULT: {**QUERY_INPUTS, **FILTER_INPUTS},
    RECOMMEND: {**QUERY_INPUTS, **FILTER_INPUTS},
    RETRIEVE: {**QUERY_INPUTS, **FILTER_INPUTS},
    RANK: {**RANK_INPUTS, **QUERY_INPUTS},
    ENCODE_TEXT: ENCODE_TEXT_INPUTS,
}
"""Signature -> its inputs."""

ITEM_IDS: Final = "item_ids"
SCORES: Final = "scores"
LANGUAGES: Final = "languages"
TITLES: Final = "titles"
EMBEDDINGS: Final = "embeddings"

LOWEST_SCORE: Final = -3.4028234663852886e38
"""The lowest finite float32: of places without an item, and of items that the model doesn't know."""


def inputs_markdown() -> str:
    """The inputs as a table for documentation."""
    rows = ["| input | type | meaning | left out |", "|---|---|---|---|"]
    for name, each in {**QUERY_INPUTS, **FILTER_INPUTS}.items():
        default = "none" if each.rank == 2 or each.default == "" else str(each.default).lower()
        rows.append(f"| `{name}` | {each.dtype} {each.shape} | {each.meaning} | {default} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(inputs_markdown())
