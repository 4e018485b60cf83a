"""Default settings on five small data sets, compared with popularity, item-kNN and EASE: same split, same metrics.

A run uses a YAML file with only a `data` section. A baseline's settings are chosen from the grids below
on the validation part, then it is trained on the training and validation part. The figures are for the test part, with
the whole catalogue ranked. Babelrec must be as good as the best baseline: the ratio of NDCG@10 is at least 1, or at
least 0.98 with a paired 95 % interval of the difference, over users, that contains 0.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.baselines.config import parse
from benchmarks.baselines.neighbours import ITEM_KNN
from benchmarks.baselines.problem import Problem, test_problem, validation_problem
from benchmarks.baselines.settings import Baseline
from benchmarks.baselines.simple import EASE, POPULARITY
from benchmarks.environment import environment
from benchmarks.program import measure_and_write
from benchmarks.small_data import ALL, SmallData
from benchmarks.suites.ours import run_of
from trainer.config.base import Settings
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import rank_in_blocks
from trainer.evaluation.protocols.collaborative import evaluate_collaborative

_METRICS = ("recall@10", "ndcg@10")
_CRITERION = "ndcg@10"
_LEAST = 0.98
_GRIDS: tuple[tuple[Baseline, dict[str, tuple[Any, ...]]], ...] = (
    (POPULARITY, {}),
    (ITEM_KNN, {"weighting": ("cosine", "tfidf", "bm25"), "neighbours": (10, 50, 200, 1000)}),
    (EASE, {"regularization": (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)}),
)
_Users = dict[str, npt.NDArray[np.float64]]
OURS = "babelrec"


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, evaluates, writes and prints; returns 0, 1 if a bar is not met, 2 for errors."""
    options = _parser().parse_args(arguments)
    found: dict[str, Any] = {}

    def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
        found.update(_measure(options, console))
        return found

    code = measure_and_write(options, measure, show)
    return code or int(not all(bar["holds"] for bar in found["bars"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=__doc__.splitlines()[0])
    names = [each.name for each in ALL]
    parser.add_argument(
        "--data", nargs="+", choices=names, default=names, metavar="NAME", help=f"from {', '.join(names)}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[42], help="training seeds (default: 42)")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/small.json"), help="default: %(default)s")
    return parser


def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    rows, bars = [], []
    for each in ALL:
        if each.name not in options.data:
            continue
        console.print(f"{each.name}: {each.what}", highlight=False)
        row = measure_data(each, options.output.parent / "small", options.seeds)
        rows.append(row)
        bars.append(bar_of(row))
    return {
        "schema": 1,
        "benchmark": "small",
        "environment": environment(("tensorflow", "numpy", "scipy", "implicit")),
        "data": rows,
        "bars": bars,
    }


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
        "best_peer": best,
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


def per_user(problem: Problem, score: Any) -> _Users:
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


def bar_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Whether Babelrec is as good as the best baseline, within chance."""
    low, high = row["interval"]
    holds = row["ratio"] >= 1.0 or (row["ratio"] >= _LEAST and low <= 0.0 <= high)
    return {
        "name": f"{row['data']}: NDCG@10 / {row['best_peer']}'s",
        "value": row["ratio"],
        "comparison": ">=",
        "bar": 1.0 if not low <= 0.0 <= high else _LEAST,
        "holds": bool(holds),
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """Figures and bars as tables."""
    names = [*(baseline.name for baseline, _ in _GRIDS), OURS]
    table = Table(title="NDCG@10 on the test part", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("data")
    for column in ("users", "items", *names, "fit s"):
        table.add_column(column, justify="right")
    changes = Table(title="Babelrec minus the best baseline, with a paired 95 % interval", box=SIMPLE_HEAD)
    for column in ("data", "best baseline", "NDCG@10", "Recall@10"):
        changes.add_column(column)
    for row in result["data"]:
        figures = [f"{row['models'][name]['ndcg@10']:.4f}" for name in names]
        sizes = (f"{row['users']:,}", f"{row['items']:,}")
        table.add_row(row["data"], *sizes, *figures, f"{row['models'][OURS]['seconds']:.0f}")
        low, high = row["interval"]
        recall = row["models"][OURS]["recall@10"] - row["models"][row["best_peer"]]["recall@10"]
        change = f"{row['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        changes.add_row(row["data"], row["best_peer"], change, f"{recall:+.4f}")
    console.print(table)
    console.print(changes)
    bars = Table(title="Bars", box=SIMPLE_HEAD, title_justify="left")
    for column in ("bar", "value", "at least", ""):
        bars.add_column(column)
    for bar in result["bars"]:
        style = "green" if bar["holds"] else "bold red"
        verdict = "holds" if bar["holds"] else "does not hold"
        bars.add_row(bar["name"], f"{bar['value']:.3f}", f"{bar['bar']:.2f}", verdict, style=style)
    console.print(bars)


if __name__ == "__main__":
    sys.exit(main())
