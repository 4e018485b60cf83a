"""A simulated world with a known truth: what policies are worth in it, exactly and as observed (docs/simulation.md).

Without options: click-through rates of the baseline policies over twenty worlds, with their exact expectations and
those of the best lists. With ``--service`` the visitors of one world go to a running recommendation service instead,
and with ``--dataset`` a log of them is written.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.special import stdtrit

from benchmarks.harness.runner import Options, Result, progress, run
from benchmarks.harness.table import Bar, Table, at_most
from benchmarks.simulation.dataset import write_log
from benchmarks.simulation.driver import Run, best_ctr, figures, standard_errors
from benchmarks.simulation.driver import run as run_policy
from benchmarks.simulation.policies import EpsilonGreedy, KnownPolicy, Oracle, Policy, Popularity, RandomPolicy
from benchmarks.simulation.settings import WorldSettings, read_settings
from benchmarks.simulation.visitors import ServicePolicy
from benchmarks.simulation.world import World
from serving.arguments import argument
from trainer.errors import BabelrecError

_EPSILON = 0.1
_POLICIES: dict[str, Callable[[World, int], KnownPolicy]] = {
    "random": RandomPolicy,
    "popularity": Popularity,
    "epsilon-greedy": lambda world, places: EpsilonGreedy(world, Popularity(world, places), _EPSILON),
    "oracle": Oracle,
    "satisfaction-oracle": lambda world, places: Oracle(world, places, "satisfaction"),
}
# Of the difference between observed and expected: it exceeds this by chance in one of 370 comparisons.
_STANDARD_ERRORS = 3.0
_DISTANCE = "observed clicks from those expected, standard errors over the visits"
_SPEED_PEOPLE = 20_000
_WARM_PART = 1


@dataclass(frozen=True)
class _Options(Options):
    settings: Path | None = argument("--settings", type=Path, metavar="YAML", help="of the world")
    changes: list[str] = argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings, such as people.count=500"
    )
    seeds: int = argument("--seeds", type=int, default=20, help="number of worlds (default: %(default)s)")
    seed: int = argument("--seed", type=int, default=0, help="the first world's (default: %(default)s)")
    days: int = argument("--days", type=int, default=14, help="measured days (default: %(default)s)")
    warm_up: int = argument(
        "--warm-up",
        type=int,
        default=2,
        help="days of random lists before, which every policy hears of (default: %(default)s)",
    )
    places: int = argument("--places", type=int, default=10, help="length of the lists (default: %(default)s)")
    dataset: Path | None = argument("--dataset", type=Path, metavar="DIR", help="write a log as a dataset, and end")
    policy: str = argument(
        "--policy", choices=list(_POLICIES), default="epsilon-greedy", help="of that log (default: %(default)s)"
    )
    service: str | None = argument("--service", metavar="URL", help="send the visitors of one world to this service")
    key: str = argument(
        "--key",
        default=os.environ.get("BABELREC_KEY", ""),
        help="of an administrator of the service (default: $BABELREC_KEY)",
    )
    rate: float | None = argument("--rate", type=float, help="requests a second at most (default: as many as it takes)")
    clients: int = argument("--clients", type=int, default=16, help="requests at the same time (default: %(default)s)")
    now: bool = argument(
        "--now", action="store_true", default=False, help="events happen now, not at the world's time: for roll-outs"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns 0, 1 while a bar does not hold, 2 for errors."""
    return run("simulation", __doc__, _Options, _measure, _page, arguments, packages=("numpy", "polars", "httpx"))


def _measure(options: _Options, console: Console) -> Result | None:
    settings = read_settings(options.settings, options.changes)
    last = options.warm_up + options.days
    if options.days < 1 or options.warm_up < 0 or last > settings.days:
        raise BabelrecError(
            f"{options.warm_up} + {options.days} days are not within the world's {settings.days}. Remedy: give fewer, "
            f"or a longer world (--set days={last})."
        )
    if not 1 <= options.places <= settings.items.count:
        raise BabelrecError(f"--places {options.places} is not within 1 and the {settings.items.count} items. Remedy: "
                            "give another length.")  # fmt: skip
    world = World(settings, options.seed)
    if options.dataset is not None:
        dataset = write_log(world, options.dataset, _POLICIES[options.policy](world, options.places), range(last))
        console.print(f"Written to {dataset.path}: {dict(dataset.rows)}", highlight=False)
        return None
    if options.service is not None:
        return _with_service(options, world)
    return _baselines(options, settings, world, console)


