"""How often the intervals of the service's figures (docs/metrics.md) have the truth of a simulated world in them."""

import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.table import Table, at_least
from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.draws import Floats, Integers
from benchmarks.simulation.driver import Run, figures
from benchmarks.simulation.driver import run as run_policy
from benchmarks.simulation.events import interactions, service_events
from benchmarks.simulation.lists import EMPTY, Shown
from benchmarks.simulation.policies import KnownPolicy, Popularity, RandomPolicy
from benchmarks.simulation.settings import WorldSettings, read_settings
from benchmarks.simulation.world import Requests, World
from serving.arguments import argument
from serving.service.outcomes import (
    OutcomeSettings,
    PersonSums,
    Report,
    Scale,
    attribute,
    figure,
    read_period,
    report_of,
)
from serving.service.store import Store, open_store
from serving.service.types import ShownItem, ShownRecommendation

METRICS: Final = ("ctr", "purchases", "satisfaction")
DAYS: Final = 7
# Smaller than the default world, since there are many; people come back often enough to be clusters.
_WORLD: Final = ("people.count=1200", "items.count=300")
# Nothing that happens changes what happens later, so that the expectation over all people is a constant.
_CONSTANT: Final = ("behaviour.fatigue={shown: 0.0, taken: 0.0}", "people.drift=0.0", "items.count=200")
_BATCH: Final = 5_000


@dataclass(frozen=True)
class Cell:
    """One interval and the truth that it should have.

    Attributes:
        metric: Its name.
        place: What it is of: world, policy and language, or a group of people and a language.
        truth: The expectation.
        value, low, high: Of the service; None: it gave no interval.
    """

    metric: str
    place: str
    truth: float
    value: float | None
    low: float | None
    high: float | None

    @property
    def covered(self) -> bool | None:
        """Whether the truth is inside; None without an interval."""
        return None if self.low is None or self.high is None else self.low <= self.truth <= self.high


def coverage(cells: Sequence[Cell]) -> dict[str, dict[str, float]]:
    """For each metric, and for ``all``: the share of intervals with the truth, their number, and cells without one."""
    found = {}
    for name in (*METRICS, "all"):
        which = [cell for cell in cells if name in (cell.metric, "all")]
        known = [cell.covered for cell in which if cell.covered is not None]
        found[name] = {
            "share": sum(known) / len(known) if known else math.nan,
            "intervals": len(known),
            "without": len(which) - len(known),
        }
    return found


def through_the_store(worlds: int, *, days: int = DAYS, first_seed: int = 0) -> list[Cell]:
    """Two policies' answers and events of some worlds go through a store; the service's figures by language come back.

    The truth is the expectation of exactly these answers (docs/simulation.md), in the states that the visits met.

    Args:
        worlds: Number of worlds, each with six languages.
        days: Of visits.
        first_seed: Of the first world; further ones follow.

    Returns:
        A cell for each metric, world, policy and language.
    """
    settings = read_settings(None, _WORLD)
    cells = []
    for seed in range(first_seed, first_seed + worlds):
        world = World(settings, seed)
        for policy in (RandomPolicy(world), Popularity(world)):
            with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{Path(folder) / 'store.db'}") as store:
                done = run_policy(world, policy, range(days), listeners=[_Logging(world, store)])
                cells += list(_compared(world, f"world {seed}, {policy.name}", done, _report(settings, store, days)))
    return cells


def of_sampled_people(groups: int, *, people: int = 20_000, days: int = DAYS, seed: int = 0) -> list[Cell]:
    """The people of one large world in random groups: each group's interval should have the expectation of all people.

    This is what the intervals promise. Answers are at random and nobody tires, so that the expectation is constant.

    Args:
        groups: Number of groups.
        people: Of the world.
        days: Of visits.
        seed: Of the world.

    Returns:
        A cell for each metric, group and language.
    """
    world = World(read_settings(None, [*_CONSTANT, f"people.count={people}"]), seed)
    policy: KnownPolicy = RandomPolicy(world)
    rated = _Ratings()
    done = run_policy(world, policy, range(days), listeners=[rated])
    person, opinions = rated.columns()
    visits = np.ones(len(done))
    observed = {
        "ctr": (done.observed[:, 0], done.shown.astype(np.float64), Scale.SHARE),
        "purchases": (done.observed[:, 1], visits, Scale.COUNT),
        "satisfaction": (opinions[:, 0], opinions[:, 1], Scale.PART),
    }
    cells = []
    for language, tag in enumerate(world.languages):
        truth = _truth(done, language)
        for group in range(groups):
            which = (done.language == language) & (person % groups == group)
            for name, (x, y, scale) in observed.items():
                found = figure(PersonSums.of(person[which], x[which], y[which]), scale)
                cells.append(Cell(name, f"group {group}, {tag}", truth[name], found.value, found.low, found.high))
    return cells


