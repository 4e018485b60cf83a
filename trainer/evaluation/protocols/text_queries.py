"""Text queries in many languages: whether translations get the same results, and results of the right genres."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from trainer.config.base import Settings
from trainer.data.catalogue import Catalogue
from trainer.documents import read_yaml
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.models.assembly import text_ranker, typed_vectors
from trainer.runs import Run
from trainer.text.unit_vectors import unit
from trainer.text.vectors import encode_texts

PIVOT = "en"
K = 10
_Rows = NDArray[np.int64]


class TextQuery(Settings):
    """One query: its text in each language, and the category labels of correct results."""

    id: str = Field(min_length=1)
    genres: list[str] = Field(min_length=1)
    texts: dict[str, str]


_FILE: TypeAdapter[list[TextQuery]] = TypeAdapter(list[TextQuery])


@dataclass(frozen=True, slots=True, eq=False)
class TextQueryResult:
    """One model's results.

    Attributes:
        model: its name.
        languages: L tags, as in the file.
        overlap: [W, L], share of each query's ten items that the English wording also returns.
        ndcg: [W, L], NDCG@10 with an item's gain being the share of the query's genres that it has.
    """

    model: str
    languages: list[str]
    overlap: NDArray[np.float64]
    ndcg: NDArray[np.float64]

    def metrics(self) -> dict[str, float]:
        """Means over queries: overlap (without English), NDCG, the worst language for each, and both by language."""
        overlap, ndcg = self.overlap.mean(axis=0), self.ndcg.mean(axis=0)
        others = [place for place, tag in enumerate(self.languages) if tag != PIVOT]
        named = {
            "overlap@10": float(overlap[others].mean()),
            "overlap@10 worst language": float(overlap[others].min()),
            "ndcg@10 by genre": float(ndcg.mean()),
            "ndcg@10 by genre worst language": float(ndcg.min()),
        }
        for place, tag in enumerate(self.languages):
            if tag != PIVOT:
                named[f"overlap@10 {tag}"] = float(overlap[place])
            named[f"ndcg@10 by genre {tag}"] = float(ndcg[place])
        return named

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals over queries of the two means."""
        others = [place for place, tag in enumerate(self.languages) if tag != PIVOT]
        values = np.stack([self.overlap[:, others].mean(axis=1), self.ndcg.mean(axis=1)], axis=1)
        low_high = bootstrap_interval(values)
        return {
            name: (float(low), float(high))
            for name, (low, high) in zip(("overlap@10", "ndcg@10 by genre"), low_high, strict=True)
        }


def load_text_queries(path: Path) -> list[TextQuery]:
    """Reads a file of queries (see ``benchmarks/quality/text_queries.yaml``).

    Raises:
        BabelrecError: unreadable, malformed, a repeated id, English missing, or queries that are
            not all in the same languages.
    """
    queries = read_yaml(path, _FILE, what="the queries", remedy="id, genres and texts by language.")
    if not queries:
        raise BabelrecError(f"{path} contains no queries. Add at least one.")
    seen: set[str] = set()
    for query in queries:
        if query.id in seen:
            raise BabelrecError(f"{path}: {query.id!r} occurs twice. Rename one.")
        seen.add(query.id)
        if PIVOT not in query.texts or query.texts.keys() != queries[0].texts.keys():
            raise BabelrecError(
                f"{path}: {query.id!r} is in {', '.join(query.texts)}; every query needs {PIVOT} and the languages of "
                f"the first, {', '.join(queries[0].texts)}."
            )
    return queries


def genre_gains(queries: Sequence[TextQuery], catalogue: Catalogue) -> NDArray[np.float64]:
    """[W, N]: the share of each query's genres that each item has.

    Raises:
        BabelrecError: a genre without any items.
    """
    gains = np.zeros((len(queries), len(catalogue)))
    for place, query in enumerate(queries):
        for genre in query.genres:
            if genre not in catalogue.category_labels:
                raise BabelrecError(
                    f"Query {query.id!r}: no item has the category {genre!r}. Available: "
                    f"{', '.join(catalogue.category_labels) or 'none'}."
                )
            label = catalogue.category_labels.index(genre)
            gains[place] += (catalogue.categories == label).any(axis=1)
        gains[place] /= len(query.genres)
    return gains


