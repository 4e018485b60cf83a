"""Lists written as text, and texts written as lists."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.data.sources.making import LOG, fault, make
from trainer.data.sources.lists import parse

pytestmark = pytest.mark.usefixtures("own_cache")
_ENTRIES = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


@given(_ENTRIES)
def test_json_and_python_lists(entries: list[str]) -> None:
    """The oracles are the writers: `json.dumps` and Python's `repr`."""
    assert parse(json.dumps(entries)) == entries
    assert parse(json.dumps(entries, ensure_ascii=False)) == entries
    assert parse(repr(entries)) == entries


@given(_ENTRIES)
def test_postgresql_arrays(entries: list[str]) -> None:
    """Every entry quoted, as PostgreSQL's array_out may: backslashes before quotes and backslashes."""
    quoted = ['"' + entry.replace("\\", "\\\\").replace('"', '\\"') + '"' for entry in entries]
    assert parse("{" + ",".join(quoted) + "}") == entries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["Books", "SF"]', ["Books", "SF"]),
        ("['Books', 'SF']", ["Books", "SF"]),
        ("[]", []),
        ("{}", []),
        ("{Books,SF}", ["Books", "SF"]),
        ('{"two words",SF,NULL}', ["two words", "SF"]),
        ("{'a', 'b'}", ["a", "b"]),
        ("['it\\'s', \"x\", None]", ["it's", "x"]),
        ("[1, 2.5, true, null]", ["1", "2.5", "true"]),
        ("['영화', 'ภาพยนตร์', '🎬']", ["영화", "ภาพยนตร์", "🎬"]),
        ("[Books, SF]", None),
        ("['a' 'b']", None),
        ('[["a"], ["b"]]', None),
        ("[{'id': 28, 'name': 'Action'}]", None),
        ('{"a": 1}', None),
        ("{a,{b}}", None),
        ("plain", None),
        ("", None),
    ],
)
def test_forms(text: str, expected: list[str] | None) -> None:
    assert parse(text) == expected


def catalogue(*categories: str) -> str:
    ids = ["007", "8", *(f"i{n}" for n in range(len(categories) - 2))]
    quoted = [text.replace('"', '""') for text in categories]
    return "item_id,title,language,categories\n" + "".join(
        f'{item},x,en,"{text}"\n' for item, text in zip(ids, quoted, strict=True)
    )


def test_categories(tmp_path: Path) -> None:
    items = make(tmp_path, LOG, catalogue('["Books", "SF"]', "['Books', 'SF']", "[]", "{Books,SF}", "a|b", ""))
    expected = [["Books", "SF"], ["Books", "SF"], [], ["Books", "SF"], ["a", "b"], []]
    assert items.items().collect()["categories"].to_list() == expected


def test_brackets_that_are_not_a_list_are_reported(tmp_path: Path) -> None:
    text = fault(tmp_path, LOG, catalogue("a", "[Books, SF]", "{x: 1}", "[y"))
    assert "column `categories`, row 2: '[Books, SF]' is in brackets but is not a list of texts" in text
    assert "`list_separator`" in text


def test_another_separator_is_hinted_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        make(tmp_path, LOG, catalogue("a, b", "c, d", "e"))
    assert "no value holds the list separator '|', 2 of 3 hold ','" in caplog.text


def items_of(folder: Path, *rows: dict[str, Any]) -> Path:
    lines = [
        json.dumps({"item_id": item, "title": "x", "language": "en"} | row)
        for item, row in zip(["007", "8", "9"], rows, strict=False)
    ]
    (folder / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "c.jsonl"


def test_text_and_lists_in_one_column_of_jsonl(tmp_path: Path) -> None:
    file = items_of(tmp_path, {"categories": "a|b"}, {"categories": ["c|d", "e"]}, {"categories": None})
    assert make(tmp_path, items=file).items().collect()["categories"].to_list() == [["a", "b"], ["c|d", "e"], []]
    file = items_of(tmp_path, {"description": "one"}, {"description": ["two", "three"]}, {"description": []})
    assert make(tmp_path, items=file).items().collect()["description"].to_list() == ["one", "two\nthree", None]
    file = items_of(tmp_path, {"title": "one"}, {"title": ["two"]})
    assert """column `title`, row 2: '["two"]' is a list, expected text""" in fault(tmp_path, items=file)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_description_of_several_texts_is_joined(tmp_path: Path, ending: str) -> None:
    rows: list[dict[str, Any]] = [{"description": ["two", "three"]}, {"description": []}]
    file = items_of(tmp_path, *rows)
    if ending == "parquet":
        pl.read_ndjson(file).write_parquet(tmp_path / "c.parquet")
        file = tmp_path / "c.parquet"
    assert make(tmp_path, items=file).items().collect()["description"].to_list() == ["two\nthree", None]


def test_other_types_where_text_is_wanted_are_reported(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["8"], "title": [{"en": "x"}], "language": "en"}).write_parquet(tmp_path / "c.parquet")
    text = fault(tmp_path, items=tmp_path / "c.parquet")
    assert "c.parquet, column `title`: type Struct({'en': String}) instead of text" in text
    pl.DataFrame({"item_id": ["8"], "title": [["x"]], "language": "en"}).write_parquet(tmp_path / "c.parquet")
    assert "column `title`: type List(String) instead of text" in fault(tmp_path, items=tmp_path / "c.parquet")
    pl.DataFrame({"item_id": ["8"], "title": [b"\xe9"], "language": "en"}).write_parquet(tmp_path / "c.parquet")
    assert "column `title`, row 1: b'\\xe9' is not UTF-8 text" in fault(tmp_path, items=tmp_path / "c.parquet")
