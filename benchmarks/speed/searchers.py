"""The exported index's search against ScaNN's own, hnswlib and FAISS, at equal recall.

Each finds the best ``--k`` of a made-up catalogue (that of `benchmarks.speed.index`), tuned on 512 queries to the same
recall of exact search and measured on 512 others, in batches of 32. Calls alternate; queries a processor second count.
"""

import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.table import Bar, Table, at_least
from benchmarks.harness.timing import Seconds, in_turn, timed
from benchmarks.speed.index import Vectors, synthetic_vectors
from serving.arguments import argument
from trainer.errors import BabelrecError

OURS, SCANN, HNSW, FAISS = "in the graph", "ScaNN in Python", "hnswlib", "FAISS IVF"
_TUNING: Final = 512
_BATCH: Final = 32
_OVER_SCANN, _OVER_OTHERS = 0.8, 1.5
_MODULES: Final = {HNSW: "hnswlib", FAISS: "faiss"}
Rows = npt.NDArray[np.integer]


class Searcher(Protocol):
    """Finds the rows with the largest dot products."""

    def settings(self) -> Iterator[str]:
        """Puts cheap settings first, one after another, and yields their names."""
        ...

    def search(self, queries: Vectors) -> Rows:
        """Rows [n, k] for queries [n, D]."""
        ...


class _InGraph:
    def __init__(self, vectors: Vectors, tuning: Vectors, options: "_Options") -> None:
        import tensorflow as tf

        from trainer.config.settings import Config
        from trainer.export.build import make_index

        export = {"index": "scann", "recall_target": options.recall, "candidates": options.k}
        index, self.card = make_index(
            Config.model_validate({"export": export}), tf.Variable(vectors, trainable=False), tf.constant(tuning)
        )
        self._search = tf.function(
            lambda queries: index.search(queries, tf.constant(options.k))[1],
            input_signature=[tf.TensorSpec([None, vectors.shape[1]], tf.float32)],
            autograph=False,
        )

    def settings(self) -> Iterator[str]:
        yield f"{self.card['leaves_to_search']} of {self.card['leaves']} leaves, {self.card['reorder']} exact"

    def search(self, queries: Vectors) -> Rows:
        found: Rows = self._search(queries).numpy()
        return found


class _Scann:
    """With the number of leaves and the settings that the index in the graph has."""

    def __init__(self, vectors: Vectors, card: dict[str, Any], k: int) -> None:
        from scann.scann_ops.py import scann_ops_pybind

        from trainer.export.index import ANISOTROPIC_THRESHOLD

        self._k, self._card = k, card
        builder = scann_ops_pybind.builder(vectors, k, "dot_product")
        builder = builder.tree(num_leaves=card["leaves"], num_leaves_to_search=card["leaves_to_search"])
        builder = builder.score_ah(
            card["dimensions_per_block"], anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD
        )
        self._searcher = builder.reorder(card["reorder"]).build()

    def settings(self) -> Iterator[str]:
        self._leaves = self._card["leaves_to_search"]
        while self._leaves <= self._card["leaves"]:
            yield f"{self._leaves} of {self._card['leaves']} leaves, {self._card['reorder']} exact"
            self._leaves = int(1.05 * self._leaves) + 1

    def search(self, queries: Vectors) -> Rows:
        rows: Rows = self._searcher.search_batched_parallel(
            queries,
            final_num_neighbors=self._k,
            pre_reorder_num_neighbors=self._card["reorder"],
            leaves_to_search=self._leaves,
        )[0]
        return rows


class _Hnsw:
    def __init__(self, vectors: Vectors, k: int, threads: int) -> None:
        import hnswlib

        self._k = k
        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.init_index(len(vectors), M=16, ef_construction=200, random_seed=1)
        self._index.set_num_threads(threads)
        self._index.add_items(vectors)

    def settings(self) -> Iterator[str]:
        ef = self._k
        while ef <= 64 * self._k:
            self._index.set_ef(ef)
            yield f"M 16, ef {ef}"
            ef = int(1.15 * ef) + 1

    def search(self, queries: Vectors) -> Rows:
        rows: Rows = self._index.knn_query(queries, k=self._k)[0]
        return rows.astype(np.int64)


class _Faiss:
    def __init__(self, vectors: Vectors, k: int, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._k, self._lists = k, round(4 * len(vectors) ** 0.5)
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        self._index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], self._lists, faiss.METRIC_INNER_PRODUCT)
        self._index.train(vectors)
        self._index.add(vectors)

    def settings(self) -> Iterator[str]:
        probes = 4
        while probes <= self._lists:
            self._index.nprobe = probes
            yield f"{probes} of {self._lists} lists"
            probes = int(1.15 * probes) + 1

    def search(self, queries: Vectors) -> Rows:
        rows: Rows = self._index.search(queries, self._k)[1]
        return rows


