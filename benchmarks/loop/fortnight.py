"""A simulated fortnight: a living system, which hears and learns, against one that is frozen, and one retrained."""

import gc
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Bar, Table, at_least, at_most
from benchmarks.loop.served import ModelPolicy
from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.dataset import log_of, write_tables
from benchmarks.simulation.driver import Run as Visits
from benchmarks.simulation.driver import figures
from benchmarks.simulation.driver import run as run_policy
from benchmarks.simulation.events import interactions
from benchmarks.simulation.lists import Shown
from benchmarks.simulation.memory import Memory
from benchmarks.simulation.policies import EpsilonGreedy, Popularity
from benchmarks.simulation.settings import WorldSettings, read_settings
from benchmarks.simulation.world import Requests, World
from serving.arguments import argument
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.data.dataset import Dataset
from trainer.runs import Run
from trainer.training.fit import fit
from trainer.updating.challenge import challenge, new_positives
from trainer.updating.settings import UpdateConfig

FROZEN, SERVICE, LIVING, RETRAINED = "frozen export", "frozen model in the service", "living", "retrained every night"
SMALL: Final = "ko"
POSITIVES: Final[dict[str, float | None]] = {"click": None}
_PART: Final = 1
_EPSILON: Final = 0.3


def world_settings(people: int, visits_a_day: float, days: int) -> WorldSettings:
    """Four languages, one of them with 2 % of the visits; 30 % of the items younger than a fortnight; tastes drift."""
    languages = "{en: {share: 0.5, countries: {US: 1.0}}, zh: {share: 0.3, countries: {CN: 1.0}}, "
    languages += "ar: {share: 0.18, countries: {EG: 1.0}}, ko: {share: 0.02, countries: {KR: 1.0}}}"
    changes = [f"people.count={people}", f"people.visits_a_day={visits_a_day}", f"days={days}"]
    return read_settings(None, [*changes, f"languages={languages}"])


def model_config(dataset: Path, seed: int) -> Config:
    """Of the first model, and of those that are retrained."""
    return parse_config(
        {
            "name": "simulation",
            "seed": seed,
            "data": {
                "source": {"name": "dataset", "path": str(dataset)},
                "positives": POSITIVES,
                "split": {"kind": "global", "test_fraction": 0.0, "validation_fraction": 0.1, "min_positives": 1},
            },
            "model": {"query": {"history_length": 30}, "candidate": {"text_noise": 0.5, "feature_dropout": 0.1}},
            "training": {"epochs": 12, "patience": 4, "learning_rate": 4e-3, "warmup_steps": 50, "histograms": False},
        },
        "the simulation's model",
    )


@dataclass(frozen=True, eq=False)
class System:
    """What one system did in the fortnight.

    Attributes:
        visits: All of them.
        seconds: Processor seconds of its trainings.
        trainings: Their number.
        refused: Updates that the gate refused.
    """

    visits: Visits
    seconds: float
    trainings: int
    refused: int

    def ctr(self, language: int | None = None) -> float:
        """Exact expectation of the clicks over items shown."""
        return figures(self.visits, self.visits.expected, language).ctr


Night = Callable[[Run, Dataset, int, Path], tuple[Run, bool]]
"""Champion, data, the night's number and a folder -> the next champion, and whether an update was refused."""


