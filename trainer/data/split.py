"""Leak-free division of positives into training, validation and test parts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import polars as pl

from serving.service.types import EVENTS
from trainer.config.settings import Config
from trainer.data.dataset import Dataset
from trainer.data.ids import IdCodes, as_text, by_length, count_of, pair_keys
from trainer.data.prepared import COLD, prepared_parts
from trainer.data.settings import DataConfig, SplitConfig
from trainer.data.split_remedies import no_positives_remedy, no_training_data_remedy
from trainer.data.user_items import by_time
from trainer.errors import BabelrecError

COLUMNS: Final = ("user_id", "item_id", "timestamp")
_PAIR: Final = ["user_id", "item_id"]
REFUSALS: Final = ("dislike", "hide")


# Subtracted before rounding up: 0.55 * 100 is 55.00000000000001 in binary, and its ceiling 56.
EPSILON: Final = 1e-9


class SplitError(BabelrecError):
    """Data or settings that leave a part of the split empty."""


@dataclass(frozen=True)
class Split:
    """The parts of a dataset.

    Attributes:
        kind: ``per_user`` or ``global``.
        train: Positives to train on: user_id, item_id, timestamp; sorted by user, time and item.
        validation: Positives that follow them, for early stopping.
        test: Positives that follow both, for the final figures only.
        observed: Every event of the training part, positive or not, with the columns of ``interactions``. Of
            each user, nothing at or after the first held-out positive (except training positives at that very time),
            and no held-out (user, item); nothing of cold items. Its ids may be coded (`trainer.data.ids.as_text`).
        cold: Items whose positives are all in the test part, whenever they occurred.
    """

    kind: Literal["per_user", "global"]
    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    observed: pl.DataFrame
    cold: frozenset[str] = frozenset()

    def of_items(self, item_ids: Sequence[str]) -> "Split":
        """The same with the interactions of some items alone."""
        kept = pl.Series("item_id", item_ids, pl.String)
        tables = {
            name: getattr(self, name).filter(pl.col("item_id").cast(pl.String).is_in(kept.implode()))
            for name in ("train", "validation", "test", "observed")
        }
        return replace(self, **tables)

    @property
    def train_and_validation(self) -> pl.DataFrame:
        """All positives that are not test: the training part of protocol P1."""
        return _ordered(pl.concat([self.train, self.validation]))


def counts_as_positive(rules: Mapping[str, float | None]) -> pl.Expr:
    """Marks the interactions that count as positive: event -> smallest value; None takes every such event."""
    return pl.any_horizontal(
        pl.lit(False),
        *(
            (pl.col("event") == event)
            & (pl.lit(True) if least is None else (pl.col("value") >= least).fill_null(False))
            for event, least in rules.items()
        ),
    )


def positives(
    dataset: Dataset, rules: Mapping[str, float | None], min_positives: int = 1, *, refusals: bool = False
) -> pl.DataFrame:
    """The interactions that count as positive, one row per (user, item).

    For repeated pairs, the first row in table order is kept.

    Args:
        dataset: The data.
        rules: Event -> smallest value that counts as positive; None takes every such event.
        min_positives: Users with fewer are dropped.
        refusals: Whether what the user has disliked or hidden since does not count.

    Returns:
        user_id, item_id, timestamp; sorted by user, time and item.

    Raises:
        SplitError: A rule names an unknown event, or there are no positives.
    """
    return _positives(dataset, dataset.interactions(), rules, min_positives, refusals)


def _positives(
    dataset: Dataset, events: pl.LazyFrame, rules: Mapping[str, float | None], min_positives: int, refusals: bool
) -> pl.DataFrame:
    """`positives` among the dataset's interactions, whose ids may be coded."""
    unknown = sorted(set(rules) - set(EVENTS))
    if unknown:
        raise SplitError(f"`data.positives` has the unknown event {unknown[0]!r}. Remedy: use {', '.join(EVENTS)}.")
    taken = events.filter(counts_as_positive(rules)).select(COLUMNS)
    if refusals:
        taken = _not_refused(taken, events)
    found = taken.collect(engine="streaming")
    pairs = found.unique(_PAIR, keep="first", maintain_order=True)
    kept = pairs.filter(pl.len().over("user_id") >= min_positives)
    if kept.is_empty():
        names = events.select(pl.col("event").unique().sort()).collect(engine="streaming")["event"]
        raise SplitError(
            f"The dataset {dataset.name} has no user with {min_positives} positives under `data.positives` = "
            f"{dict(rules)}; its events are {', '.join(names)}. Remedy: "
            f"{no_positives_remedy(dataset, rules, pairs)}."
        )
    return _ordered(kept)


