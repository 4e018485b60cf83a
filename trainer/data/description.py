"""Counts of what a dataset contains and what the settings make of it: the facts of `trainer.task data`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from trainer.config.settings import Config
from trainer.data.column_use import ColumnUse, column_uses
from trainer.data.dataset import Dataset
from trainer.data.id_forms import Mismatch, look_alikes, mismatches
from trainer.data.settings import SplitConfig
from trainer.data.split import Split, SplitError, counts_as_positive, some_users, split

_MOST: Final = 10


@dataclass(frozen=True, slots=True)
class TableFacts:
    """Where the rows of one table went.

    Attributes:
        name: The table.
        file: The file that it was read from; "" for other sources.
        read: Records of that file; None where the source does not count them.
        dropped: Reason -> rows left out.
        written: Rows of the table.
        unused: Columns of the file that are not kept in the dataset.
        notes: What was guessed, changed or is doubtful.
    """

    name: str
    file: str
    read: int | None
    dropped: Mapping[str, int]
    written: int
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """What remains after one filtering setting.

    Attributes:
        name: Description of what remains.
        setting: The setting that decides it; "" for none.
        users, items, rows: Distinct users and items, and interactions.
    """

    name: str
    setting: str
    users: int
    items: int
    rows: int


@dataclass(frozen=True, slots=True)
class EventFacts:
    """One event type: its rows, those with a value, and those that count as positive."""

    event: str
    rows: int
    with_value: int
    positive: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Distribution of the number of interactions per user or item.

    Attributes:
        counts: Number of interactions -> number of users (items) with that many.
    """

    counts: Mapping[int, int]

    def quantile(self, share: float) -> int:
        """The smallest count that ``share`` of the users (items) don't exceed."""
        total, seen = sum(self.counts.values()), 0
        for count in sorted(self.counts):
            seen += self.counts[count]
            if seen >= share * total:
                return count
        return 0

    @property
    def mean(self) -> float:
        """The mean count."""
        total = sum(self.counts.values())
        return sum(count * many for count, many in self.counts.items()) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Description:
    """The facts of one dataset under one config. Times are unix seconds (UTC).

    Attributes:
        name: The name in the config, given by the user.
        dataset: The dataset's own name.
        directory, fingerprint, licence, origin: of the dataset.
        tables: Rows by table.
        stages: From all interactions to the positives that are split, each with its setting.
        parts: ``training``, ``validation``, ``test`` -> positives; empty where there is no split.
        new_in_test: Test items without a training or validation positive, and their number of test positives.
        cold: Items held out completely by `data.split.cold_items`.
        fault: Why there is no split; "" where there is one.
        kept_by_least: Smallest number of positives -> users that it would keep, for `data.split.min_positives`.
        least: The value of that setting.
        events: Counts by event type.
        languages: Language -> items.
        detection: How the languages were determined (`fill_languages`), if the source records it.
        catalogue: Number of catalogue items.
        never: Number of items without any interaction.
        first, last: Times of the first and last interaction.
        whole_days: Whether every time is midnight UTC, as dates without a time of day are read.
        months: (year, month) -> interactions.
        per_user, per_item: Distributions of interactions.
        repeated_pairs, repeated_rows: Rows that repeat a (user, item), and rows identical to an earlier one.
        repeated_titles: (title, number of items) of shared titles, most frequent first, at most ten.
        repeated_title_items: Items that share their title.
        without_title, without_category: Numbers of items.
        columns: How each column is used.
        profiles: Users of the interactions found in the users table; None without one.
        look_alikes: Table and column -> ids that differ only in spelling.
    """

    name: str
    dataset: str
    directory: str
    fingerprint: str
    licence: str
    origin: str
    tables: tuple[TableFacts, ...]
    stages: tuple[Stage, ...]
    parts: Mapping[str, int]
    new_in_test: tuple[int, int]
    cold: int
    fault: str
    kept_by_least: Mapping[int, int]
    least: int
    events: tuple[EventFacts, ...]
    languages: Mapping[str, int]
    detection: Mapping[str, Any]
    catalogue: int
    never: int
    first: int
    last: int
    whole_days: bool
    months: Mapping[tuple[int, int], int]
    per_user: Spread
    per_item: Spread
    repeated_pairs: int
    repeated_rows: int
    repeated_titles: tuple[tuple[str, int], ...]
    repeated_title_items: int
    without_title: int
    without_category: int
    columns: tuple[ColumnUse, ...]
    profiles: int | None
    look_alikes: Mapping[str, list[Mismatch]] = field(default_factory=dict)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last interaction in UTC."""
        return datetime.fromtimestamp(self.first, UTC), datetime.fromtimestamp(self.last, UTC)

    @property
    def density(self) -> float:
        """Share of the (user, item) pairs of active users and the catalogue that have an interaction, 0 to 1."""
        start = self.stages[0]
        return (start.rows - self.repeated_pairs) / max(start.users * self.catalogue, 1)


def describe(dataset: Dataset, config: Config) -> Description:
    """Collects the facts of a dataset.

    Args:
        dataset: The data.
        config: Its name, `data` and `model` sections are read.

    """
    interactions, items = dataset.interactions(), dataset.items()
    parts: Split | None = None
    fault = ""
    try:
        parts = split(dataset, config.data)
    except SplitError as error:
        fault = str(error)
    positive = interactions.filter(counts_as_positive(config.data.positives)).select("user_id", "item_id")
    pairs = positive.unique().collect(engine="streaming")
    by_user = pairs["user_id"].value_counts()["count"]
    least = config.data.split.min_positives
    facts = interactions.select(
        pl.len(),
        pl.col("timestamp").min().alias("first"),
        pl.col("timestamp").max().alias("last"),
        (pl.col("timestamp") % 86_400 == 0).all().alias("whole_days"),
    ).collect(engine="streaming")
    rows, first, last, whole_days = facts.row(0)
    users = interactions.select("user_id").unique().collect(engine="streaming")["user_id"]
    known_items = items.select("item_id", "title", "language", "categories").collect(engine="streaming")
    seen_items = interactions.select("item_id").unique().collect(engine="streaming")["item_id"]
    titles = known_items.filter(pl.col("title") != "")["title"].value_counts(sort=True).filter(pl.col("count") > 1)
    profiles = dataset.users()
    tables = {"interactions": interactions, "items": items, "users": profiles, "translations": dataset.translations()}
    return Description(
        name=config.name,
        dataset=dataset.name,
        directory=str(dataset.path),
        fingerprint=dataset.fingerprint,
        licence=dataset.licence,
        origin=dataset.description,
        tables=tuple(_table(dataset, table) for table in dataset.rows),
        stages=tuple(_stages(config, interactions, positive, pairs, parts)),
        parts={}
        if parts is None
        else {"training": parts.train.height, "validation": parts.validation.height, "test": parts.test.height},
        new_in_test=(0, 0) if parts is None else _new_in_test(parts),
        cold=0 if parts is None else len(parts.cold),
        fault=fault,
        kept_by_least={n: int((by_user >= n).sum()) for n in sorted({1, 2, 3, 5, 10, 20, least})},
        least=least,
        events=tuple(_events(interactions, config.data.positives)),
        languages=dict(known_items["language"].value_counts(sort=True).iter_rows()),
        detection=_read(dataset, "items").get("languages", {}),
        catalogue=known_items.height,
        never=known_items.height - len(seen_items),
        first=first,
        last=last,
        whole_days=whole_days,
        months=_months(interactions),
        per_user=_spread(interactions, "user_id"),
        per_item=_spread(interactions, "item_id"),
        repeated_pairs=rows - _distinct(interactions, ["user_id", "item_id"]),
        repeated_rows=rows - _distinct(interactions, interactions.collect_schema().names()),
        repeated_titles=tuple(titles.head(_MOST).iter_rows()),
        repeated_title_items=int(titles["count"].sum()),
        without_title=known_items.filter(pl.col("title").str.strip_chars() == "").height,
        without_category=known_items.filter(pl.col("categories").list.len() == 0).height,
        columns=tuple(
            use
            for table, frame in tables.items()
            if frame is not None
            for use in column_uses(table, frame, config.model)
        ),
        profiles=None if profiles is None else _known(users, profiles),
        look_alikes=_look_alikes(users, known_items["item_id"], profiles),
    )


def _table(dataset: Dataset, table: str) -> TableFacts:
    read = _read(dataset, table)
    # Sources that don't count the records they read still record the interactions they dropped.
    dropped = read.get("dropped", dataset.dropped if table == "interactions" else {})
    return TableFacts(
        name=table,
        file=str(read.get("file", "")),
        read=read.get("records"),
        dropped={reason: count for reason, count in dropped.items() if count},
        written=dataset.rows[table],
        unused=tuple(read.get("unused", ())),
        notes=tuple(read.get("notes", ())),
    )


def _read(dataset: Dataset, table: str) -> Mapping[str, Any]:
    return dataset.read.get(table, {})


def _stages(
    config: Config, interactions: pl.LazyFrame, positive: pl.LazyFrame, pairs: pl.DataFrame, parts: Split | None
) -> list[Stage]:
    settings = config.data.split
    rules = ", ".join(
        event if value is None else f"{event} ≥ {value:g}" for event, value in config.data.positives.items()
    )
    enough = pairs.filter(pl.len().over("user_id") >= settings.min_positives)
    stages = [
        _stage("all interactions", "", interactions),
        _stage("positive", f"data.positives: {rules}", positive),
        _stage("repeated pairs counted once", "", pairs.lazy()),
        _stage("of users with enough positives", f"data.split.min_positives: {settings.min_positives}", enough.lazy()),
    ]
    if parts is not None:
        stages.append(_stage("for training", _split_settings(settings), parts.train.lazy()))
        if settings.train_users < 1.0:
            chosen = some_users(parts, settings.train_users, config.seed).train.lazy()
            stages.append(
                _stage("of a share of the users", f"data.split.train_users: {settings.train_users:g}", chosen)
            )
    return stages


def _split_settings(settings: SplitConfig) -> str:
    parts = f"test {settings.test_fraction:g}, validation {settings.validation_fraction:g}"
    cold = f", cold_items: {settings.cold_items:g}" if settings.cold_items else ""
    return f"data.split.kind: {settings.kind}, {parts}{cold}"


def _stage(name: str, setting: str, frame: pl.LazyFrame) -> Stage:
    counts = frame.select(pl.col("user_id").n_unique(), pl.col("item_id").n_unique(), pl.len().alias("rows"))
    return Stage(name, setting, *counts.collect(engine="streaming").row(0))


def _new_in_test(parts: Split) -> tuple[int, int]:
    known = parts.train_and_validation["item_id"].unique()
    new = parts.test.filter(~pl.col("item_id").is_in(known.implode()))
    return new["item_id"].n_unique(), new.height


def _events(interactions: pl.LazyFrame, rules: Mapping[str, float | None]) -> list[EventFacts]:
    counts = interactions.group_by("event").agg(
        pl.len(), pl.col("value").count().alias("with_value"), counts_as_positive(rules).sum().alias("positive")
    )
    found = counts.sort("len", "event", descending=[True, False]).collect(engine="streaming")
    return [EventFacts(*row) for row in found.iter_rows()]


def _months(interactions: pl.LazyFrame) -> dict[tuple[int, int], int]:
    time = pl.from_epoch("timestamp", time_unit="s")
    counts = interactions.group_by(time.dt.year().alias("year"), time.dt.month().alias("month")).len()
    return {(year, month): n for year, month, n in counts.sort("year", "month").collect(engine="streaming").iter_rows()}


def _spread(interactions: pl.LazyFrame, column: str) -> Spread:
    counts = interactions.group_by(column).len().group_by("len").agg(pl.len().alias("many")).sort("len")
    return Spread(dict(counts.collect(engine="streaming").iter_rows()))


def _distinct(interactions: pl.LazyFrame, columns: list[str]) -> int:
    # Counts hashes, eight bytes per row: the rows themselves may not fit in memory.
    return int(interactions.select(pl.struct(columns).hash().n_unique()).collect(engine="streaming").item())


def _known(users: pl.Series, profiles: pl.LazyFrame) -> int:
    known = profiles.select("user_id").collect(engine="streaming")["user_id"]
    return int(users.is_in(known.implode()).sum())


def _look_alikes(users: pl.Series, items: pl.Series, profiles: pl.LazyFrame | None) -> dict[str, list[Mismatch]]:
    found = {"user ids of the interactions": look_alikes(users), "item ids": look_alikes(items)}
    if profiles is not None:
        known = profiles.select("user_id").collect(engine="streaming")["user_id"]
        unknown = users.filter(~users.is_in(known.implode()))
        found["users of the interactions, compared with the users table"] = mismatches(unknown, known)
    return {place: mismatch for place, mismatch in found.items() if mismatch}