class _Logging:
    """Hears a run, and writes into a store what a service would have."""

    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store = world, store

    def __call__(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:
        world = self._world
        answers = []
        for row, visit in enumerate(requests.ids.tolist()):
            items = [item for item in shown.lists[row].tolist() if item != EMPTY]
            answers.append(
                ShownRecommendation(
                    recommendation_id=f"r-v{visit}",
                    timestamp=float(requests.timestamps[row]),
                    user_id=world.people.ids[requests.people[row]],
                    language=world.languages[requests.language[row]],
                    country=world.people.country[requests.people[row]],
                    model_version=1,
                    items=[ShownItem(item_id=world.items.ids[item], score=0.0) for item in items],
                )
            )
        events = [
            each for each in service_events(interactions(world, requests, shown, outcome)) if each.event != "impression"
        ]
        for start in range(0, len(answers), _BATCH):
            self._store.log_recommendations(answers[start : start + _BATCH])
        for start in range(0, len(events), _BATCH):
            self._store.append_events(events[start : start + _BATCH])


class _Ratings:
    """Hears a run, and keeps whose visits they were and what people said."""

    def __init__(self) -> None:
        self._people: list[Integers] = []
        self._opinions: list[Floats] = []

    def __call__(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:
        self._people.append(requests.people)
        said = (outcome.satisfaction * outcome.rated).sum(axis=1)
        self._opinions.append(np.stack([said, outcome.rated.sum(axis=1, dtype=np.float64)], axis=1))

    def columns(self) -> tuple[Integers, Floats]:
        """[V], and [V, 2]: sum and number of the satisfactions."""
        return np.concatenate(self._people), np.concatenate(self._opinions)


def _report(settings: WorldSettings, store: Store, days: int) -> Report:
    options = OutcomeSettings()
    until = settings.start + days * 86_400
    attributed = attribute(read_period(store, settings.start, until, until + options.longest_window, options), options)
    if any(attributed.uncounted.values()):
        raise AssertionError(f"events of a simulation do not count: {attributed.uncounted}")
    return report_of(attributed, ["language"], settings.items.count, options)


def _compared(world: World, place: str, done: Run, report: Report) -> Iterator[Cell]:
    for each in report.slices:
        tag = each.labels["language"]
        truth = _truth(done, list(world.languages).index(tag))
        for name in METRICS:
            found = each.metrics[name]
            yield Cell(name, f"{place}, {tag}", truth[name], found.value, found.low, found.high)


def _truth(done: Run, language: int) -> dict[str, Any]:
    expected = figures(done, done.expected, language)
    return {name: getattr(expected, name) for name in METRICS}


@dataclass(frozen=True)
class _Options(Options):
    worlds: int = argument("--worlds", type=int, default=25, help="default: %(default)s")
    seed: int = argument("--seed", type=int, default=0, help="the first world's (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    return run("loop.metrics_coverage", __doc__, _Options, _run, _page, arguments, packages=("numpy", "scipy"))


def _run(options: _Options, console: Console) -> Result:
    console.print(f"{options.worlds} worlds, two policies each.", highlight=False)
    found = coverage(through_the_store(options.worlds, first_seed=options.seed))
    bars = [at_least(f"{name}: truth inside the interval", each["share"], 0.93) for name, each in found.items()]
    return {"worlds": options.worlds, "coverage": found, "bars": bars}


def _page(result: Result) -> Page:
    rows = [
        [name, f"{each['share']:.3f}", f"{each['intervals']:,}", f"{each['without']:,}"]
        for name, each in result["coverage"].items()
    ]
    return [Table("Intervals with the truth inside", ("metric", "share", "intervals", "cells without one"), rows)]


if __name__ == "__main__":
    sys.exit(main())
