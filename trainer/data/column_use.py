"""How each column of a dataset is used: whether a model learns from it, and if not, why."""

from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from trainer.data.query_features import QUERY_FEATURES
from trainer.data.tables import is_embedding
from trainer.models.settings import CandidateTowerConfig, ModelConfig

Use = Literal["used", "in part", "unused"]

_FORMAT: Final[dict[tuple[str, str], tuple[Use, str]]] = {
    **{("interactions", feature.name): ("used", f"{feature.name} of the query") for feature in QUERY_FEATURES},
    **{("users", feature.profile_column): ("used", f"{feature.name} of the query") for feature in QUERY_FEATURES},
    ("interactions", "user_id"): ("used", "user"),
    ("interactions", "item_id"): ("used", "item"),
    ("interactions", "timestamp"): ("used", "order of histories, splits, time of the query"),
    ("interactions", "event"): ("used", "positives (`data.positives`) and ranking heads"),
    ("interactions", "value"): ("in part", "ratings only: what counts as positive, and the rating head"),
    ("interactions", "impression_id"): ("in part", "the split `impressions` and protocol P3; no feature of the model"),
    ("interactions", "position"): ("unused", "kept, but the model does not read it"),
    ("items", "item_id"): ("used", "item"),
    ("items", "language"): ("used", "language of the item"),
    ("items", "title"): ("used", "text of the item"),
    ("items", "description"): ("used", "text of the item"),
    ("items", "categories"): ("used", "categories of the item, typed queries, filters"),
    ("items", "entities"): ("unused", "kept, but the model does not read it"),
    ("users", "user_id"): ("used", "user"),
    ("users", "languages"): ("in part", "the first one is the language of the query"),
    ("translations", "item_id"): ("used", "item"),
    ("translations", "language"): ("used", "language of an additional text"),
    ("translations", "title"): ("in part", "protocols P3 and P4; training with `training.alignment` or `augmentation`"),
    ("translations", "description"): ("in part", "same as the title"),
}


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """One column.

    Attributes:
        table: Its table.
        name: Its name in the dataset.
        type: What it holds.
        filled: Share of the rows in which it holds something, 0 to 1.
        use: Whether the model reads it.
        reason: What it is used for, or why it is unused.
    """

    table: str
    name: str
    type: str
    filled: float
    use: Use
    reason: str


def column_uses(table: str, frame: pl.LazyFrame, model: ModelConfig) -> list[ColumnUse]:
    """The columns of one table and how the configured model uses them."""
    schema = frame.collect_schema()
    there = [_holds_something(name, dtype).mean().alias(name) for name, dtype in schema.items()]
    filled = frame.select(there).collect(engine="streaming")
    found = []
    for name, dtype in schema.items():
        share = float(filled[name][0] or 0.0)
        use, reason = _use(table, name, dtype, model.candidate)
        if share == 0.0 and use != "unused":
            use, reason = "unused", "it is empty"
        found.append(ColumnUse(table, name, _kind(dtype), share, use, reason))
    return found


def _use(table: str, name: str, dtype: pl.DataType, candidate: CandidateTowerConfig) -> tuple[Use, str]:
    switched_off = {"language": candidate.language, "categories": candidate.categories}
    if table == "items" and not switched_off.get(name, True):
        return "in part", f"filters and reports only: `model.candidate.{name}` is false"
    known = _FORMAT.get((table, name))
    if known is not None:
        return known
    if table == "items" and (dtype.is_numeric() or is_embedding(dtype)):
        setting, wanted = ("numeric", candidate.numeric) if dtype.is_numeric() else ("embeddings", candidate.embeddings)
        if wanted is None or name in wanted:
            return "used", "number of the item" if setting == "numeric" else "vector of the item"
        return "unused", f"`model.candidate.{setting}` does not list it"
    if table == "items":
        return "unused", "kept, but the model reads additional item columns only if they are numbers or vectors"
    if table == "users":
        read = ", ".join(feature.profile_column for feature in QUERY_FEATURES)
        return "unused", f"kept, but of a user profile the model reads only {read}"
    return "unused", "kept, but the model reads no additional interaction columns"


def _holds_something(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.String:
        return (column.is_not_null() & (column != "")).fill_null(False)
    if isinstance(dtype, pl.List):
        return (column.list.len() > 0).fill_null(False)
    return column.is_not_null()


def _kind(dtype: pl.DataType) -> str:
    if is_embedding(dtype):
        return "vector"
    if isinstance(dtype, pl.List):
        return "list of texts"
    if dtype.is_numeric():
        return "number"
    return "true or false" if dtype == pl.Boolean else "text"
