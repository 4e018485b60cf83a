"""Ranking heads and their labels, determined by the events in the training part."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from trainer.data.ids import ID_COLUMNS, IdCodes, as_text, is_coded, ordered_pair_keys, pair_keys
from trainer.data.query_features import feature_columns


@dataclass(frozen=True)
class Head:
    """One output of the ranking model.

    Attributes:
        name: ``like``, ``rating`` or the event's name.
        event: The event it is trained on.
        kind: ``binary`` (a probability) or ``regression`` (a value of the event).
        threshold: For ``binary``: smallest value of the event that counts; None: every event.
    """

    name: str
    event: str
    kind: Literal["binary", "regression"]
    threshold: float | None = None

    @property
    def output(self) -> str:
        """Name of the SavedModel's output."""
        return f"probability_{self.name}" if self.kind == "binary" else f"predicted_{self.name}"

    @property
    def is_event(self) -> pl.Expr:
        """Marks the events that the head is trained on."""
        return pl.col("event") == self.event

    @property
    def counts(self) -> pl.Expr:
        """Marks those that make the label 1."""
        return self.is_event if self.threshold is None else self.is_event & (pl.col("value") >= self.threshold)


def choose_heads(events: list[str], positives: Mapping[str, float | None], without: Collection[str] = ()) -> list[Head]:
    """Chooses one probability per positive event, and a regression if there are ratings.

    Args:
        events: Events in the training part.
        positives: Event -> smallest value that counts as positive.
        without: Names of heads to leave out: those of `constant_heads`.
    """
    heads: list[Head] = []
    for event in events:
        if event == "rating":
            heads.append(Head("like", event, "binary", positives.get(event)))
            heads.append(Head("rating", event, "regression"))
        elif event in positives:
            heads.append(Head(event, event, "binary", positives[event]))
    return [head for head in heads if head.name not in without]


def constant_heads(observed: pl.DataFrame, heads: list[Head]) -> dict[str, float | None]:
    """Heads whose labels are all equal, with that label (None: no labels).

    Such a head has nothing to learn: a shop that records only purchases would learn that everything it observed
    was bought.

    Args:
        observed: Events of the training part: user_id, item_id, timestamp, event, value.
        heads: Candidate heads.
    """
    found: dict[str, float | None] = {}
    pairs = _pairs(observed)
    for head in heads:
        labels = _distinct_labels(observed, pairs, head)
        if len(labels) <= 1:
            found[head.name] = next(iter(labels), None)
    return found


def _distinct_labels(observed: pl.DataFrame, pairs: int, head: Head) -> set[float]:
    """The known labels of a head among (user, item) pairs, as in `label_table` but without a table of all of them."""
    of_event = observed.filter(head.is_event)
    if head.kind == "regression":
        return set(label_table(of_event, [head])[f"label_{head.name}"].drop_nulls())
    ones = _pairs(of_event.filter(head.counts))
    zeros = (_pairs(of_event) if head.event == "rating" else pairs) - ones
    return {label for label, count in ((0.0, zeros), (1.0, ones)) if count}


def _pairs(events: pl.DataFrame) -> int:
    if is_coded(events):
        return pair_keys(events).n_unique()
    return events.select(ID_COLUMNS).unique().height


def label_table(observed: pl.DataFrame, heads: list[Head]) -> pl.DataFrame:
    """One row per (user, item) of ``observed``, with a column ``label_<head>`` per head.

    A binary label is 1 if the pair has an event that counts, else 0; a rating label is null
    if the pair was never rated. The other columns are those of the pair's newest event. Rows are in the order of the
    ids as text; these are coded if those of ``observed`` are.
    """
    labels: list[pl.Expr] = []
    # Sorted below instead of the event's text.
    flags: dict[str, pl.Expr] = {}
    for head in heads:
        flag, counting = f"__is_{head.name}", f"__counts_{head.name}"
        if head.kind == "regression":
            flags[flag] = head.is_event
            label = pl.col("value").filter(pl.col(flag)).last()
        else:
            flags[counting] = head.counts
            label = pl.col(counting).any().cast(pl.Float32)
            if head.event == "rating":
                flags[flag] = head.is_event
                label = pl.when(pl.col(flag).any()).then(label)
        labels.append(label.cast(pl.Float32).alias(f"label_{head.name}"))
    kept = [*ID_COLUMNS, "timestamp", *feature_columns(observed)]
    values = ["value"] if any(head.kind == "regression" for head in heads) else []
    coded = observed if is_coded(observed) else IdCodes.of(observed, "text").coded(observed)
    found = (
        coded.select(*kept, *values, ordered_pair_keys(coded).alias("__pair"), **flags)
        .sort("__pair", "timestamp", maintain_order=True)
        .group_by("__pair", maintain_order=True)
        .agg(*(pl.col(name).last() for name in kept), *labels)
        .drop("__pair")
    )
    return found if is_coded(observed) else as_text(found)
