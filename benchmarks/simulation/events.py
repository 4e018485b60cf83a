"""What people did, as rows of the dataset format and as events of the service."""

from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.draws import Floats, Integers
from benchmarks.simulation.lists import EMPTY, Shown
from benchmarks.simulation.world import Requests, World
from serving.service.types import Event

SCHEMA: Final = {
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Int64,
    "event": pl.String,
    "value": pl.Float64,
    "event_id": pl.String,
    "recommendation_id": pl.String,
    "impression_id": pl.String,
    "session_id": pl.String,
    "position": pl.Int32,
    "propensity": pl.Float64,
    "list_propensity": pl.Float64,
    "language": pl.String,
    "country": pl.String,
}
# Seconds after the list was shown.
_LATER: Final = {"impression": 0, "click": 1, "view": 2, "purchase": 3, "rating": 4}
_OF_EVENTS: Final = tuple(name for name in SCHEMA if name in Event.__dataclass_fields__)


def interactions(world: World, requests: Requests, shown: Shown, outcome: Outcome, prefix: str = "") -> pl.DataFrame:
    """Rows of the table ``interactions``, visit by visit and place by place.

    Each item of a list is there once as ``click`` or, if it was not clicked, as ``impression`` with the value 0. A
    click is followed by a ``view`` whose value is the time with the item in seconds, by a ``purchase`` with its price
    and by a ``rating`` from 1 to 5, if there were any. All rows have the answer's id, the place (from 1) and the
    probabilities with which item and list were shown.

    Args:
        world: The world.
        requests: n visits.
        shown: Their lists.
        outcome: What people did with them.
        prefix: Of all ids but people's and items', which makes them different from those of another run.
    """
    clicked = outcome.clicked
    nothing = np.zeros(clicked.shape)
    prices = world.items.price[shown.lists]
    parts: list[tuple[str, Any, Floats]] = [
        ("impression", ~clicked & (shown.lists != EMPTY), nothing),
        ("click", clicked, np.full(clicked.shape, np.nan)),
        ("view", clicked, outcome.dwell),
        ("purchase", outcome.purchased, prices),
        ("rating", outcome.rated, 1.0 + 4.0 * outcome.satisfaction),
    ]
    rows, places, kinds, values = (np.concatenate(column) for column in zip(*map(_places, parts), strict=True))
    order = np.lexsort((kinds, places, rows))
    rows, places, kinds = rows[order], places[order], kinds[order]
    people, names = requests.people[rows], list(_LATER)
    visits = pl.Series("session_id", [f"{prefix}v{number}" for number in requests.ids.tolist()], pl.String)
    answers = pl.Series("recommendation_id", shown.ids, pl.String) if shown.ids else "r-" + visits
    events = _gathered("event", names, kinds)
    sessions = visits.gather(rows)
    return pl.DataFrame(
        {
            "user_id": _gathered("user_id", world.people.ids, people),
            "item_id": _gathered("item_id", world.items.ids, shown.lists[rows, places]),
            "timestamp": requests.timestamps[rows] + np.array(list(_LATER.values()))[kinds],
            "event": events,
            "value": pl.Series("value", values[order]).fill_nan(None),
            "event_id": sessions + "-" + pl.Series("place", places).cast(pl.String) + "-" + events,
            "recommendation_id": answers.gather(rows),
            "impression_id": answers.gather(rows),
            "session_id": sessions,
            "position": (places + 1).astype(np.int32),
            "propensity": shown.propensities[rows, places],
            "list_propensity": pl.Series("list_propensity", shown.list_propensities[rows]).fill_nan(None),
            "language": _gathered("language", world.languages, requests.language[rows]),
            "country": _gathered("country", world.people.country, people),
        },
        schema=SCHEMA,
    )


def service_events(table: pl.DataFrame) -> list[Event]:
    """The rows as the service's events, whose places count from 0."""
    return [Event(**row) for row in table.select(_OF_EVENTS).with_columns(pl.col("position") - 1).iter_rows(named=True)]


def _places(part: tuple[str, Any, Floats]) -> tuple[Integers, Integers, Integers, Floats]:
    name, which, values = part
    rows, places = np.nonzero(which)
    return rows, places, np.full(len(rows), list(_LATER).index(name)), values[rows, places]


def _gathered(name: str, values: list[str] | tuple[str, ...], places: Integers) -> pl.Series:
    return pl.Series(name, values, pl.String).gather(places)
