"""Whether the gate refuses bad updates: data with known faults, and updates that learned from faulty data."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Table, at_least
from benchmarks.loop.fortnight import POSITIVES, model_config, world_settings
from benchmarks.simulation.dataset import log_of, write_tables
from benchmarks.simulation.policies import EpsilonGreedy, Popularity
from benchmarks.simulation.world import World
from serving.arguments import argument
from trainer.data.dataset import Dataset, write_dataset
from trainer.runs import Run
from trainer.training.fit import fit
from trainer.updating.challenge import challenge, new_positives
from trainer.updating.settings import GateConfig, UpdateConfig
from trainer.updating.verdict import Verdict

SHUFFLED: Final = "labels shuffled"
SHUFFLED_IN_TRAINING: Final = "labels shuffled in training alone"
DROPPED: Final = "a language dropped"
DOUBLED: Final = "items doubled"
SOUND: Final = "sound"
_EPSILON: Final = 0.3


def faults(
    world: World,
    folder: Path,
    *,
    warm_up: int,
    seeds: range,
    settings: UpdateConfig,
    advance: Callable[[str], None],
    kinds: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Refusals by kind of fault.

    A model that has learned from ``warm_up`` days is updated twice by a day each: the first update is sound and
    becomes the champion, the second has the fault, drawn anew for each seed.

    Args:
        world: The world.
        folder: For data and runs.
        warm_up: Days of lists by popularity, a share of them at random.
        seeds: Of the faults.
        settings: Of updates.
        advance: Called with what has been done.
        kinds: Of faults; None: all.
    """
    log = log_of(world, EpsilonGreedy(world, Popularity(world), _EPSILON), range(warm_up + 2))
    whole = write_tables(world, folder / "whole", log, day=warm_up + 1, description="A simulated shop.")
    begins = [world.settings.start + (warm_up + number) * 86_400 for number in (0, 1)]
    first = _until(whole, begins[0], folder / "first")
    champion = fit(model_config(first.path, world.seed), folder / "run")
    second = _until(whole, begins[1], folder / "second")
    challenger, verdict = _update(champion, second, folder / "update", settings, begins[0])
    assert challenger is not None
    advance(f"first update: {verdict.sentence}")
    found: dict[str, dict[str, Any]] = {}
    for kind in _KINDS if kinds is None else kinds:
        make = _KINDS[kind]
        count = 1 if kind == SOUND else len(seeds)
        refused, reasons = 0, []
        for seed in list(seeds)[:count]:
            place = folder / "faulty"
            shutil.rmtree(place, ignore_errors=True)
            data = make(whole, begins[1], place / "data", np.random.default_rng(seed), world.languages, settings)
            _, found_verdict = _update(challenger, data, place, settings, begins[1])
            refused += not found_verdict.promoted
            reasons.append(found_verdict.failed[0].name if found_verdict.failed else "")
            advance(f"{kind}: {found_verdict.sentence}")
        found[kind] = {"updates": count, "refused": refused, "reasons": sorted(set(reasons))}
    return found


def _update(
    champion: Run, data: Dataset, folder: Path, settings: UpdateConfig, since: int
) -> tuple[Run | None, Verdict]:
    """An update on a dataset instead of a store."""
    return challenge(folder, champion, data, settings, kept=settings.gate.kept(len(_new(data, since))), since=since)


def _new(data: Dataset, since: int) -> pl.DataFrame:
    return new_positives(data, POSITIVES, since)


_Make = Callable[[Dataset, int, Path, np.random.Generator, tuple[str, ...], UpdateConfig], Dataset]


def _until(data: Dataset, end: int, path: Path) -> Dataset:
    return _write(data, path, data.interactions().filter(pl.col("timestamp") < end).collect(), data.items().collect())


def _write(data: Dataset, path: Path, events: pl.DataFrame, items: pl.DataFrame) -> Dataset:
    return write_dataset(
        path,
        name=data.name,
        description=data.description,
        licence=data.licence,
        homepage=data.homepage,
        interactions=events,
        items=items,
        users=data.users(),
    )


def _shuffled(events: pl.DataFrame, which: pl.Expr, random: np.random.Generator) -> pl.DataFrame:
    """The items of some events permuted among them."""
    rows = events.with_row_index("place").filter(which)
    order = random.permutation(rows.height)
    permuted = rows.select("place").with_columns(permuted=rows["item_id"].gather(order))
    joined = events.with_row_index("place").join(permuted, on="place", how="left", maintain_order="left")
    return joined.with_columns(item_id=pl.coalesce("permuted", "item_id")).drop("place", "permuted")


