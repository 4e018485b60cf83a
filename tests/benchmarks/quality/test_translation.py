"""The figures of the translation benchmark, on sets whose answer is known by hand."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.table import Table
from benchmarks.quality import translation
from trainer.data.catalogue import Catalogue
from trainer.evaluation.protocols.text_queries import TextQuery
from trainer.text.settings import TextConfig
from trainer.text.translation.base import Translator


class Shifting(Translator):
    """English to Spanish shifts each letter by one in the alphabet, and back."""

    def offers(self, source: str, target: str) -> bool:
        return {source, target} == {"en", "es"}

    def identity(self, source: str, target: str) -> str:
        return "shifting"

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[str]]:
        step = 1 if target == "es" else -1
        yield ["".join(chr((ord(c) - 97 + step) % 26 + 97) if c.isalpha() else c for c in text) for text in texts]


def figures(rows: list[dict[str, Any]], **wanted: str) -> dict[str, float]:
    return {row["way"]: row["value"] for row in rows if all(row[key] == value for key, value in wanted.items())}


def test_titles_that_only_a_translation_finds(text: TextConfig) -> None:
    # Shifted, `aa` looks like `bb` and `bb` like `cc`; translated back they are themselves.
    rows = translation.title_rows(["aa", "bb", "cc", "1"], "es", Shifting(), text)
    found = figures(rows, data="movielens-100k titles, all")
    assert found == {"shared space": 0.25, "translated": 1.0}
    changed = figures(rows, data="movielens-100k titles, changed by the translator")
    assert changed == {"shared space": 0.0, "translated": 1.0}
    assert rows[0]["came_back_unchanged"] == 1.0
    assert rows[0]["ci95"][0] <= 0.25 <= rows[0]["ci95"][1]
    assert [row["n"] for row in rows] == [4, 4, 3, 3]


def test_text_queries(text: TextConfig) -> None:
    letters = [chr(code) * 3 for code in range(ord("a"), ord("a") + 20)]
    genres = np.array([[row % 2] for row in range(20)], np.int32)
    catalogue = Catalogue([f"i{row}" for row in range(20)], letters, letters, ["en"] * 20, ["A", "B"], genres, {}, {})
    queries = [
        TextQuery(id="1", genres=["A"], texts={"en": "acegikmoqs", "es": "bdfhjlnprt", "ko": "acegikmoqs"}),
        TextQuery(id="2", genres=["A", "B"], texts={"en": "abcdefghij", "es": "bcdefghijk", "ko": "zzzzzzzzzz"}),
    ]
    rows = translation.query_rows(catalogue, queries, ["es", "ko"], Shifting(), text)
    # Films at even positions have genre A and the letters of the first query; labels add no lower case. Any film has
    # half of the second query's genres.
    assert figures(rows, metric="ndcg@10", language="en") == {"English": pytest.approx(1.0)}
    overlap = figures(rows, metric="overlap@10", language="es")
    assert overlap["shared space"] == pytest.approx((0.0 + 0.9) / 2)
    assert overlap["translated"] == 1.0
    assert set(figures(rows, metric="overlap@10", language="ko")) == {"shared space"}
    assert figures(rows, metric="accuracy@1", language="es")["translated"] == 1.0
    result = {"translator": "shifting", "encoder": "letters", "rows": rows, "unknown_words": {}}
    tables = [part for part in translation.page(result) if isinstance(part, Table)]
    assert [line[0] for line in tables[0].rows] == ["es (n 2)", "ko (n 2)"]
    assert tables[0].rows[1][-1] == "n/a"


def test_graded_gains_by_hand() -> None:
    gains = np.zeros((1, 12))
    gains[0, [3, 7]] = [1.0, 0.5]
    lists = np.array([[7, 0, 1, 2, 4, 5, 6, 8, 9, 3]])
    ideal = 1.0 + 0.5 / np.log2(3)
    assert translation._ndcg(lists, gains)[0] == pytest.approx((0.5 + 1.0 / np.log2(11)) / ideal)
