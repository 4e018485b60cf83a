"""JSONL files; the oracle is `json.dumps`."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.data.sources.making import fault, make
from trainer.data.settings import TableFormat
from trainer.data.sources import jsonl

pytestmark = pytest.mark.usefixtures("own_cache")
GOOD = '{"item_id": "007", "title": "x", "language": "en"}'
_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.none()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"id": st.integers(min_value=-(2**200), max_value=2**200)},
            optional={
                "text": _TEXT,
                "number": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
                "truth": st.booleans() | st.none(),
                "texts": st.lists(st.text(st.characters(exclude_categories=["Cs"]))) | st.none(),
                "unused": st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()),
            },
        ),
        min_size=1,
        max_size=8,
    ),
    blank=st.booleans(),
    ascii_only=st.booleans(),
)
def test_what_json_writes_is_read(tmp_path: Path, rows: list[dict[str, Any]], blank: bool, ascii_only: bool) -> None:
    path = tmp_path / "t.jsonl"
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\n" + "\n" * blank for row in rows]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    wanted = ["id", "text", "number", "truth", "texts"]
    there = {name for row in rows for name in row} & set(wanted)
    table = jsonl.read(
        path, "t", TableFormat(), wanted, lambda names: {n: n for n in names if n in there}, tmp_path / "o"
    )
    assert table.records == len(rows)
    frame = table.frame.collect()
    for name in sorted(there):
        expected = [row.get(name) for row in rows]
        if name == "id":
            expected = [str(value) for value in expected]
        got = frame[name].to_list()
        if any(value is not None for value in expected):
            assert got == expected


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([GOOD, '{"item_id": 2, "title": "B'], "line 2: invalid JSON: Unterminated string starting (character 25)"),
        ([GOOD, "", '{"item_id": 2 "title": "B"}'], "line 3: invalid JSON: Expecting ',' delimiter (character 15)"),
        ([GOOD, '{"item_id": 2, "price": NaN}'], "line 2: NaN is not JSON; write null"),
        ([GOOD, '{"item_id": 2, "price": -Infinity}'], "line 2: -Infinity is not JSON; write null"),
        ([f"[{GOOD},", f"{GOOD}]"], "line 1: one JSON document over several lines. Remedy: write one object per line"),
        (["{", '  "item_id": 1', "}"], "line 1: one JSON document over several lines"),
        ([f"[{GOOD}]"], "line 1: a JSON array instead of an object"),
        ([GOOD, '{"item_id": 2, "tags": "a", "tags": "b"}'], "line 2: the key `tags` occurs more than once"),
        ([GOOD, "5"], "line 2: 5 instead of an object"),
        ([GOOD, '"text"'], 'line 2: "text" instead of an object'),
        ([GOOD + ","], "line 1: ',' follows the object"),
        ([GOOD + GOOD], "follows the object"),
        (['{"item_id": 1, "title": {"en": "x"}}'], "line 1: the value of `title` is an object (type Struct)"),
        (
            ['{"item_id": 1, "title": "x", "categories": [{"n": 1}]}'],
            "line 1: the value of `categories` is a list of obj",
        ),
        (['{"item_id": 1, "title": "\\ud83d"}'], "line 1: the value of `title` contains an unpaired surrogate"),
        (['{"item_id": 1.0, "title": "x"}'], "column `item_id`: ids of type Float64"),
        (['{"item_id": true, "title": "x"}'], "column `item_id`: ids of type Boolean"),
        (['{"item_id": 1, "x": ' + "[" * 100_000], "line 1: it is nested too deeply"),
        ([], "the table `items` is empty"),
        (["", "  "], "the table `items` is empty"),
    ],
)
def test_a_broken_line_is_reported(tmp_path: Path, lines: list[str], wanted: str) -> None:
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    text = fault(tmp_path, items=tmp_path / "c.jsonl")
    assert "c.jsonl" in text
    assert wanted in text


def test_faults_name_the_line_where_lines_are_blank(tmp_path: Path) -> None:
    lines = [GOOD, "", '{"item_id": "8", "title": "x", "language": "qqq9"}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert "column `language`, row 2 (line 3): 'qqq9'" in fault(tmp_path, items=tmp_path / "c.jsonl")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    lines = [GOOD.replace('"x"', '"안녕 🎬"'), GOOD.replace("007", "8")]
    (tmp_path / "c.jsonl").write_bytes("\n".join(lines).encode(encoding))
    dataset = make(tmp_path, items=tmp_path / "c.jsonl")
    assert dataset.items().collect()["title"].to_list() == ["안녕 🎬", "x"]
    assert dataset.read["items"]["records"] == 2


def test_bytes_of_another_encoding_are_reported(tmp_path: Path) -> None:
    lines = [GOOD, GOOD.replace('"x"', '"Café"')]
    (tmp_path / "c.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    text = fault(tmp_path, items=tmp_path / "c.jsonl")
    assert "c.jsonl, line 2: " in text
    assert "is not UTF-8" in text


def test_numbers_and_text_in_one_column(tmp_path: Path) -> None:
    rows = [("007", 1), ("8", "2.5"), ("9", None), (10, 4.5)]
    lines = [json.dumps({"item_id": i, "title": "x", "language": "en", "price": p}) for i, p in rows]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    items = make(tmp_path, items=tmp_path / "c.jsonl", columns={"items": {"price": "price"}}).items().collect()
    assert items["price"].to_list() == [1.0, 2.5, None, 4.5]
    assert items["item_id"].to_list() == ["007", "8", "9", "10"]
