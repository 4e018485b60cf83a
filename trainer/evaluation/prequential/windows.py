"""Windows of time with equally many events, and the state of a dataset before a moment."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from trainer.data.dataset import Dataset, write_dataset
from trainer.errors import BabelrecError
from trainer.evaluation.settings import PrequentialConfig


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time.

    Attributes:
        number: From 1.
        previous: Unix seconds at which as many events as it has begin before it: the previous window's begin.
        begin: Unix seconds of its first event.
        end: Those of the next window's first event; for the last window, one second after its own last event.
    """

    number: int
    previous: int
    begin: int
    end: int

    @property
    def name(self) -> str:
        """Number and first day (UTC): `3 from 1997-12-09`."""
        return f"{self.number} from {datetime.fromtimestamp(self.begin, UTC):%Y-%m-%d}"

    def holds(self) -> pl.Expr:
        """Marks the events within the window."""
        return pl.col("timestamp").is_between(self.begin, self.end, closed="left")


def cut(dataset: Dataset, settings: PrequentialConfig) -> list[Window]:
    """Windows with equally many events after the first share of them.

    Events with the same timestamp are never divided: all belong to the later window, so that nothing that happened
    at a window's beginning is known before it.

    Raises:
        BabelrecError: The events have too few different timestamps.
    """
    moments = dataset.interactions().select("timestamp").collect(engine="streaming")["timestamp"].sort()
    total, windows = moments.len(), settings.windows
    later = total - round(total * settings.first_share)
    places = [total - later * left // windows for left in range(windows, 0, -1)]
    begins = [int(moments[place]) for place in places] if later >= windows else []
    if len(set(begins)) < windows or begins[0] == moments[0]:
        raise BabelrecError(
            f"The {total:,} events of {dataset.name} can't be divided by time into a first share of "
            f"{settings.first_share} and {windows} windows: they have {moments.n_unique():,} different timestamps, and "
            "events with the same one stay together. Use fewer windows (evaluation.prequential.windows), or data with "
            "the events' times."
        )
    previous = [int(moments[max(places[0] - later // windows, 0)]), *begins]
    ends = [*begins[1:], int(moments[-1]) + 1]
    return [Window(number, *bounds) for number, bounds in enumerate(zip(previous, begins, ends, strict=False), start=1)]


def state_before(dataset: Dataset, moment: int, path: Path) -> Dataset:
    """The dataset as it was before a moment: earlier events, and the items and users that occur in them.

    Args:
        dataset: The complete one.
        moment: Unix seconds; events at this very time are left out.
        path: Directory to write it to. If it exists, it must be of the same dataset and moment.

    Raises:
        BabelrecError: The existing directory is damaged.
    """
    if path.exists():
        return Dataset.load(path)
    events = dataset.interactions().filter(pl.col("timestamp") < moment)
    items, users = (events.select(key).unique() for key in ("item_id", "user_id"))
    profiles, translations = dataset.users(), dataset.translations()
    return write_dataset(
        path,
        name=dataset.name,
        description=f"{dataset.name} before {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC.",
        licence=dataset.licence,
        homepage=dataset.homepage,
        interactions=events,
        items=_of(dataset.items(), items, "item_id"),
        users=None if profiles is None else _of(profiles, users, "user_id"),
        translations=None if translations is None else _of(translations, items, "item_id"),
    )


def _of(table: pl.LazyFrame, known: pl.LazyFrame, key: str) -> pl.LazyFrame:
    return table.join(known, on=key, how="semi", maintain_order="left")
