"""Re-ranking by diversity: time per list, and what the list gains and loses.

Each method chooses ``--k`` of 200 and 1,000 candidates, whose vectors lie around topics so that the best are alike.
Calls alternate with the product of all vectors with all, which a re-ranking that compares every pair needs first:
``ratio`` is the median over the rounds of (time of the method) / (time of that product). ``in rules`` is the whole
list by MMR with a pin, a boost and a cap, ``by score`` the same without diversity. Similarity and NDCG are those of
``serving.service.diversity.cost``.
"""

import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.table import Table
from benchmarks.harness.timing import Seconds, in_turn, note_of_other_work, percentiles, timed
from serving.arguments import argument
from serving.service.diversity import DiverseChooser, cost, dpp, mmr
from serving.service.rules import Candidate, Context, apply, rules_from
from serving.service.types import Item

_SIZES = (200, 1_000)
_STRENGTHS = (0.1, 0.3, 0.5, 0.7)
_TOPICS = 20
_ALL_PAIRS = "all pairs"
_CALLS = 5
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Options(Options):
    dimension: int = argument("--dimension", type=int, default=64, help="default: %(default)s")
    k: int = argument("--k", type=int, default=20, help="items of a list (default: %(default)s)")
    rounds: int = argument("--rounds", type=int, default=50, help="timed rounds of each call (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("speed.diversity", __doc__, _Options, _run, _page, arguments, packages=("numpy",))


def _run(options: _Options, console: Console) -> Result:
    sizes = {}
    for size in _SIZES:
        with console.status(f"{size:,} candidates"):
            vectors, scores = _candidates(size, options.dimension)
            sizes[str(size)] = {
                "times": _times(vectors, scores, options),
                "lists": _lists(vectors, scores, options.k),
            }
    return {"dimension": options.dimension, "k": options.k, "sizes": sizes}


def _candidates(size: int, dimension: int) -> tuple[Vectors, npt.NDArray[np.float64]]:
    """Vectors and falling scores: cosines to a query, as those of a two-tower model."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(_TOPICS, dimension))
    vectors = centres[rng.integers(_TOPICS, size=size)] + 0.7 * rng.normal(size=(size, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = centres[0] + centres[1] + rng.normal(size=dimension)
    scores = vectors @ (query / np.linalg.norm(query))
    order = np.argsort(-scores)
    return vectors[order].astype(np.float32), scores[order]


def _times(vectors: Vectors, scores: npt.NDArray[np.float64], options: _Options) -> dict[str, Any]:
    rows = vectors.astype(np.float64)
    candidates = [
        Candidate(Item(item_id=str(i), language="en", attributes={"seller": i % 30}), score)
        for i, score in enumerate(scores.tolist())
    ]
    rules = rules_from(
        {
            "rules": [
                {"name": "pin", "kind": "pin", "item": "50", "position": 2},
                {"name": "boost", "kind": "boost", "where": {"seller": {"in": [3, 4]}}, "multiply": 1.2},
                {"name": "cap", "kind": "cap", "per": "seller", "at_most": 2},
            ]
        }
    )
    context, k = Context(now=0), options.k
    calls: dict[str, Callable[[], object]] = {
        _ALL_PAIRS: lambda: rows @ rows.T,
        "mmr": lambda: mmr(vectors, scores, k, 0.3),
        "dpp": lambda: dpp(vectors, scores, k, 0.3),
        "in rules": lambda: apply(rules, candidates, context, k, choose=DiverseChooser(vectors, 0.3)),
        "by score": lambda: apply(rules, candidates, context, k),
    }
    for call in calls.values():
        call()
    found = in_turn({name: functools.partial(_median, call) for name, call in calls.items()}, options.rounds)
    return {
        name: {
            "milliseconds": percentiles([1e3 * each.wall for each in times]),
            "cpu_milliseconds": percentiles([1e3 * each.cpu for each in times]),
            "ratio": statistics.median(
                each.wall / pairs.wall for each, pairs in zip(times, found[_ALL_PAIRS], strict=True)
            ),
        }
        for name, times in found.items()
    }


def _median(call: Callable[[], object]) -> Seconds:
    times = [timed(call)[0] for _ in range(_CALLS)]
    return Seconds(*map(statistics.median, zip(*times, strict=True)))


def _lists(vectors: Vectors, scores: npt.NDArray[np.float64], k: int) -> list[dict[str, Any]]:
    lists = []
    for name, method in (("mmr", mmr), ("dpp", dpp)):
        for strength in _STRENGTHS:
            found = cost(vectors, scores, method(vectors, scores, k, strength))
            lists.append(
                {
                    "method": name,
                    "strength": strength,
                    "similarity_before": found.similarity_before,
                    "similarity_after": found.similarity_after,
                    "ndcg": found.ndcg,
                }
            )
    return lists


def _page(result: Result) -> list[Table | str]:
    tables: list[Table | str] = []
    for size, entry in result["sizes"].items():
        title = f"{int(size):,} candidates x {result['dimension']}, k {result['k']}"
        times = [
            [
                name,
                *(f"{each['milliseconds'][point]:.3f}" for point in ("p50", "p95")),
                f"{each['cpu_milliseconds']['p50']:.3f}",
                f"{each['ratio']:.2f}",
            ]
            for name, each in entry["times"].items()
        ]
        tables.append(Table(title, ("call", "ms p50", "ms p95", "CPU ms p50", "ratio"), times))
        lists = [
            [
                each["method"],
                f"{each['strength']}",
                *(f"{each[figure]:.4f}" for figure in ("similarity_before", "similarity_after", "ndcg")),
            ]
            for each in entry["lists"]
        ]
        tables.append(Table(f"{title}: lists", ("method", "strength", "similarity before", "after", "NDCG"), lists))
    return [*tables, *note_of_other_work(result["environment"])]


if __name__ == "__main__":
    sys.exit(main())