def _baselines(options: _Options, settings: WorldSettings, world: World, console: Console) -> Result:
    found: dict[str, list[dict[str, Any]]] = {}
    runs: dict[str, list[Run]] = {}
    with progress(console) as bar:
        task = bar.add_task("worlds and policies", total=options.seeds * len(_POLICIES))
        for seed in range(options.seed, options.seed + options.seeds):
            each = World(settings, seed)
            for make in _POLICIES.values():
                policy = make(each, options.places)
                done = _run(options, each, policy)
                runs.setdefault(policy.name, []).append(done)
                found.setdefault(policy.name, []).append(_figures(each, done))
                bar.advance(task)
    policies = {name: _summary(rows) for name, rows in found.items()}
    bars: list[Bar] = [
        at_most(f"{name}: {_DISTANCE}", abs(standard_errors(each)), _STANDARD_ERRORS) for name, each in runs.items()
    ]
    return {
        "settings": settings.model_dump(),
        "world": _description(world),
        "seeds": options.seeds,
        "days": options.days,
        "places": options.places,
        "policies": policies,
        "visits_per_processor_second": _speed(options, settings),
        "bars": bars,
    }


def _with_service(options: _Options, world: World) -> Result:
    assert options.service is not None
    with ServicePolicy(
        world, options.service, options.key, places=options.places, rate=options.rate, clients=options.clients,
        now=options.now,
    ) as policy:  # fmt: skip
        done = run_policy(world, policy, range(options.warm_up + options.days))
        visits = len(done)
        return {
            "settings": world.settings.model_dump(),
            "world": _description(world),
            "seeds": 1,
            "days": options.warm_up + options.days,
            "places": options.places,
            "service": {
                **policy.counts,
                "visits": visits,
                "seconds": policy.seconds,
                "recommendations_per_second": visits / policy.seconds,
                "latency_ms_p50": 1000 * statistics.median(policy.latencies),
            },
            "policies": {"service": _summary([_figures(world, done)])},
            "bars": [
                at_most(f"service: {_DISTANCE}", abs(standard_errors([done])), _STANDARD_ERRORS),
                at_most("events that were not accepted", policy.counts["duplicate"] + policy.counts["rejected"], 0),
                at_most("items of answers that are not in the catalogue", policy.counts["unknown_items"], 0),
            ],
        }


def _run(options: _Options, world: World, policy: Policy) -> Run:
    memory = world.memory()
    if options.warm_up:
        days, warm = range(options.warm_up), RandomPolicy(world, options.places)
        run_policy(world, warm, days, part=_WARM_PART, memory=memory, listeners=[policy.heard], exact=False)
    return run_policy(world, policy, range(options.warm_up, options.warm_up + options.days), memory=memory)


def _figures(world: World, done: Run) -> dict[str, Any]:
    rows = {}
    for place, name in [(None, "all"), *enumerate(world.languages)]:
        observed, expected = figures(done, done.observed, place), figures(done, done.expected, place)
        best = best_ctr(done, place)
        rows[name] = {
            "visits": observed.visits,
            "share_of_visits": observed.visits / len(done),
            "observed_ctr": observed.ctr,
            "expected_ctr": expected.ctr,
            "difference": observed.ctr - expected.ctr,
            "best_ctr": best,
            "regret": best - expected.ctr,
            "purchases": expected.purchases,
            "satisfaction": expected.satisfaction,
            "satisfied": expected.satisfied,
        }
    return rows


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over worlds with the 95 % interval by Student's t; worlds without visits in a language are left out."""
    result: dict[str, Any] = {}
    for name in rows[0]:
        result[name] = {}
        for figure in rows[0][name]:
            values = [row[name][figure] for row in rows if row[name]["visits"] and np.isfinite(row[name][figure])]
            result[name][figure] = _interval(values)
    return result


