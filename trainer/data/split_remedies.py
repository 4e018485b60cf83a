"""Remedies for a split that leaves nothing: only settings that were tried and found to work."""

import math
from collections.abc import Callable, Iterator, Mapping

import polars as pl

from serving.service.types import EVENTS
from trainer.data.dataset import Dataset
from trainer.data.settings import SplitConfig

_FEW = 3


def no_training_data_remedy(
    settings: SplitConfig, everything: pl.DataFrame, leaves: Callable[[SplitConfig], bool]
) -> tuple[str, str]:
    """Why a split leaves nothing to train on, and the changes that were found to help.

    Args:
        settings: The settings that left nothing.
        everything: The positives to split.
        leaves: Whether the split with given settings leaves positives to train on.

    Returns:
        Reason and remedy, without full stops.
    """
    counts = everything["user_id"].value_counts()["count"]
    most = int(counts.max() or 0)  # type: ignore[arg-type]
    reason = (
        f"{everything.height:,} positives of {counts.len():,} users, at most {most:,} a user, `data.split.kind` = "
        f"{settings.kind}, `data.split.test_fraction` = {settings.test_fraction:g}, "
        f"`data.split.validation_fraction` = {settings.validation_fraction:g}"
    )
    if settings.cold_items:
        reason += f", `data.split.cold_items` = {settings.cold_items:g}"
    if settings.kind == "per_user":
        reason += "; each part takes at least one positive from every user, unless its fraction is 0"
    found = []
    for changes, consequence in _candidates(settings, most):
        if leaves(settings.model_copy(update=dict(changes))):
            named = " and ".join(f"`data.split.{name}: {_yaml(value)}`" for name, value in changes.items())
            found.append(named + consequence)
        if len(found) == _FEW:
            break
    if not found:
        return reason, "provide more positives (`data.positives`, `data.split.min_positives`)"
    return reason, f"set {', or '.join(found)}"


def no_positives_remedy(dataset: Dataset, rules: Mapping[str, float | None], matching: pl.DataFrame) -> str:
    """What to change when no user has enough positives.

    Args:
        dataset: The data.
        rules: `data.positives`.
        matching: The distinct (user, item) pairs that the rules select.
    """
    if not matching.is_empty():
        most = int(matching["user_id"].value_counts()["count"].max())  # type: ignore[arg-type]
        return f"set `data.split.min_positives` to {most} or less: no user has more than {most}"
    events = dataset.interactions().group_by("event").agg(pl.len(), pl.col("value").max())
    found = {event: (count, value) for event, count, value in events.collect(engine="streaming").iter_rows()}
    remedies = [
        f"lower `data.positives.{event}` ({least:g}): the largest value of a `{event}` is {found[event][1]:g}"
        for event, least in rules.items()
        if event in found and least is not None and found[event][1] is not None
    ]
    remedies += [
        f"set `data.positives.{event}: null`: no `{event}` has a value"
        for event, least in rules.items()
        if event in found and least is not None and found[event][1] is None
    ]
    others = [f"`{event}` ({found[event][0]:,})" for event in EVENTS if event in found and event not in rules]
    if others:
        remedies.append(f"list what counts as positive in `data.positives`, out of {', '.join(others)}")
    return "; or ".join(remedies) or "change `data.positives`"


def _candidates(settings: SplitConfig, most: int) -> Iterator[tuple[dict[str, object], str]]:
    """Changes from smallest to largest, with the cost of each."""
    if settings.cold_items:
        yield {"cold_items": 0.0}, ""
    lower = _down(1 / most) if settings.kind == "per_user" and most >= _FEW else None
    for fraction in [lower] if lower else [0.2, 0.1, 0.01] if settings.kind != "per_user" else []:
        test = {"test_fraction": fraction} if settings.test_fraction > fraction else {}
        validation = {"validation_fraction": fraction} if settings.validation_fraction > fraction else {}
        if test:
            yield dict(test), ""
        if validation:
            yield dict(validation), ""
        if test and validation:
            yield {**test, **validation}, ""
    for kind in ("global", "per_user"):
        if kind != settings.kind:
            yield {"kind": kind}, ""
    if settings.validation_fraction:
        yield {"validation_fraction": 0.0}, " (training then has no early stopping)"
    if settings.test_fraction:
        yield {"test_fraction": 0.0}, " (nothing is then left to evaluate on)"
    yield {"test_fraction": 0.0, "validation_fraction": 0.0}, " (nothing is then left to evaluate on)"


def _down(share: float) -> float:
    """The share rounded down to two significant digits."""
    scale = 10.0 ** (1 - math.floor(math.log10(share)))
    return math.floor(share * scale + 1e-9) / scale


def _yaml(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
