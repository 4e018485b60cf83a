"""P4: does a title's nearest neighbour in another language have the same meaning?

For N titles in two languages, accuracy@1 of a direction is the share of titles whose nearest neighbour by
cosine among the N titles of the other language is its own translation. Two films may share a title; the
nearest neighbour is right when its text is the text of the translation.
"""

import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainer.config.settings import Config
from trainer.data.sources import prepare
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.intervals import RESAMPLES, bootstrap_interval
from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.contents import EvaluationReport, ReferenceResult
from trainer.runs import Run
from trainer.text.preparation import prepare_texts
from trainer.text.settings import TextConfig
from trainer.text.unit_vectors import unit
from trainer.text.vectors import encode_texts

# Maximum similarities in memory: 16 Mi float32 are 64 MiB.
_BLOCK = 1 << 24

_REFERENCES = {
    ("mind", "en", "zh"): {"accuracy@1 en→zh": 0.814, "accuracy@1 zh→en": 0.886},
    ("kmrd-small", "ko", "en"): {"accuracy@1 ko→en": 0.389},
}


@dataclass(frozen=True, slots=True)
class ParallelTitles:
    """Titles in two languages; ``first[i]`` and ``second[i]`` name the same thing.

    Attributes:
        dataset: Dataset they come from.
        languages: BCP 47 tags of ``first`` and ``second``.
        first: N titles.
        second: N titles.
    """

    dataset: str
    languages: tuple[str, str]
    first: tuple[str, ...]
    second: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses sides of unequal length and sets with fewer than two pairs."""
        if len(self.first) != len(self.second):
            raise ValueError(f"{len(self.first)} titles but {len(self.second)} translations")
        if len(self.first) < 2:
            raise BabelrecError(
                f"{self.dataset} has {len(self.first)} pairs of titles in {' and '.join(self.languages)}; "
                "accuracy@1 needs at least two."
            )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.first)


def table_titles(
    dataset: str, items: pl.DataFrame, translations: pl.DataFrame, languages: tuple[str, str]
) -> ParallelTitles:
    """Pairs from the dataset format's tables.

    Args:
        dataset: Its name.
        items: Columns item_id, language, title.
        translations: The same columns, for additional languages of the items.
        languages: The two languages; items with a title in both are used, ordered by item id.

    Raises:
        BabelrecError: Fewer than two items have both.
    """
    columns = ["item_id", "language", "title"]
    titles = pl.concat([items.select(columns), translations.select(columns)])
    titles = titles.filter(pl.col("title").str.strip_chars() != "").unique(
        ["item_id", "language"], keep="first", maintain_order=True
    )
    first, second = (titles.filter(pl.col("language") == tag).drop("language") for tag in languages)
    pairs = first.join(second, on="item_id", suffix="_2").sort("item_id")
    return ParallelTitles(dataset, languages, tuple(pairs["title"]), tuple(pairs["title_2"]))


def mind_titles(folder: Path) -> ParallelTitles:
    """English titles of ``news.tsv`` with the Chinese ones of ``xMINDsmall_dev.cmn.zip`` (1,110 pairs)."""
    english = pl.read_csv(
        _existing(folder / "news.tsv"), separator="\t", quote_char=None, has_header=False, columns=[0, 3]
    )
    english.columns = ["item_id", "title"]
    archive = _existing(folder / "xMINDsmall_dev.cmn.zip")
    try:
        with zipfile.ZipFile(archive) as opened:
            name = next(name for name in opened.namelist() if name.endswith("news.tsv"))
            text = opened.read(name)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise BabelrecError(f"{archive} is not an xMIND archive with a news.tsv. Remedy: download it again.") from error
    chinese = pl.read_csv(text, separator="\t", quote_char=None).select(pl.col("nid").alias("item_id"), "title")
    return table_titles(
        "mind",
        english.with_columns(pl.lit("en").alias("language")),
        chinese.with_columns(pl.lit("zh").alias("language")),
        ("en", "zh"),
    )


def kmrd_titles(folder: Path) -> ParallelTitles:
    """Korean with English titles of ``movies.txt``: the 991 of its 999 films that have both.

    The production year after the English title is removed, since the Korean title has none. The rest of
    the field is kept (some begin with the original title), so that the figure is comparable with the
    reference in docs/evaluation.md, which was measured that way.
    """
    films = pl.read_csv(
        _existing(folder / "movies.txt"), separator="\t", quote_char=None, infer_schema=False
    ).fill_null("")
    korean = films.select(pl.col("movie").alias("item_id"), pl.lit("ko").alias("language"), "title")
    english = films.select(
        pl.col("movie").alias("item_id"),
        pl.lit("en").alias("language"),
        pl.col("title_eng").str.replace(r"\s*,\s*\d{4}\s*$", "").alias("title"),
    )
    return table_titles("kmrd-small", korean, english, ("ko", "en"))


def nearest_is_translation(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], texts: tuple[str, ...]
) -> NDArray[np.bool_]:
    """For each row of ``queries``, whether its nearest candidate by cosine has the text of its translation.

    Args:
        queries: [N, D]; row i's translation is row i of ``candidates``.
        candidates: [N, D].
        texts: The candidates' N texts.

    Returns:
        [N].
    """
    queries, candidates = unit(queries), unit(candidates)
    hits = np.empty(len(queries), np.bool_)
    step = max(1, _BLOCK // len(candidates))
    for begin in range(0, len(queries), step):
        nearest = np.argmax(queries[begin : begin + step] @ candidates.T, axis=1)
        hits[begin : begin + step] = [texts[j] == texts[begin + i] for i, j in enumerate(nearest)]
    return hits


def evaluate_parallel_titles(
    titles: ParallelTitles, config: TextConfig, *, progress: bool = True, resamples: int = RESAMPLES
) -> EvaluationReport:
    """Runs P4 in both directions, with 95 % bootstrap intervals over the pairs.

    Args:
        titles: The pairs.
        config: The encoder.
        progress: Show a progress bar while encoding titles.
        resamples: Draws of the bootstrap.

    Returns:
        A report whose metrics are ``accuracy@1 en→zh`` and ``accuracy@1 zh→en`` (with the languages' tags).
    """
    began = time.perf_counter()
    one, two = titles.languages
    languages = [one] * len(titles) + [two] * len(titles)
    texts = prepare_texts([*titles.first, *titles.second], languages, config)
    vectors = encode_texts(texts, config, progress=progress)
    first, second = vectors[: len(titles)], vectors[len(titles) :]
    hits = {
        f"accuracy@1 {one}→{two}": nearest_is_translation(first, second, titles.second),
        f"accuracy@1 {two}→{one}": nearest_is_translation(second, first, titles.first),
    }
    values = np.stack(list(hits.values()), axis=1).astype(np.float64)
    intervals = bootstrap_interval(values, resamples=resamples)
    metrics = {
        name: Metric(float(column.mean()), (float(low), float(high)))
        for name, column, (low, high) in zip(hits, values.T, intervals, strict=True)
    }
    return EvaluationReport(
        dataset=titles.dataset,
        protocol="P4",
        split="test",
        model=config.encoder,
        metrics=metrics,
        seconds=time.perf_counter() - began,
        reference=_references(titles),
    )


def _references(titles: ParallelTitles) -> tuple[ReferenceResult, ...]:
    figures = _REFERENCES.get((titles.dataset, *titles.languages))
    if figures is None:
        return ()
    metrics = {name: Metric(value) for name, value in figures.items()}
    return (ReferenceResult("mUSE v3", "first rebuild in TensorFlow, one run", metrics),)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BabelrecError(f"P4 needs {path}, but there is no such file.")
    return path


def evaluate_translations(run: Run, target: Config | None = None) -> EvaluationReport:
    """The text encoder: accuracy@1 between parallel titles in the two languages with most pairs.

    Raises:
        BabelrecError: the dataset has no translations.
    """
    config = run.config
    dataset = prepare((target or config).data.source)
    translations = dataset.translations()
    if translations is None:
        raise BabelrecError(
            f"{dataset.name} has titles in one language only. P4 needs pairs: mind with xMIND files, or kmrd with "
            "--set data.source.title_language=both."
        )
    first = dataset.items().collect()
    second = translations.collect()
    pairs = first.join(second, on="item_id", suffix="_of_translation")
    counts = pairs.group_by("language", "language_of_translation").len().sort("len", descending=True)
    languages = (counts["language"][0], counts["language_of_translation"][0])
    return evaluate_parallel_titles(table_titles(dataset.name, first, second, languages), config.text)
