"""Search by exact, portable and ScaNN index compared: build time, recall, time per call.

Each index is built as by the exporter, tuned to the same recall on 512 queries, then measured on others. Calls of
the three alternate, so that other work on the machine affects all equally; processor milliseconds are affected
least. Catalogues are synthetic: items around topics of unequal size, with more or less noise, and one without any
structure, the worst case of every partition. Queries lie between two topics. All vectors have unit length.

``speedup_1`` and ``speedup_32`` are the median over the rounds of (exact search's time) / (the portable index's) of the
first catalogue, ``speedup_cpu_1`` and ``speedup_cpu_32`` the same of processor time.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.table import Table
from benchmarks.harness.timing import Seconds, in_turn, note_of_other_work, percentiles, timed
from serving.arguments import argument
from trainer.text.unit_vectors import unit

if TYPE_CHECKING:
    import tensorflow as tf

    from trainer.export.index import Index

_PACKAGES = ("tensorflow", "scann", "tensorflow-recommenders", "numpy")
_BATCH_SIZES = (1, 32)
_TUNING_QUERIES = 512
_KINDS = ("brute_force", "portable", "scann")
# Name -> noise around topics, relative to the topics' own spread; None: no topics.
_CATALOGUES = {"topics": 0.6, "blurred topics": 1.0, "no structure": None}
Vectors = npt.NDArray[np.float32]

# Queries -> scores and rows.
_Search = Callable[["tf.Tensor"], tuple["tf.Tensor", "tf.Tensor"]]


@dataclass(frozen=True)
class _Options(Options):
    items: int = argument("--items", type=int, default=100_000, help="default: %(default)s")
    dimension: int = argument("--dimension", type=int, default=64, help="default: %(default)s")
    k: int = argument("--k", type=int, default=200, help="results per query (default: %(default)s)")
    recall: float = argument("--recall", type=float, default=0.985, help="recall@100 to tune to (default: %(default)s)")
    rounds: int = argument("--rounds", type=int, default=15, help="timed rounds of each index (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("speed.index", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    catalogues = {}
    for name, noise in _CATALOGUES.items():
        with console.status(f"{name}: {options.items:,} items"):
            catalogues[name] = _measure(*synthetic_vectors(options.items, options.dimension, noise), options)
    first = next(iter(catalogues.values()))
    return {
        **{f"speedup_{size}": first["speedup"][str(size)]["wall"] for size in _BATCH_SIZES},
        **{f"speedup_cpu_{size}": first["speedup"][str(size)]["cpu"] for size in _BATCH_SIZES},
        "items": options.items,
        "dimension": options.dimension,
        "k": options.k,
        "recall_target": options.recall,
        "catalogues": catalogues,
    }


def synthetic_vectors(items: int, dimension: int, noise: float | None) -> tuple[Vectors, Vectors]:
    """Catalogue [N, D] and queries [1024, D]."""
    rng = np.random.default_rng(0)
    # Trained spaces use a few directions strongly and many weakly.
    scale = 1 / np.sqrt(1 + np.arange(dimension) / 8)
    queries = 2 * _TUNING_QUERIES

    def normal(count: int) -> npt.NDArray[np.float64]:
        return rng.normal(size=(count, dimension)) * (1.0 if noise is None else scale)

    if noise is None:
        return unit(normal(items)).astype(np.float32), unit(normal(queries)).astype(np.float32)
    topics = max(1, items // 100)
    share = 1 / np.arange(1, topics + 1) ** 0.7
    share /= share.sum()
    centres = normal(topics)
    catalogue = centres[rng.choice(topics, items, p=share)] + noise * normal(items)
    pairs, weight = rng.choice(topics, (queries, 2), p=share), rng.random((queries, 1))
    mixed = weight * centres[pairs[:, 0]] + (1 - weight) * centres[pairs[:, 1]]
    return unit(catalogue).astype(np.float32), unit(mixed + 0.4 * normal(queries)).astype(np.float32)


def _measure(vectors: Vectors, queries: Vectors, options: _Options) -> dict[str, Any]:
    import tensorflow as tf

    from trainer.config.settings import Config
    from trainer.export.build import make_index
    from trainer.export.index import recall_of_exact

    variable = tf.Variable(vectors, trainable=False)
    tuning, measured = tf.constant(queries[:_TUNING_QUERIES]), tf.constant(queries[_TUNING_QUERIES:])
    indexes: dict[str, Any] = {}
    searches: dict[str, _Search] = {}
    for kind in _KINDS:
        settings = {"index": kind, "recall_target": options.recall, "candidates": options.k}
        began = time.perf_counter()
        index, card = make_index(Config.model_validate({"export": settings}), variable, tuning)
        seconds = time.perf_counter() - began
        recall = recall_of_exact(index, measured, variable.value(), min(100, len(vectors)))
        used = {name: value for name, value in card.items() if value is not None and name != "recall"}
        indexes[kind] = {"seconds_to_build_and_tune": seconds, "recall@100": recall, "settings": used, "calls": {}}
        searches[kind] = _graph(index, options.k, len(vectors), vectors.shape[1])
    speedup = {}
    for size in _BATCH_SIZES:
        rounds = _time(searches, tf.constant(measured[:size]), options.rounds)
        for kind, times in rounds.items():
            indexes[kind]["calls"][str(size)] = {
                "milliseconds": percentiles([1e3 * each.wall for each in times]),
                "cpu_milliseconds": percentiles([1e3 * each.cpu for each in times]),
                "queries_per_second": size / statistics.median(each.wall for each in times),
            }
        pairs = list(zip(rounds["brute_force"], rounds["portable"], strict=True))
        speedup[str(size)] = {
            "wall": statistics.median(exact.wall / portable.wall for exact, portable in pairs),
            "cpu": statistics.median(exact.cpu / portable.cpu for exact, portable in pairs),
        }
    return {"indexes": indexes, "speedup": speedup}


def _graph(index: "Index", k: int, items: int, dimension: int) -> _Search:
    import tensorflow as tf

    count = min(k, items)
    search: _Search = tf.function(
        lambda queries: index.search(queries, tf.constant(count)),
        input_signature=[tf.TensorSpec([None, dimension], tf.float32)],
        autograph=False,
    )
    return search


def _time(searches: dict[str, _Search], queries: "tf.Tensor", rounds: int) -> dict[str, list[Seconds]]:
    """Each index's rounds; a round is the median of ten calls."""
    for search in searches.values():
        for _ in range(5):
            search(queries)

    def ten(search: _Search) -> Seconds:
        times = [timed(lambda: search(queries)[1].numpy())[0] for _ in range(10)]
        return Seconds(*map(statistics.median, zip(*times, strict=True)))

    return in_turn({kind: functools.partial(ten, search) for kind, search in searches.items()}, rounds)


def _page(result: Result) -> list[Table | str]:
    sizes = [str(size) for size in _BATCH_SIZES]
    columns = ("index", "build s", "recall@100", "leaves", *(f"ms/{n}" for n in sizes), *(f"CPU ms/{n}" for n in sizes))
    tables = []
    for name, catalogue in result["catalogues"].items():
        rows = []
        for kind, entry in catalogue["indexes"].items():
            used, calls = entry["settings"], [entry["calls"][size] for size in sizes]
            rows.append(
                [
                    kind,
                    f"{entry['seconds_to_build_and_tune']:.1f}",
                    f"{entry['recall@100']:.4f}",
                    f"{used['leaves_to_search']} of {used['leaves']}" if "leaves" in used else "all",
                    *(f"{call['milliseconds']['p50']:.2f}" for call in calls),
                    *(f"{call['cpu_milliseconds']['p50']:.2f}" for call in calls),
                ]
            )
        title = f"{result['items']:,} x {result['dimension']}, k {result['k']}: {name}"
        tables.append(Table(title, columns, rows))
    return [*tables, "ms/32: milliseconds per call with 32 queries.", *note_of_other_work(result["environment"])]


if __name__ == "__main__":
    sys.exit(main())
