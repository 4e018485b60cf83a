"""Default settings on five small data sets, compared with popularity, item-kNN and EASE: same split, same metrics.

A run uses a YAML file with only a `data` section. A baseline's settings are chosen from the grids below
on the validation part, then it is trained on the training and validation part. The figures are for the test part, with
the whole catalogue ranked. Babelrec must be as good as the best baseline: the ratio of NDCG@10 is at least 1, or at
least 0.98 with a paired 95 % interval of the difference, over users, that contains 0.
"""

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.baselines.config import parse
from benchmarks.baselines.neighbours import ITEM_KNN
from benchmarks.baselines.problem import Problem, test_problem, validation_problem
from benchmarks.baselines.settings import Baseline
from benchmarks.baselines.simple import EASE, POPULARITY
from benchmarks.harness.runner import Result, StoringOptions, run
from benchmarks.harness.runs import run_of
from benchmarks.harness.table import Bar, Table, at_least
from benchmarks.quality.small_data import ALL, SmallData
from benchmarks.quality.suites.suite import OURS
from serving.arguments import argument
from trainer.config.base import Settings
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import BlockScorer, rank_in_blocks
from trainer.evaluation.protocols.collaborative import evaluate_collaborative

_METRICS = ("recall@10", "ndcg@10")
_CRITERION = "ndcg@10"
_LEAST = 0.98
_GRIDS: tuple[tuple[Baseline, dict[str, tuple[Any, ...]]], ...] = (
    (POPULARITY, {}),
    (ITEM_KNN, {"weighting": ("cosine", "tfidf", "bm25"), "neighbours": (10, 50, 200, 1000)}),
    (EASE, {"regularization": (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)}),
)
_NAMES = [each.name for each in ALL]
_Users = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class _Options(StoringOptions):
    data: list[str] = argument(
        "--data", nargs="+", choices=_NAMES, default=_NAMES, metavar="NAME", help=f"from {', '.join(_NAMES)}"
    )
    seeds: list[int] = argument("--seeds", nargs="+", type=int, default=[42], help="training seeds (default: 42)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, evaluates, writes and prints; returns 0, 1 while a bar does not hold, 2 for errors."""
    packages = ("tensorflow", "numpy", "scipy", "implicit")
    return run("quality.small", __doc__, _Options, _measure, _page, arguments, packages=packages)


def _measure(options: _Options, console: Console) -> Result:
    rows = []
    for each in ALL:
        if each.name in options.data:
            console.print(f"{each.name}: {each.what}", highlight=False)
            rows.append(measure_data(each, options.output.parent / "small", options.seeds))
    return {"data": rows, "bars": [bar_of(row) for row in rows]}


def measure_data(data: SmallData, folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """One data set: every baseline, and Babelrec as the mean over seeds.

    Args:
        data: The data set.
        folder: Folder of the data.
        seeds: Seeds of Babelrec's runs.
    """
    configs = [parse_config({**data.config(folder / "data"), "seed": seed}, data.name) for seed in seeds]
    problem = test_problem(configs[0].data, seeds[0])
    models: dict[str, dict[str, Any]] = {}
    users: dict[str, _Users] = {}
    for baseline, grid in _GRIDS:
        started = time.monotonic()
        chosen = choose(baseline, grid, validation_problem(configs[0].data, seeds[0]), seeds[0])
        users[baseline.name] = per_user(problem, baseline.fit(problem, chosen, seeds[0]))
        models[baseline.name] = {"settings": chosen.model_dump(), "seconds": round(time.monotonic() - started, 1)}
    ours, seconds = zip(*(_ours(config) for config in configs), strict=True)
    users[OURS] = {metric: np.mean([each[metric] for each in ours], axis=0) for metric in _METRICS}
    models[OURS] = {"settings": {}, "seconds": max(seconds), "seeds": list(seeds)}
    for name, values in users.items():
        models[name] |= {metric: float(values[metric].mean()) for metric in _METRICS}
    best = max((baseline.name for baseline, _ in _GRIDS), key=lambda name: models[name][_CRITERION])
    difference = users[OURS][_CRITERION] - users[best][_CRITERION]
    return {
        "data": data.name,
        "what": data.what,
        "users": problem.test.num_users,
        "items": problem.test.num_items,
        "models": models,
        "best_baseline": best,
        "ratio": models[OURS][_CRITERION] / models[best][_CRITERION],
        "difference": float(difference.mean()),
        "interval": [float(end) for end in bootstrap_interval(difference[:, np.newaxis])[0]],
    }


def choose(baseline: Baseline, grid: Mapping[str, Sequence[Any]], problem: Problem, seed: int) -> Settings:
    """The settings of the grid with the best NDCG@10 on a validation part; the first one on ties."""
    candidates = [parse(baseline, dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]
    if len(candidates) == 1:
        return candidates[0]
    quality = [per_user(problem, baseline.fit(problem, each, seed))[_CRITERION].mean() for each in candidates]
    return candidates[int(np.argmax(quality))]


def per_user(problem: Problem, score: BlockScorer) -> _Users:
    """Metric -> float [U], by the code that evaluates Babelrec."""
    rankings = rank_in_blocks(score, problem.test.num_users, problem.test.num_items, problem.train, 10)
    values = ranking_metrics(rankings, problem.test, ks=(10,)).values
    return {metric: values[metric] for metric in _METRICS}


def _ours(config: Config) -> tuple[_Users, float]:
    run = run_of(config)
    report = evaluate_collaborative(run)
    assert report.users is not None
    # In the order of the problem's users: both are sorted by id.
    return {metric: report.users[metric].to_numpy() for metric in _METRICS}, float(run.read("history.json")["seconds"])


def bar_of(row: Mapping[str, Any]) -> Bar:
    """Babelrec must be as good as the best baseline, within chance."""
    low, high = row["interval"]
    name = f"{row['data']}: NDCG@10 / {row['best_baseline']}'s"
    return at_least(name, row["ratio"], _LEAST if low <= 0.0 <= high else 1.0)


def _page(result: Result) -> list[Table | str]:
    names = [*(baseline.name for baseline, _ in _GRIDS), OURS]
    figures, changes = [], []
    for row in result["data"]:
        models, best = row["models"], row["best_baseline"]
        quality = (f"{models[name]['ndcg@10']:.4f}" for name in names)
        figures.append(
            [row["data"], f"{row['users']:,}", f"{row['items']:,}", *quality, f"{models[OURS]['seconds']:.0f}"]
        )
        low, high = row["interval"]
        recall = models[OURS]["recall@10"] - models[best]["recall@10"]
        changes.append([row["data"], best, f"{row['difference']:+.4f} [{low:+.4f}, {high:+.4f}]", f"{recall:+.4f}"])
    return [
        Table("NDCG@10 on the test part", ("data", "users", "items", *names, "fit s"), figures),
        Table(
            "Babelrec minus the best baseline, with a paired 95 % interval",
            ("data", "best baseline", "NDCG@10", "Recall@10"),
            changes,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