def _not_refused(taken: pl.LazyFrame, events: pl.LazyFrame) -> pl.LazyFrame:
    """The rows whose user has not disliked or hidden the item at that time or later."""
    refusals = events.filter(pl.col("event").is_in(list(REFUSALS)))
    last = refusals.group_by(_PAIR).agg(pl.col("timestamp").max().alias("__refused"))
    joined = taken.join(last, on=_PAIR, how="left", maintain_order="left")
    return joined.filter(pl.col("__refused").fill_null(-1) < pl.col("timestamp")).drop("__refused")


def split(dataset: Dataset, config: DataConfig) -> Split:
    """Splits a dataset as configured.

    ``per_user`` holds out the last ``ceil(test_fraction * n)`` of each user's n positives, and the last
    ``ceil(validation_fraction * m)`` of the remaining m for validation (protocol P1), but never the first
    ``min_history``; with ``whole_baskets`` what happened at one second is held out together, or not at all.
    ``global`` cuts all positives at one point in time, and those before it at another; users of the test part may be
    new. ``impressions`` cuts at the times where the last ``test_fraction`` of the impressions begin, and where the last
    ``validation_fraction`` of those before them begin (protocol P3); otherwise it equals ``global``. Then every
    positive of the cold items goes to the test part, so that nothing is learned from them.

    A split that was prepared with the dataset (`trainer.data.prepared`) is read.

    Raises:
        DatasetError: A prepared split is damaged.
        SplitError: There are no positives, or a part would be empty, or there are no impressions to split by.
    """
    settings = config.split
    prepared = prepared_parts(dataset, config)
    if prepared is not None:
        cold_ids = frozenset(prepared.pop(COLD)["item_id"])
        return Split("per_user" if settings.kind == "per_user" else "global", **prepared, cold=cold_ids)
    if settings.kind == "impressions":
        everything = positives(dataset, config.positives, settings.min_positives, refusals=config.refusals)
        if settings.cold_items > 0.0:
            raise SplitError("`data.split.cold_items` can't be combined with `kind: impressions`. Remedy: set it to 0.")
        return _by_impressions(dataset, everything, config)
    events = dataset.interactions().collect(engine="streaming")
    # Each step below sorts, groups or joins by ids: of twenty million rows, as integers in a third of the time.
    events = IdCodes.of(events, "length").coded(events)
    everything = _positives(dataset, events.lazy(), config.positives, settings.min_positives, config.refusals)
    train, validation, test, held_items = _divide(everything, settings)
    if train.is_empty():
        raise _nothing_left(dataset, everything, config)
    cold = pl.col("item_id").is_in(held_items.implode())
    # Positives held out for their item say nothing about time.
    held_out = pl.concat([validation, test.filter(~cold)])
    observed = _observed(events, train, held_out, _begin(held_out, settings.kind))
    observed = observed.filter(~cold)
    return Split(
        kind=settings.kind,
        train=as_text(train),
        validation=as_text(validation),
        test=as_text(test),
        observed=observed,
        cold=frozenset(held_items),
    )