@dataclass(frozen=True)
class _Options(Options):
    items: int = argument("--items", type=int, default=100_000, help="default: %(default)s")
    dimension: int = argument("--dimension", type=int, default=64, help="default: %(default)s")
    k: int = argument("--k", type=int, default=100, help="results per query (default: %(default)s)")
    noise: float = argument("--noise", type=float, default=0.6, help="around topics (default: %(default)s)")
    recall: float = argument("--recall", type=float, default=0.98, help="to tune to (default: %(default)s)")
    rounds: int = argument("--rounds", type=int, default=15, help="timed rounds of each (default: %(default)s)")
    threads: int = argument("--threads", type=int, default=2, help="of hnswlib and FAISS (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    packages = ("tensorflow", "scann", "hnswlib", "faiss-cpu", "numpy")
    return run("speed.searchers", __doc__, _Options, _run, _page, arguments, packages=packages)


def _run(options: _Options, console: Console) -> Result:
    missing = [name for name, module in _MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise BabelrecError(f"{' and '.join(missing)} can't be imported. Remedy: pip install -e '.[bench]'.")
    vectors, queries = synthetic_vectors(options.items, options.dimension, options.noise)
    tuning, measured = queries[:_TUNING], queries[_TUNING:]
    ours = _InGraph(vectors, tuning, options)
    makers: dict[str, Callable[[], Searcher]] = {
        OURS: lambda: ours,
        SCANN: lambda: _Scann(vectors, ours.card, options.k),
        HNSW: lambda: _Hnsw(vectors, options.k, options.threads),
        FAISS: lambda: _Faiss(vectors, options.k, options.threads),
    }
    searchers: dict[str, Searcher] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, make in makers.items():
        with console.status(f"{name}: {options.items:,} items"):
            seconds, searchers[name] = timed(make)
            chosen = _tuned(searchers[name], vectors, tuning, options)
            recall = _recall(searchers[name], vectors, measured, options.k)
        found[name] = {"settings": chosen, "recall": recall, "build_processor_seconds": seconds.cpu}
        console.print(f"{name}: {chosen}, recall {recall:.4f}", highlight=False)
    calls = {name: _rounds(searcher, measured) for name, searcher in searchers.items()}
    for name, times in in_turn(calls, options.rounds).items():
        found[name]["queries_a_processor_second"] = len(measured) / statistics.median(each.cpu for each in times)
        found[name]["queries_a_second"] = len(measured) / statistics.median(each.wall for each in times)
    return {"items": options.items, "k": options.k, "searchers": found, "bars": bars(found, options.recall)}


def _tuned(searcher: Searcher, vectors: Vectors, queries: Vectors, options: _Options) -> str:
    """The name of the first settings that reach the recall, which stay; the last if none does."""
    chosen = ""
    for chosen in searcher.settings():  # noqa: B007  used after the loop
        if _recall(searcher, vectors, queries, options.k) >= options.recall:
            break
    return chosen


def _recall(searcher: Searcher, vectors: Vectors, queries: Vectors, k: int) -> float:
    hits = 0
    for start in range(0, len(queries), _BATCH):
        part = queries[start : start + _BATCH]
        exact = np.argpartition(-(part @ vectors.T), k, axis=1)[:, :k]
        rows = searcher.search(part)
        hits += sum(len(np.intersect1d(*pair)) for pair in zip(exact, rows, strict=True))
    return hits / (k * len(queries))


def _rounds(searcher: Searcher, queries: Vectors) -> Callable[[], Seconds]:
    """A function that searches all queries, batch by batch."""
    batches = [queries[start : start + _BATCH] for start in range(0, len(queries), _BATCH)]
    searcher.search(batches[0])
    return lambda: timed(lambda: [searcher.search(batch) for batch in batches])[0]


def bars(found: dict[str, dict[str, Any]], recall: float) -> list[Bar]:
    """The bars of the issue."""
    speed = {name: each["queries_a_processor_second"] for name, each in found.items()}
    return [
        at_least("recall of the index in the graph", found[OURS]["recall"], recall),
        at_least("in the graph over ScaNN in Python", speed[OURS] / speed[SCANN], _OVER_SCANN),
        at_least(
            "in the graph over the better of hnswlib and FAISS",
            speed[OURS] / max(speed[HNSW], speed[FAISS]),
            _OVER_OTHERS,
        ),
    ]


def _page(result: Result) -> Page:
    rows = [
        [
            name,
            each["settings"],
            f"{each['recall']:.4f}",
            f"{each['build_processor_seconds']:,.0f}",
            f"{each['queries_a_processor_second']:,.0f}",
            f"{each['queries_a_second']:,.0f}",
        ]
        for name, each in result["searchers"].items()
    ]
    title = f"{result['items']:,} items, the best {result['k']}, batches of {_BATCH}"
    columns = ("searcher", "settings", "recall", "build, processor s", "queries/processor s", "queries/s")
    return [Table(title, columns, rows)]


if __name__ == "__main__":
    sys.exit(main())
