"""Ids that differ in spelling."""

import unicodedata
from pathlib import Path

import polars as pl
import pytest

from tests.trainer.data import builders
from trainer.data.faults import DatasetError, Origin
from trainer.data.id_forms import explain, look_alikes, mismatches
from trainer.data.validation import validate_references

DECOMPOSED = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    ("unknown", "known", "difference"),
    [
        (["123.0", "7.0"], ["123", "7"], "a trailing `.0`"),
        (["123"], ["123.00"], "a trailing `.0`"),
        (
            [unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFD", "한국")],
            ["café", "한국"],
            "their Unicode form",
        ),
        ([unicodedata.normalize("NFC", "é")], [unicodedata.normalize("NFD", "é")], "their Unicode form"),
        ([" a1", "a2 ", "a3\t", "a4\u00a0"], ["a1", "a2", "a3", "a4"], "blanks around the id"),
        (["a1"], ["a1 "], "blanks around the id"),
        (["１２３", "ｓｋｕ"], ["123", "sku"], "full-width or other compatibility characters"),
        (["a\u200b1", "\ufeffa2"], ["a1", "a2"], "invisible characters"),
        (["007"], ["7"], "leading zeros"),
        (["7"], ["007"], "leading zeros"),
        (["SKU-1", "Ä"], ["sku-1", "ä"], "upper and lower case"),
        (['"12"', "'13'"], ["12", "13"], "quotes around the id"),
        (["1,234"], ["1234"], "thousands separators"),
        ([" 0123.0"], ["123"], "several of these"),
    ],
)
def test_the_difference_is_reported(unknown: list[str], known: list[str], difference: str) -> None:
    found = mismatches(pl.Series(unknown), pl.Series(known))
    assert [(each.difference, each.count) for each in found] == [(difference, len(unknown))]
    assert found[0].example == (unknown[0], known[0])


def test_ids_that_are_not_there_are_left_out_of_the_count() -> None:
    unknown = pl.Series(["1.0", "2.0", " 3", "nowhere", "日本", "1.5", "0"])
    found = mismatches(unknown, pl.Series(["1", "2", "3", "4"]))
    assert [(each.difference, each.count) for each in found] == [("a trailing `.0`", 2), ("blanks around the id", 1)]
    assert explain(pl.Series(["a", "1.5"]), pl.Series(["b", "1"])) == ("", "")


def test_what_cannot_be_seen_is_written_out() -> None:
    assert r"('e\u0301', 'é')" in explain(pl.Series([DECOMPOSED]), pl.Series(["é"]))[0]
    assert r"'a\u200b'" in explain(pl.Series(["a\u200b"]), pl.Series(["a"]))[0]
    assert "('日本 ', '日本')" in explain(pl.Series(["日本 "]), pl.Series(["日本"]))[0]


@pytest.mark.parametrize(("setting", "named"), [(None, False), ("data.source.drop_unknown_items", True)])
def test_unknown_items_say_what_they_are_and_what_to_do(setting: str | None, named: bool) -> None:
    frame = builders.interactions(item_id=["a", "a ", "日本.0", "gone"]).lazy()
    items = builders.items().lazy()
    with pytest.raises(DatasetError) as error:
        validate_references(
            frame, items, Origin("orders.csv", {"item_id": "sku"}, drops_unknown_items=setting), "p.csv"
        )
    assert str(error.value).startswith(
        "orders.csv, column `sku`, row 2: 'a ' is not in p.csv; 3 rows refer to 3 such items, of which 1 differs in "
        "blanks around the id only ('a ', 'a'). Remedy: strip them in the file that has them; else add those items, or "
        "drop the rows"
    )
    assert ("`data.source.drop_unknown_items: true`" in str(error.value)) == named


def test_a_dataset_of_unknown_items_is_refused_with_the_difference(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2 rows refer to 1 such items, of which 1 differs in a trailing `\.0`"):
        builders.write(
            tmp_path / "d",
            items=builders.items(item_id=["1", "b", "日本"]),
            interactions=builders.interactions(item_id=["1.0", "b", "1.0", "日本"]),
        )


def test_look_alikes_of_one_table() -> None:
    ids = pl.Series(["a", "a ", "b", "é", DECOMPOSED, "7", "007", "A", "7.0", "日本", "日本\u200b"])
    found = {each.difference: each.count for each in look_alikes(ids)}
    assert found == {
        "blanks around the id": 1,
        "a trailing `.0`": 1,
        "their Unicode form": 1,
        "invisible characters": 1,
    }
    assert look_alikes(pl.Series(["a", "b", "日本", "🎬"])) == []