def _divide(
    everything: pl.DataFrame, settings: SplitConfig
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.Series]:
    """Training, validation and test positives and the cold items, ``per_user`` or ``global``."""

    def hold_out(rows: pl.DataFrame, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
        if settings.kind == "per_user":
            return _last_of_each_user(rows, fraction, settings.min_history, settings.whole_baskets)
        return _last_of_all(rows, fraction)

    rest, test = hold_out(everything, settings.test_fraction)
    held_items = cold_items(everything, settings.cold_items, settings.cold_seed).cast(everything.schema["item_id"])
    cold = pl.col("item_id").is_in(held_items.implode())
    test = _ordered(pl.concat([test, rest.filter(cold)]))
    train, validation = hold_out(rest.filter(~cold), settings.validation_fraction)
    return train, validation, test, held_items


def _leaves_something(dataset: Dataset, everything: pl.DataFrame, settings: SplitConfig) -> bool:
    if settings.kind != "impressions":
        return not _divide(everything, settings)[0].is_empty()
    begins = [moment for moment in impression_cut_times(dataset, settings) if moment is not None]
    return not (begins and _cut(everything, min(begins))[0].is_empty())


def impression_cut_times(dataset: Dataset, config: SplitConfig) -> tuple[int | None, int | None]:
    """When the validation and the test impressions begin, in unix seconds; None: there are none.

    Raises:
        SplitError: The dataset has no impressions.
    """
    interactions = dataset.interactions()
    if "impression_id" in interactions.collect_schema().names():
        shown = interactions.filter(pl.col("impression_id").is_not_null()).group_by("impression_id")
        times = shown.agg(pl.col("timestamp").min()).collect(engine="streaming")["timestamp"].sort()
    else:
        times = pl.Series([], dtype=pl.Int64)
    if times.is_empty():
        raise SplitError(
            f"The dataset {dataset.name} has no impressions to split by (column `impression_id`). Remedy: choose "
            "another `data.split.kind`."
        )
    test = _beginning(times, config.test_fraction)
    before = times if test is None else times.filter(times < test)
    return _beginning(before, config.validation_fraction), test


def held_out_events(
    dataset: Dataset, parts: Split, part: Literal["validation", "test"], users: pl.Series | None = None
) -> pl.DataFrame:
    """Every event of a held-out period, positive or not, with the columns of ``interactions``.

    The complement of `Split.observed`: per user (``per_user``) or for all (``global``), what happened from the part's
    first positive on, and for validation before the test part begins. A (user, item) seen in the earlier parts is left
    out, and so are users without a positive or an event in them or in this part.

    Args:
        dataset: The data.
        parts: Its split; that of `some_users` if only some are trained on.
        part: Which period.
        users: Ids of the users whose events are wanted; None: all.
    """
    # Positives held out for their item say nothing about time.
    parts = replace(parts, test=parts.test.filter(~pl.col("item_id").is_in(list(parts.cold))))
    held = parts.validation if part == "validation" else parts.test
    if held.is_empty():
        return dataset.interactions().limit(0).collect()

    def own(frame: pl.DataFrame) -> pl.DataFrame:
        if users is None:
            return frame
        coded = users.cast(frame.schema["user_id"], strict=False).drop_nulls()
        return frame.filter(pl.col("user_id").is_in(coded.implode()))

    interactions = dataset.interactions()
    if users is not None:
        interactions = interactions.filter(pl.col("user_id").is_in(users.implode()))
    everything = interactions.collect(engine="streaming")
    codes = IdCodes.of(everything, "length")

    def before(held_out: pl.DataFrame) -> pl.DataFrame:
        # The first time of a held-out part may count for everybody, also if it is another user's.
        begin = _begin(held_out, parts.kind)
        events, trained, last = map(codes.coded, (everything, own(parts.train_and_validation), own(held_out)))
        return as_text(_observed(events, trained, last, begin))

    learned = own(parts.observed).select(pl.col(_PAIR).cast(pl.String))
    if part == "test":
        seen, last = before(parts.test), everything
    else:
        seen = learned
        last = everything if parts.test.is_empty() else before(parts.test)
        # Everything about cold items is test, whenever it happened.
        last = last.filter(~pl.col("item_id").is_in(list(parts.cold)))
    if parts.kind == "global":
        late = last.filter(pl.col("timestamp") >= held["timestamp"].min())
    else:
        first = held.group_by("user_id").agg(pl.col("timestamp").min().alias("__start"))
        joined = last.join(first, on="user_id", how="inner", maintain_order="left")
        late = joined.filter(pl.col("timestamp") >= pl.col("__start")).drop("__start")
    asked = late.select(pl.col("user_id").unique())
    known = pl.concat(
        [frame.select("user_id").join(asked, on="user_id", how="semi") for frame in (parts.train, learned, held)]
    )
    late = late.join(known.unique(), on="user_id", how="semi", maintain_order="left")
    return late.join(seen.select(_PAIR), on=_PAIR, how="anti", maintain_order="left")


def cold_items(positives: pl.DataFrame, share: float, seed: int) -> pl.Series:
    """Items to hold out, sorted: ``ceil(share)`` of those with a positive, determined by the seed alone.

    A larger share includes the items of a smaller one.
    """
    items = positives["item_id"].unique().cast(pl.String).sort()
    chosen = items.sample(fraction=1.0, shuffle=True, seed=seed)
    return chosen.head(held_out_of(items.len(), share)).sort()


def without_validation(config: DataConfig) -> DataConfig:
    """The same config with the validation part returned to training."""
    return config.model_copy(update={"split": config.split.model_copy(update={"validation_fraction": 0.0})})


def training_part(dataset: Dataset, config: Config) -> Split:
    """The split that the finished model was trained on: with ``refit``, it includes validation."""
    data = without_validation(config.data) if config.training.refit else config.data
    return some_users(split(dataset, data), config.data.split.train_users, config.seed)


def some_users(parts: Split, share: float, seed: int) -> Split:
    """The split with training and validation parts limited to a share of its users; the test part stays complete.

    Users are taken in an order that depends on the seed alone, so a larger share includes the users of a smaller one.
    """
    if share >= 1.0:
        return parts
    users = parts.train["user_id"].unique().sort()
    chosen = users.sample(fraction=1.0, shuffle=True, seed=seed).head(math.ceil(users.len() * share))
    kept = pl.col("user_id").cast(pl.String).is_in(chosen.implode())
    return replace(
        parts,
        train=parts.train.filter(kept),
        validation=parts.validation.filter(kept),
        observed=parts.observed.filter(kept),
    )


def _by_impressions(dataset: Dataset, everything: pl.DataFrame, config: DataConfig) -> Split:
    validation_begin, test_begin = impression_cut_times(dataset, config.split)
    rest, test = (everything, everything.clear()) if test_begin is None else _cut(everything, test_begin)
    train, validation = (rest, rest.clear()) if validation_begin is None else _cut(rest, validation_begin)
    if train.is_empty():
        raise _nothing_left(dataset, everything, config)
    held_out = pl.concat([validation, test]).lazy().select(_PAIR)
    observed = dataset.interactions().join(held_out, on=_PAIR, how="anti", maintain_order="left")
    begins = [moment for moment in (validation_begin, test_begin) if moment is not None]
    if begins:
        # Unlike `global`: an impression without a click is held out as well, though it has no positive.
        observed = observed.filter(pl.col("timestamp") < min(begins))
    return Split("global", train, validation, test, observed.collect(engine="streaming"))


def _cut(frame: pl.DataFrame, moment: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    return frame.filter(pl.col("timestamp") < moment), frame.filter(pl.col("timestamp") >= moment)


def _beginning(times: pl.Series, fraction: float) -> int | None:
    """The time at which the last ``fraction`` of sorted times begins; None if there is no such time."""
    wanted = held_out_of(times.len(), fraction)
    return int(times[times.len() - wanted]) if wanted else None


def _nothing_left(dataset: Dataset, everything: pl.DataFrame, config: DataConfig) -> SplitError:
    reason, remedy = no_training_data_remedy(
        config.split, everything, lambda settings: _leaves_something(dataset, everything, settings)
    )
    return SplitError(f"The split leaves nothing to train on: {reason}. Remedy: {remedy}.")


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Sorts by user, shorter ids first, then `by_time`; coded ids are in that order."""
    if frame.schema["user_id"] == pl.String:
        return frame.sort(*by_length("user_id"), *by_time())
    return frame.sort("user_id", "timestamp", "item_id")


def held_out_of(count: int, fraction: float) -> int:
    """How many of ``count`` a fraction holds out, rounded up."""
    return math.ceil(count * fraction - EPSILON)


def _last_of_each_user(
    ordered: pl.DataFrame, fraction: float, least: int, whole_baskets: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    count = pl.len().over("user_id")
    position = pl.int_range(pl.len()).over("user_id")
    held = (position >= count - (count * fraction - EPSILON).ceil()) & (position >= least)
    if whole_baskets:
        time = pl.col("timestamp")
        cut, first = time.filter(held).min().over("user_id"), time.min().over("user_id")
        held = pl.when(cut > first).then(time >= cut).otherwise((time > first) & cut.is_not_null())
    marked = ordered.with_columns(held.alias("held"))
    return marked.filter(~pl.col("held")).drop("held"), marked.filter("held").drop("held")


def _last_of_all(ordered: pl.DataFrame, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    wanted = held_out_of(ordered.height, fraction)
    if wanted == 0 or ordered.is_empty():
        return ordered, ordered.clear()
    times = ordered["timestamp"].sort()
    moment = times[max(ordered.height - wanted, 0)]
    return ordered.filter(pl.col("timestamp") < moment), ordered.filter(pl.col("timestamp") >= moment)


def _begin(held_out: pl.DataFrame, kind: str) -> int | None:
    """When a held-out part begins for everybody, unix seconds; None: for each user at another time, or never."""
    if kind != "global" or held_out.is_empty():
        return None
    return int(held_out["timestamp"].min())  # type: ignore[arg-type]  # not empty


def _observed(events: pl.DataFrame, train: pl.DataFrame, held_out: pl.DataFrame, begin: int | None) -> pl.DataFrame:
    """What was known before the held-out part, which begins at `_begin`: see `Split.observed`. Ids are coded alike."""
    if begin is not None:
        events = events.filter(pl.col("timestamp") < begin)
    elif held_out.is_empty():
        return events
    else:
        first = held_out.group_by("user_id").agg(pl.col("timestamp").min())
        ends = np.full(count_of(events["user_id"]), np.iinfo(np.int64).max)
        ends[first["user_id"].to_physical()] = first["timestamp"]
        end = pl.Series(ends[events["user_id"].to_physical()])
        # Of the events at exactly the cut time, only those of training positives are known to precede it.
        at_end = (events["timestamp"] == end).arg_true()
        trained = at_end.filter(pair_keys(events[at_end]).is_in(pair_keys(train).implode()))
        early = (events["timestamp"] < end).to_numpy(writable=True)
        early[trained] = True
        events = events.filter(early)
    return events.filter(~pair_keys(events).is_in(pair_keys(held_out).implode()))