def fortnight(
    world: World, folder: Path, *, warm_up: int, days: int, settings: UpdateConfig, advance: Callable[[str], None]
) -> dict[str, System]:
    """Runs all four systems in one world.

    All of them begin with the same model, which has learned from `warm_up` days of lists by popularity, a share of them
    at random. *frozen export* answers with it, its catalogue and its histories; the others hear every click at once and
    know new items by their texts. *living* learns on every night behind its gate, *retrained* from scratch.

    Args:
        world: The world.
        folder: For data and runs, which are deleted when they are no longer needed.
        warm_up: Days before.
        days: Days of the fortnight.
        settings: Of updates.
        advance: Called with what has been done.
    """
    memory = world.memory()
    policies = {name: ModelPolicy(name, world, live=name != FROZEN) for name in (FROZEN, SERVICE, LIVING, RETRAINED)}

    warm = EpsilonGreedy(world, Popularity(world), _EPSILON)
    listeners = [policy.heard for policy in policies.values()]
    before = [log_of(world, warm, range(warm_up), part=_PART, memory=memory, listeners=listeners)]
    first = _write(world, folder / "first", before, warm_up - 1)
    started = time.process_time()
    champion = fit(model_config(first.path, world.seed), folder / "run")
    base_seconds = time.process_time() - started
    advance(f"first model ({base_seconds:.0f} processor seconds)")

    def update(run: Run, data: Dataset, number: int, place: Path) -> tuple[Run, bool]:
        since = int(run.dataset().interactions().select(pl.col("timestamp").max()).collect().item()) + 1
        kept = settings.gate.kept(len(new_positives(data, POSITIVES, since)))
        challenger, verdict = challenge(place, run, data, settings, kept=kept, since=since)
        advance(f"night {number}: {verdict.sentence}")
        return (run, True) if challenger is None or not verdict.promoted else (challenger, False)

    def retrain(run: Run, data: Dataset, number: int, place: Path) -> tuple[Run, bool]:
        found = fit(model_config(data.path, world.seed), place / "run")
        advance(f"night {number}: retrained")
        return found, False

    nights: dict[str, Night] = {LIVING: update, RETRAINED: retrain}
    span = range(warm_up, warm_up + days)
    found = {}
    for name, policy in policies.items():
        place, night = folder / f"of {name}", nights.get(name)
        found[name] = _live(world, policy, champion, first, before, memory.copy(), span, place, night)
        advance(f"{name}: CTR {found[name].ctr():.4f}")
    return found


def _live(
    world: World,
    policy: ModelPolicy,
    model: Run,
    first: Dataset,
    before: Sequence[pl.DataFrame],
    memory: Memory,
    span: range,
    folder: Path,
    night: Night | None,
) -> System:
    log = list(before)
    seconds, trainings, refused = 0.0, 0, 0
    parts: list[Visits] = []
    policy.serve(model, first)
    for day in span:
        if policy.name != FROZEN:
            place = folder / f"{day}"
            data = _write(world, place / "data", log, day)
            if night is not None and day > span.start:
                started = time.process_time()
                model, was_refused = night(model, data, day - span.start, place)
                seconds += time.process_time() - started
                trainings, refused = trainings + 1, refused + was_refused
            policy.serve(model, data)
            _forget_models()

        def hear(requests: Requests, shown: Shown, outcome: Outcome) -> None:
            log.append(interactions(world, requests, shown, outcome))

        parts.append(run_policy(world, policy, [day], memory=memory, listeners=[hear]))
    return System(_joined(parts), seconds, trainings, refused)


def _forget_models() -> None:
    """Neither Keras nor TensorFlow lets go of graphs of models by itself."""
    import tensorflow as tf  # after `trainer`, which chooses its Keras

    tf.keras.backend.clear_session()
    gc.collect()


def _write(world: World, path: Path, log: Sequence[pl.DataFrame], day: int) -> Dataset:
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tables(world, path, pl.concat(log), day=day, description="A simulated shop.")


def _joined(parts: Sequence[Visits]) -> Visits:
    columns = {
        name: np.concatenate([getattr(each, name) for each in parts])
        for name in ("day", "language", "shown", "observed", "expected", "best")
    }
    return Visits(**columns, targets={})


