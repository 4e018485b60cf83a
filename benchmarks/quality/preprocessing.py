"""Ablation of text.preprocessing: the effect of each step on the frozen encoder, without training.

Each variant is compared with no preprocessing on the same texts: accuracy@1 over parallel titles (P4: KMRD Korean and
English, MIND English and Chinese, both directions), and Recall@10 of the mean of the history's vectors (MovieLens and
KMRD, titles only, P1's split; validation part and test part). Differences are paired, with 95 % bootstrap intervals.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.harness.runner import Options, Result, data_folder, run
from benchmarks.harness.table import Table
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.settings import KmrdSource, MovieLens100kSource, Source
from trainer.data.sources import prepare
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import rank_in_blocks
from trainer.evaluation.protocols.baselines import mean_history
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.protocols.parallel_titles import (
    ParallelTitles,
    kmrd_titles,
    mind_titles,
    nearest_is_translation,
)
from trainer.text.preparation import prepare_texts
from trainer.text.settings import PreprocessingStep, TextConfig
from trainer.text.vectors import encode_texts

Row = dict[str, Any]

_NONE = "none"
# Each step alone, then useful combinations.
VARIANTS: dict[str, list[str]] = {
    _NONE: [],
    **{step: [step] for step in get_args(PreprocessingStep)},
    "all normalisation": ["nfkc", "casefold", "controls"],
    "normalisation, numbers": ["nfkc", "casefold", "controls", "numbers"],
    "normalisation, stop words": ["nfkc", "casefold", "controls", "stop_words"],
    "normalisation, stop words, stems": ["nfkc", "casefold", "controls", "stop_words", "stem"],
}
_PACKAGES = ("tensorflow", "tensorflow-text", "numpy", "simplemma", "snowballstemmer", "stopwordsiso")


@dataclass(frozen=True)
class _Options(Options):
    data: Path = data_folder()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("quality.preprocessing", __doc__, _Options, _measure, page, arguments, packages=_PACKAGES)


def _measure(options: _Options, console: Console) -> Result:
    texts = {name: parse_config({"text": {"preprocessing": steps}}, name).text for name, steps in VARIANTS.items()}
    rows: list[Row] = []
    for titles in (kmrd_titles(options.data / "kmrd-small"), mind_titles(options.data / "mind-sample")):
        console.print(f"Parallel titles of {titles.dataset}")
        rows += parallel_rows(titles, texts)
    sources: tuple[Source, ...] = (MovieLens100kSource(), KmrdSource(path=(options.data / "kmrd-small").absolute()))
    for source in sources:
        console.print(f"Mean history on {source.name}")
        rows += history_rows(source, texts)
    return {"variants": VARIANTS, "rows": rows}


def parallel_rows(titles: ParallelTitles, texts: dict[str, TextConfig]) -> list[Row]:
    """P4 in both directions for each variant."""
    one, two = titles.languages
    languages = [one] * len(titles) + [two] * len(titles)
    hits: dict[str, dict[str, npt.NDArray[np.float64]]] = {f"{one}→{two}": {}, f"{two}→{one}": {}}
    for name, text in texts.items():
        prepared = prepare_texts([*titles.first, *titles.second], languages, text)
        vectors = encode_texts(prepared, text, progress=False)
        first, second = vectors[: len(titles)], vectors[len(titles) :]
        hits[f"{one}→{two}"][name] = nearest_is_translation(first, second, titles.second).astype(np.float64)
        hits[f"{two}→{one}"][name] = nearest_is_translation(second, first, titles.first).astype(np.float64)
    return [
        row
        for direction, values in hits.items()
        for row in _rows(values, data=titles.dataset, metric=f"accuracy@1 {direction}")
    ]


def history_rows(source: Source, texts: dict[str, TextConfig]) -> list[Row]:
    """Recall@10 of the mean of the history's vectors, on P1's validation and test part."""
    dataset = prepare(source)
    catalogue = Catalogue.from_dataset(dataset)
    positives = {"kmrd": {"rating": 8.0}}.get(source.name, {"rating": 4.0})
    config = Config(data={"source": source, "positives": positives})  # type: ignore[arg-type]
    parts = split(dataset, config.data)
    vocabulary = Vocabulary.from_training(dataset, catalogue, parts, config)
    rows: list[Row] = []
    for part, history, held_out in (
        ("validation", parts.train, parts.validation),
        ("test", parts.train_and_validation, parts.test),
    ):
        problem = HoldOut(catalogue, vocabulary, history, held_out, candidates=1, known_users=False)
        values = {}
        for name, text in texts.items():
            prepared = prepare_texts(catalogue.texts, catalogue.languages, text)
            vectors = encode_texts([prepared[row] for row in problem.candidate_rows], text, progress=False)
            scorer = mean_history(problem.train, vectors)
            lists = rank_in_blocks(scorer, problem.train.num_users, problem.train.num_items, problem.train, 10)
            values[name] = ranking_metrics(lists, problem.test, ks=[10]).values["recall@10"]
        rows += _rows(values, data=source.name, metric=f"mean-history recall@10 ({part})")
    return rows


def _rows(values: dict[str, npt.NDArray[np.float64]], **labels: str) -> list[Row]:
    matrix = np.stack(list(values.values()), axis=1)
    differences = bootstrap_interval(matrix - values[_NONE][:, None])
    return [
        {
            **labels,
            "variant": name,
            "value": float(np.nanmean(column)),
            "difference": float(np.nanmean(column - values[_NONE])),
            "difference_ci95": [float(low), float(high)],
            "n": int(np.count_nonzero(~np.isnan(column))),
        }
        for (name, column), (low, high) in zip(values.items(), differences, strict=True)
    ]


def page(result: Result) -> list[Table | str]:
    """One row per variant, one column per metric."""
    columns = list(dict.fromkeys(f"{row['data']}, {row['metric']}" for row in result["rows"]))
    cells: dict[str, list[str]] = {}
    for row in result["rows"]:
        low, high = row["difference_ci95"]
        figure = f"{row['value']:.4f}"
        if row["variant"] != _NONE:
            figure += f" ({row['difference']:+.4f})"
        cells.setdefault(row["variant"], []).append(f"**{figure}**" if low > 0 or high < 0 else figure)
    lines = [[name, *values] for name, values in cells.items()]
    return ["Difference from none in brackets; bold if its interval excludes 0.", Table("", ["steps", *columns], lines)]


if __name__ == "__main__":
    sys.exit(main())
