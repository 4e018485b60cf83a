"""The figures of the preprocessing benchmark, on titles whose answer is known by hand."""

import pytest

from benchmarks.harness.table import Table
from benchmarks.quality import preprocessing
from trainer.evaluation.protocols.parallel_titles import ParallelTitles
from trainer.text.settings import TextConfig


def test_preprocessing_is_compared_with_none(text: TextConfig) -> None:
    titles = ParallelTitles("t", ("en", "de"), ("AAB", "aac", "CCC"), ("aab", "AAC", "ccc"))
    variants = {
        "none": text,
        "casefold": text.model_copy(update={"preprocessing": {"*": ["casefold"]}}),
    }
    rows = preprocessing.parallel_rows(titles, variants)
    found = {(row["metric"], row["variant"]): row for row in rows}
    assert found["accuracy@1 en→de", "casefold"]["value"] == 1.0
    assert found["accuracy@1 en→de", "none"]["value"] < 1.0
    row = found["accuracy@1 en→de", "casefold"]
    assert row["difference"] == pytest.approx(1.0 - found["accuracy@1 en→de", "none"]["value"])
    assert row["difference_ci95"][0] <= row["difference"] <= row["difference_ci95"][1]
    _, table = preprocessing.page({"rows": rows})
    assert isinstance(table, Table)
    assert table.rows[1][0] == "casefold"
    assert "1.0000 (+" in table.rows[1][1]