@dataclass(frozen=True)
class _Options(Options):
    people: int = argument("--people", type=int, default=3_000, help="default: %(default)s")
    visits_a_day: float = argument("--visits-a-day", type=float, default=1.0, help="of a person (default: %(default)s)")
    warm_up: int = argument("--warm-up", type=int, default=14, help="days before (default: %(default)s)")
    days: int = argument("--days", type=int, default=14, help="default: %(default)s")
    worlds: int = argument("--worlds", type=int, default=1, help="default: %(default)s")
    seed: int = argument("--seed", type=int, default=0, help="the first world's (default: %(default)s)")
    epochs: int = argument(
        "--epochs", type=int, default=UpdateConfig().epochs, help="of an update (default: %(default)s)"
    )
    folder: Path = argument(
        "--folder", type=Path, default=RESULTS / "loop" / "fortnight", metavar="DIR", help="default: %(default)s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    return run("loop.fortnight", __doc__, _Options, _run, _page, arguments, packages=("tensorflow", "numpy", "polars"))


def _run(options: _Options, console: Console) -> Result:
    settings = world_settings(options.people, options.visits_a_day, options.warm_up + options.days)
    update = UpdateConfig(epochs=options.epochs)
    worlds = []
    for seed in range(options.seed, options.seed + options.worlds):
        world, place = World(settings, seed), options.folder / f"{seed}"
        shutil.rmtree(place, ignore_errors=True)

        def advance(sentence: str, seed: int = seed) -> None:
            console.print(f"world {seed}: {sentence}", highlight=False)

        systems = fortnight(world, place, warm_up=options.warm_up, days=options.days, settings=update, advance=advance)
        worlds.append({name: _figures_of(world, each) for name, each in systems.items()})
        shutil.rmtree(place)
    facts = {"people": options.people, "days": options.days, "update_epochs": options.epochs}
    return {"options": facts, "worlds": worlds, "bars": bars(worlds)}


def _figures_of(world: World, system: System) -> dict[str, Any]:
    languages = {tag: system.ctr(place) for place, tag in enumerate(world.languages)}
    visits = system.visits
    daily = [figures(visits, visits.expected, day=day).ctr for day in np.unique(visits.day).tolist()]
    return {
        "ctr": system.ctr(),
        "languages": languages,
        "daily": daily,
        "visits": len(visits),
        "processor_seconds": system.seconds,
        "trainings": system.trainings,
        "refused": system.refused,
    }


def bars(worlds: Sequence[dict[str, Any]]) -> list[Bar]:
    """The bars of the issue, over the means of all worlds."""

    def mean(name: str, value: Callable[[dict[str, Any]], float]) -> float:
        return float(np.mean([value(world[name]) for world in worlds]))

    ctr = {name: mean(name, lambda each: each["ctr"]) for name in worlds[0]}
    small = {name: mean(name, lambda each: each["languages"][SMALL]) for name in worlds[0]}
    seconds = {name: mean(name, lambda each: each["processor_seconds"]) for name in (LIVING, RETRAINED)}
    return [
        at_least("CTR of the living system over the frozen one", ctr[LIVING] / ctr[FROZEN], 1.25),
        at_least("CTR of the living system over one retrained every night", ctr[LIVING] / ctr[RETRAINED], 0.98),
        at_most("processor time of updates over retraining", seconds[LIVING] / seconds[RETRAINED], 0.2),
        at_least("the small language, living over frozen", small[LIVING] / small[FROZEN], 1.0),
    ]


def _page(result: Result) -> Page:
    tags = list(result["worlds"][0][LIVING]["languages"])
    rows = [
        [
            f"{number}",
            name,
            f"{each['ctr']:.4f}",
            *(f"{each['languages'][tag]:.4f}" for tag in tags),
            f"{each['processor_seconds']:,.0f}",
            f"{each['refused']} of {each['trainings']}",
        ]
        for number, world in enumerate(result["worlds"])
        for name, each in world.items()
    ]
    columns = ("world", "system", "CTR", *tags, "processor s", "updates refused")
    return [Table("A simulated fortnight", columns, rows)]


if __name__ == "__main__":
    sys.exit(main())
