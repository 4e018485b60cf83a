"""P4: nearest neighbours of parallel titles, worked by hand and on the real pairs."""

import re
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from trainer.errors import BabelrecError
from trainer.evaluation.protocols import parallel_titles
from trainer.evaluation.protocols.parallel_titles import (
    ParallelTitles,
    evaluate_parallel_titles,
    kmrd_titles,
    mind_titles,
    nearest_is_translation,
    table_titles,
)
from trainer.evaluation.report.contents import EvaluationReport
from trainer.text.settings import TextConfig


def test_nearest_by_cosine_and_not_by_product() -> None:
    queries = np.array([[2, 0], [0, 3], [1, 1]], np.float32)
    candidates = np.array([[0.1, 0], [9, 8], [5, 5]], np.float32)
    # Query 0 points at candidate 0; query 1 is nearest to candidate 2 (cosine .707 against .664); 2 at 2.
    hits = nearest_is_translation(queries, candidates, ("a", "b", "c"))
    assert hits.tolist() == [True, False, True]


def test_a_neighbour_with_the_same_text_is_right() -> None:
    queries = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    candidates = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert nearest_is_translation(queries, candidates, ("twin", "twin", "c")).tolist() == [True, True, True]
    assert nearest_is_translation(queries, candidates, ("a", "b", "c")).tolist() == [True, False, True]


def test_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(size=(57, 8)).astype(np.float32)
    second = first + rng.normal(size=(57, 8)).astype(np.float32)
    texts = tuple(map(str, range(57)))
    whole = nearest_is_translation(first, second, texts)
    monkeypatch.setattr(parallel_titles, "_BLOCK", 57 * 4)
    np.testing.assert_array_equal(nearest_is_translation(first, second, texts), whole)
    cosine = (first / np.linalg.norm(first, axis=1)[:, None]) @ (second / np.linalg.norm(second, axis=1)[:, None]).T
    assert whole.tolist() == [int(row.argmax()) == i for i, row in enumerate(cosine)]
    assert 0 < whole.sum() < 57


def test_report_has_both_directions_and_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {"a": [1, 0], "b": [0, 1], "c": [1, 1], "A": [1, 0.1], "B": [1, 0.9], "C": [1, 0.8]}

    def encode(texts: list[str], config: TextConfig, progress: bool) -> npt.NDArray[np.float32]:
        return np.array([vectors[text] for text in texts], np.float32)

    monkeypatch.setattr(parallel_titles, "encode_texts", encode)
    titles = ParallelTitles("letters", ("de", "fr"), ("a", "b", "c"), ("A", "B", "C"))
    report = evaluate_parallel_titles(titles, TextConfig(), progress=False)
    # a -> A, b -> B (0.9 is the highest second part), c -> B; A -> a, B -> c, C -> c.
    assert report.metrics["accuracy@1 de→fr"].value == pytest.approx(2 / 3)
    assert report.metrics["accuracy@1 fr→de"].value == pytest.approx(2 / 3)
    low, high = report.metrics["accuracy@1 de→fr"].ci95 or (0.0, 0.0)
    assert (low, high) == (0.0, 1.0)
    assert (report.protocol, report.dataset, report.model) == ("P4", "letters", "muse")
    assert EvaluationReport.from_json(report.to_json()) == report


def test_pairs_from_tables() -> None:
    items = pl.DataFrame(
        {
            "item_id": ["3", "1", "2", "4"],
            "language": ["ko", "ko", "en", "ko"],
            "title": ["다", "가", "B", " "],
        }
    )
    translations = pl.DataFrame(
        {
            "item_id": ["1", "2", "3", "4"],
            "language": ["en", "ko", "en", "en"],
            "title": ["A", "나", "C", "D"],
        }
    )
    titles = table_titles("three", items, translations, ("ko", "en"))
    assert titles.first == ("가", "나", "다")
    assert titles.second == ("A", "B", "C")
    with pytest.raises(BabelrecError, match="three has 0 pairs of titles in ko and th"):
        table_titles("three", items, translations, ("ko", "th"))


def test_missing_and_broken_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"movies\.txt"):
        kmrd_titles(tmp_path)
    (tmp_path / "news.tsv").write_text("N1\tnews\tworld\tTitle\tText\turl\t[]\t[]\n")
    with pytest.raises(BabelrecError, match=r"xMINDsmall_dev\.cmn\.zip"):
        mind_titles(tmp_path)
    (tmp_path / "xMINDsmall_dev.cmn.zip").write_bytes(b"no zip")
    with pytest.raises(BabelrecError, match="download it again"):
        mind_titles(tmp_path)
    with zipfile.ZipFile(tmp_path / "xMINDsmall_dev.cmn.zip", "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(BabelrecError, match="download it again"):
        mind_titles(tmp_path)


def test_real_pairs(data_mirror: Path) -> None:
    news = mind_titles(data_mirror / "mind-sample")
    assert len(news) == 1110
    assert news.languages == ("en", "zh")
    films = kmrd_titles(data_mirror / "kmrd-small")
    assert len(films) == 991
    pairs = dict(zip(films.first, films.second, strict=True))
    assert pairs["시네마 천국"] == "Cinema Paradiso"
    assert not [title for title in films.second if re.search(r",\s*\d{4}\s*$", title)]


def test_muse_reaches_the_reference_figures(data_mirror: Path, cache: Path) -> None:
    config = TextConfig(encoder="muse", table="quantized")
    news = evaluate_parallel_titles(mind_titles(data_mirror / "mind-sample"), config, progress=False)
    films = evaluate_parallel_titles(kmrd_titles(data_mirror / "kmrd-small"), config, progress=False)
    # EVALUATION.md, P4, and the facts behind it.
    assert news.metrics["accuracy@1 en→zh"].value >= 0.814
    assert news.metrics["accuracy@1 zh→en"].value >= 0.886
    assert films.metrics["accuracy@1 ko→en"].value >= 0.389
    assert [result.metrics["accuracy@1 ko→en"].value for result in films.reference] == [0.389]