def _sound(
    data: Dataset, since: int, path: Path, random: np.random.Generator, tags: tuple[str, ...], settings: UpdateConfig
) -> Dataset:
    return _write(data, path, data.interactions().collect(), data.items().collect())


def _all_shuffled(
    data: Dataset, since: int, path: Path, random: np.random.Generator, tags: tuple[str, ...], settings: UpdateConfig
) -> Dataset:
    events = _shuffled(data.interactions().collect(), pl.col("timestamp") >= since, random)
    return _write(data, path, events, data.items().collect())


def _training_shuffled(
    data: Dataset, since: int, path: Path, random: np.random.Generator, tags: tuple[str, ...], settings: UpdateConfig
) -> Dataset:
    """All that the challenger learns from, old and new, is shuffled; what it is judged by is not."""
    events = data.interactions().collect()
    newest = _new(data, since)["timestamp"].sort()
    cut = int(newest[-settings.gate.kept(len(newest))])
    return _write(data, path, _shuffled(events, pl.col("timestamp") < cut, random), data.items().collect())


def _dropped(
    data: Dataset, since: int, path: Path, random: np.random.Generator, tags: tuple[str, ...], settings: UpdateConfig
) -> Dataset:
    """A language's new events, or its items with all that happened with them."""
    tag = str(random.choice(tags))
    events, items = data.interactions().collect(), data.items().collect()
    if random.random() < 0.5:
        return _write(data, path, events.filter((pl.col("timestamp") < since) | (pl.col("language") != tag)), items)
    items = items.filter(pl.col("language") != tag)
    return _write(data, path, events.join(items, on="item_id", how="semi", maintain_order="left"), items)


def _doubled(
    data: Dataset, since: int, path: Path, random: np.random.Generator, tags: tuple[str, ...], settings: UpdateConfig
) -> Dataset:
    """Every item twice, and half of the new events with the copies."""
    events, items = data.interactions().collect(), data.items().collect()
    copied = items.with_columns(item_id="copy of " + pl.col("item_id"))
    half = pl.Series(random.random(events.height) < 0.5) & (events["timestamp"] >= since)
    copy = pl.when(half).then("copy of " + pl.col("item_id")).otherwise("item_id").alias("item_id")
    moved = events.with_columns(copy)
    return _write(data, path, moved, pl.concat([items, copied]))


_KINDS: Final[dict[str, _Make]] = {
    SOUND: _sound,
    DROPPED: _dropped,
    DOUBLED: _doubled,
    SHUFFLED: _all_shuffled,
    SHUFFLED_IN_TRAINING: _training_shuffled,
}


@dataclass(frozen=True)
class _Options(Options):
    people: int = argument("--people", type=int, default=2_000, help="default: %(default)s")
    warm_up: int = argument("--warm-up", type=int, default=10, help="days before (default: %(default)s)")
    faults: int = argument("--faults", type=int, default=20, help="of each kind (default: %(default)s)")
    seed: int = argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
    only: list[str] = argument("--only", nargs="+", choices=tuple(_KINDS), default=list(_KINDS), help="default: all")
    folder: Path = argument(
        "--folder", type=Path, default=RESULTS / "loop" / "gate", metavar="DIR", help="default: %(default)s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    return run(
        "loop.gate_faults", __doc__, _Options, _run, _page, arguments, packages=("tensorflow", "numpy", "polars")
    )


def _run(options: _Options, console: Console) -> Result:
    settings = world_settings(options.people, 1.0, options.warm_up + 2)
    shutil.rmtree(options.folder, ignore_errors=True)
    found = faults(
        World(settings, options.seed),
        options.folder,
        warm_up=options.warm_up,
        seeds=range(options.faults),
        settings=UpdateConfig(gate=GateConfig(least=50)),
        advance=lambda sentence: console.print(sentence, highlight=False),
        kinds=options.only,
    )
    shutil.rmtree(options.folder)
    bars = [
        at_least(f"{kind}: refused", each["refused"] / each["updates"], 1.0)
        for kind, each in found.items()
        if kind != SOUND
    ]
    return {"people": options.people, "kinds": found, "bars": bars}


def _page(result: Result) -> Page:
    rows = [
        [kind, f"{each['refused']} of {each['updates']}", ", ".join(filter(None, each["reasons"]))]
        for kind, each in result["kinds"].items()
    ]
    return [Table("Updates that the gate refuses", ("fault", "refused", "first reasons"), rows)]


if __name__ == "__main__":
    sys.exit(main())