def evaluate(model: str, languages: Sequence[str], rows: _Rows, gains: NDArray[np.float64]) -> TextQueryResult:
    """Evaluates results.

    DCG@10 is the sum of gain / log2(rank + 1) over the ten places, divided by that of the ten largest gains of the
    catalogue (Järvelin and Kekäläinen, 2002, doi 10.1145/582415.582418, with linear gain).

    Args:
        model: Its name.
        languages: L tags, English among them.
        rows: [W, L, 10] item rows, best first, -1 if missing.
        gains: [W, N].
    """
    english = rows[:, list(languages).index(PIVOT)]
    overlap = ((rows[..., :, np.newaxis] == english[:, np.newaxis, np.newaxis, :]) & (rows[..., np.newaxis] >= 0)).any(
        axis=-1
    )
    discounts = 1.0 / np.log2(np.arange(2, K + 2))
    found = np.where(rows >= 0, np.take_along_axis(gains[:, np.newaxis], np.maximum(rows, 0), axis=2), 0.0)
    best = -np.sort(-gains, axis=1)[:, :K]
    ideal = best @ discounts[: best.shape[1]]
    return TextQueryResult(model, list(languages), overlap.sum(axis=-1) / K, (found @ discounts) / ideal[:, np.newaxis])


def evaluate_text_queries(run: Run, queries: Sequence[TextQuery], *, baselines: bool = True) -> list[TextQueryResult]:
    """Runs each query in each language, as an unknown user, on the run's whole catalogue.

    Results are computed as in the exported graph.

    Args:
        run: A finished run.
        queries: From `load_text_queries`.
        baselines: Also evaluate the encoder's cosine of query and item (title with its categories), and random order.

    Returns:
        The run's model, named ``babelrec``, then the baselines.

    Raises:
        BabelrecError: the run is not finished, or a genre is not in its catalogue.
    """
    dataset = run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    gains = genre_gains(queries, catalogue)
    languages = list(queries[0].texts)
    texts = [query.texts[tag] for query in queries for tag in languages]
    ranker = text_ranker(run, dataset, catalogue)
    sentences = typed_vectors(ranker.model, texts, run.config.text)
    answers = {"babelrec": ranker.rank_texts(sentences, texts, K)}
    if baselines:
        answers["mUSE cosine"] = _by_cosine(run, catalogue, texts)
        chance = np.random.default_rng(run.config.seed)
        answers["random"] = np.stack([chance.permutation(len(catalogue))[:K] for _ in texts])
    shape = (len(queries), len(languages), -1)
    return [evaluate(name, languages, rows.reshape(shape), gains) for name, rows in answers.items()]


def to_markdown(results: Sequence[TextQueryResult]) -> str:
    """One table of the models, one of the first model's languages."""
    lines = ["| model | overlap@10 | worst language | NDCG@10 by genre | worst language |", "|---|---|---|---|---|"]
    for result in results:
        found, spread = result.metrics(), result.intervals()
        low, high = spread["overlap@10"]
        low_ndcg, high_ndcg = spread["ndcg@10 by genre"]
        lines.append(
            f"| {result.model} | {found['overlap@10']:.3f} ({low:.3f} to {high:.3f}) | "
            f"{found['overlap@10 worst language']:.3f} | {found['ndcg@10 by genre']:.3f} ({low_ndcg:.3f} to "
            f"{high_ndcg:.3f}) | {found['ndcg@10 by genre worst language']:.3f} |"
        )
    first = results[0]
    lines += ["", f"`{first.model}` by language:", "", "| language | overlap@10 | NDCG@10 by genre |", "|---|---|---|"]
    for place, tag in enumerate(first.languages):
        overlap = "" if tag == PIVOT else f"{first.overlap[:, place].mean():.3f}"
        lines.append(f"| {tag} | {overlap} | {first.ndcg[:, place].mean():.3f} |")
    return "\n".join(lines) + "\n"


def _by_cosine(run: Run, catalogue: Catalogue, texts: Sequence[str]) -> _Rows:
    described = [
        ". ".join(part for part in (text, ", ".join(catalogue.labels(row))) if part)
        for row, text in enumerate(catalogue.texts)
    ]
    both = unit(encode_texts([*texts, *described], run.config.text, progress=False))
    scores = both[: len(texts)] @ both[len(texts) :].T
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]
