"""A small dataset of events whose order of time matters, as plain rows that an oracle can walk through."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from trainer.data.dataset import Dataset, write_dataset

RULES: dict[str, float | None] = {"rating": 4.0, "purchase": None}
_ITEMS = ("우주선 🚀", "ยานอวกาศ", "سفينة", "a", "b", "ü", "日本", "c", "d", "10", "9", "never")


class Event(NamedTuple):
    """One row of the interactions."""

    user: str
    item: str
    moment: int
    event: str
    value: float | None

    @property
    def positive(self) -> bool:
        """By `RULES`."""
        return self.event == "purchase" or (self.event == "rating" and (self.value or 0.0) >= 4.0)


def events_of(seed: int, number: int = 300) -> list[Event]:
    """Events in no order of time, with repeated pairs, equal moments, and items that arrive one after another."""
    rng = np.random.default_rng(seed)
    found = []
    for place in rng.permutation(number):
        moment = 1_000 + int(place) // 3
        there = 3 + int(place) * (len(_ITEMS) - 4) // number
        kind = ("rating", "purchase", "view")[int(rng.integers(3))]
        value = float(rng.integers(1, 6)) if kind == "rating" else None
        found.append(Event(f"사용자{rng.integers(9)}", _ITEMS[int(rng.integers(there))], moment, kind, value))
    return found


def write(path: Path, events: list[Event]) -> Dataset:
    """The events as a dataset; the last item has none."""
    columns = {"user": "user_id", "item": "item_id", "moment": "timestamp", "event": "event", "value": "value"}
    table = pl.DataFrame([event._asdict() for event in events], schema_overrides={"value": pl.Float64})
    return write_dataset(
        path,
        name="흐름",
        description="d",
        licence="l",
        homepage="h",
        interactions=table.rename(columns),
        items=pl.DataFrame(
            {"item_id": _ITEMS, "language": ["und"] * len(_ITEMS), "title": _ITEMS}
            | {"description": [None] * len(_ITEMS), "categories": [[]] * len(_ITEMS)},
            schema_overrides={"description": pl.String, "categories": pl.List(pl.String)},
        ),
        users=pl.DataFrame(
            {"user_id": [f"사용자{number}" for number in range(9)], "country": ["KR"] * 9, "languages": [["ko"]] * 9}
        ),
        translations=pl.DataFrame(
            {"item_id": ["a", "d"], "language": ["th", "th"], "title": ["หนึ่ง", "สอง"], "description": [None, None]},
            schema_overrides={"description": pl.String},
        ),
    )


def positives_in_order(events: list[Event]) -> list[Event]:
    """The first positive of each pair of user and item, by time."""
    first: dict[tuple[str, str], Event] = {}
    for event in sorted((each for each in events if each.positive), key=lambda each: each.moment):
        first.setdefault((event.user, event.item), event)
    return sorted(first.values(), key=lambda each: (each.moment, each.user, each.item))


def history(events: list[Event], user: str, moment: int) -> set[str]:
    """Items of the user's positives before a moment."""
    return {each.item for each in events if each.positive and each.user == user and each.moment < moment}


def known(events: list[Event], moment: int) -> set[str]:
    """Items with an event by a moment."""
    return {each.item for each in events if each.moment <= moment}
