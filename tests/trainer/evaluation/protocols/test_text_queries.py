"""Queries: files, metrics against figures worked by hand, and the repository's own files."""

from pathlib import Path

import numpy as np
import pytest

from trainer.errors import BabelrecError
from trainer.evaluation.protocols.text_queries import evaluate, load_text_queries, to_markdown

_ROOT = Path(__file__).resolve().parents[4]
_LANGUAGES = {"en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-TW"}


@pytest.mark.parametrize(("name", "count"), [("text_queries", 40), ("text_queries_development", 20)])
def test_files_of_text_queries_have_every_language(name: str, count: int) -> None:
    queries = load_text_queries(_ROOT / "benchmarks" / "quality" / f"{name}.yaml")
    assert len(queries) == count
    assert all(query.texts.keys() == _LANGUAGES and all(query.texts.values()) for query in queries)


def test_no_query_is_both_chosen_on_and_tested() -> None:
    test, development = (
        load_text_queries(_ROOT / "benchmarks" / "quality" / f"{n}.yaml")
        for n in ("text_queries", "text_queries_development")
    )
    texts = [{text for query in part for text in query.texts.values()} for part in (test, development)]
    assert not texts[0] & texts[1]


def test_overlap_and_ndcg_worked_by_hand() -> None:
    english, german = list(range(10)), [0, 1, 2, 3, 4, 20, 21, 22, 23, -1]
    gains = np.zeros((1, 30))
    gains[0, [1, 29]] = 1.0, 0.5
    result = evaluate("m", ["de", "en"], np.array([[german, english]]), gains)
    assert result.overlap.tolist() == [[0.5, 1.0]]
    # The gain of 1 is in second place; the ideal has it first and 0.5 second.
    expected = (1 / np.log2(3)) / (1 + 0.5 / np.log2(3))
    np.testing.assert_allclose(result.ndcg, [[expected, expected]])
    metrics = result.metrics()
    assert metrics["overlap@10"] == metrics["overlap@10 worst language"] == 0.5
    assert "overlap@10 en" not in metrics
    assert "| de | 0.500 |" in to_markdown([result])


def test_a_missing_item_is_no_overlap() -> None:
    nothing = np.full((1, 2, 10), -1)
    assert evaluate("m", ["en", "ko"], nothing, np.ones((1, 12))).overlap.sum() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no queries"),
        ("- {id: a, genres: [], texts: {en: x}}", "genres"),
        ("- {id: a, genres: [War], texts: {de: x}}", "needs en"),
        ("- &w {id: a, genres: [War], texts: {en: x}}\n- *w", "twice"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "text_queries.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BabelrecError, match=message):
        load_text_queries(file)