def _interval(values: list[float]) -> dict[str, float | None]:
    if len(values) < 2:
        return {"mean": values[0] if values else None, "half_width": None, "standard_error": None}
    error = statistics.stdev(values) / len(values) ** 0.5
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return {"mean": statistics.fmean(values), "half_width": half, "standard_error": error}


def _description(world: World) -> dict[str, Any]:
    visits = [len(world.visits(day)) for day in world.days]
    return {
        "people": len(world.people),
        "items": len(world.items),
        "items_a_day": len(world.catalogue(0)),
        "visits_a_day": statistics.fmean(visits),
        "share_of_visits_of_the_busiest_percent": _busiest(world),
        "readable": {
            tag: float((world.items.written @ world.people.reads[world.people.language == place].T).mean())
            for place, tag in enumerate(world.languages)
        },
    }


def _busiest(world: World) -> float:
    activity = np.sort(world.people.visits_a_day)[::-1]
    return float(activity[: max(len(activity) // 100, 1)].sum() / activity.sum())


def _speed(options: _Options, settings: WorldSettings) -> dict[str, float]:
    """Visits a processor second of this process, in a world that is large enough for arrays to pay."""
    people = settings.people.model_copy(update={"count": _SPEED_PEOPLE})
    world = World(settings.model_copy(update={"people": people}), options.seed)
    found = {}
    for name, exact in (("sampled", False), ("with exact expectations", True)):
        policy = Popularity(world, options.places)
        memory = world.memory()
        # The memory's pages are touched first.
        run_policy(world, policy, [0], memory=memory, exact=False)
        started = time.process_time()
        visits = len(run_policy(world, policy, [1] if world.settings.days > 1 else [0], memory=memory, exact=exact))
        found[name] = visits / (time.process_time() - started)
    return found


def _page(result: Result) -> list[Table | str]:
    world, policies = result["world"], result["policies"]
    columns = ["policy", "CTR observed", "CTR exact", "best possible", "regret", "purchases / visit", "satisfaction"]
    names = ("observed_ctr", "expected_ctr", "best_ctr", "regret", "purchases", "satisfaction")
    rows = [[name, *(_cell(row["all"][each]) for each in names)] for name, row in policies.items()]
    languages = [name for name in next(iter(policies.values())) if name != "all"]
    shares = next(iter(policies.values()))
    parts: list[Table | str] = [
        f"{result['seeds']} world(s) of {world['people']:,} people and {world['items_a_day']:,} items a day "
        f"({world['items']:,} in all), {world['visits_a_day']:,.0f} visits a day, of which the busiest 1 % of the "
        f"people make {100 * world['share_of_visits_of_the_busiest_percent']:.0f} %; {result['days']} days, lists of "
        f"{result['places']}. Intervals are 95 %, over worlds.",
        Table("What policies are worth", columns, rows),
        *(
            Table(
                title,
                ["policy", *(f"{tag} ({100 * shares[tag]['share_of_visits']['mean']:.1f} %)" for tag in languages)],
                [[name, *(_cell(row[tag][figure]) for tag in languages)] for name, row in policies.items()],
            )
            for title, figure in (("Exact CTR by language", "expected_ctr"), ("Regret by language", "regret"))
        ),
    ]
    if "service" in result:
        service = result["service"]
        parts.append(
            f"{service['visits']:,} visits in {service['seconds']:.1f} s ({service['recommendations_per_second']:.0f} "
            f"a second; a recommendation {service['latency_ms_p50']:.1f} ms, p50); events accepted: "
            f"{service.get('accepted', 0):,}; degraded answers: {service.get('degraded', 0):,}."
        )
    else:
        parts.append(
            "Visits a processor second in this process: "
            + ", ".join(f"{name} {value:,.0f}" for name, value in result["visits_per_processor_second"].items())
            + f" ({_SPEED_PEOPLE:,} people)."
        )
    return parts


def _cell(figure: dict[str, float | None]) -> str:
    if figure["mean"] is None:
        return "-"
    half, mean = figure["half_width"], round(figure["mean"], 4)
    # Not -0.0000.
    return f"{mean if mean else 0.0:.4f}" + (f" ± {half:.4f}" if half is not None else "")


if __name__ == "__main__":
    sys.exit(main())
