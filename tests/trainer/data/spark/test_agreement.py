"""One schema and one record of files that were converted each by itself."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from trainer.data.faults import DatasetError
from trainer.data.spark.agreement import facts_of, lengths_agree, schema_of
from trainer.data.spark.parts import Converted, Finished

_FACTS: dict[str, Any] = {"file": "x.csv", "records": 2, "dropped": {}, "notes": [], "unused": []}


def part(file: str, schema: Mapping[str, pl.DataType], **changes: object) -> Converted:
    given: dict[str, Any] = {"file": file, "records": 2, "schema": schema, "facts": _FACTS} | changes
    return Converted(**given)


def test_a_column_without_values_takes_the_type_of_the_others() -> None:
    text, number = {"a": pl.String(), "b": pl.String()}, {"a": pl.String(), "b": pl.Float64()}
    empty = part("1.csv", text, unfilled=frozenset("b"))
    assert schema_of([empty, part("2.csv", number), empty]) == number
    assert schema_of([part("2.csv", number), empty]) == number
    assert schema_of([empty, empty]) == text


def test_what_differs_is_an_error_that_names_two_files() -> None:
    one = part("가.csv", {"a": pl.String(), "b": pl.Float64()}, columns={"b": "preis"})
    with pytest.raises(DatasetError, match=r"2.csv, column `b`: read as Boolean, and in 가.csv as Float64. Remedy"):
        schema_of([one, part("2.csv", {"a": pl.String(), "b": pl.Boolean()})])
    with pytest.raises(DatasetError, match=r"2.csv has the columns a, and 가.csv has a, b"):
        schema_of([one, part("2.csv", {"a": pl.String()})])
    schema = {"a": pl.String()}
    seconds = part("1.csv", schema, decisions={"times": "unix seconds"})
    with pytest.raises(DatasetError, match=r"\(times: unix milliseconds and unix seconds\). Remedy: set `time_unit`"):
        schema_of([seconds, part("2.csv", schema, decisions={"times": "unix milliseconds"})])
    # A file without rows has decided nothing.
    schema_of([seconds, part("2.csv", schema, records=0, decisions={})])
    with pytest.raises(DatasetError, match="broken"):
        schema_of([seconds, Converted("2.csv", fault="broken"), Converted("3.csv", fault="too")])


def test_embeddings_are_as_long_in_all_files() -> None:
    parts = [part(f"{number}.csv", {"image": pl.List(pl.Float32())}) for number in range(3)]
    known, unknown = Finished(rows=1, lengths={"image": 4}), Finished(rows=1, lengths={"image": None})
    lengths_agree(parts, [unknown, known, known])
    with pytest.raises(DatasetError, match=r"2.csv, column `image`: embeddings of 3 numbers, where 1.csv has 4"):
        lengths_agree(parts, [unknown, known, Finished(rows=1, lengths={"image": 3})])
    with pytest.raises(DatasetError, match="no row has an embedding"):
        lengths_agree(parts, [unknown] * 3)


def test_records_are_those_written_and_dropped() -> None:
    noted = _FACTS | {"notes": ["column `x`: odd"], "first_time": "2020", "last_time": "2021"}
    other = _FACTS | {"first_time": "2019", "last_time": "2020"}
    parts = [part("1", {}, facts=noted), part("2", {}, facts=noted), part("3", {}, facts=other)]
    facts = facts_of("gs://bucket/events/", parts, {"odd": 1}, 5)
    assert facts["notes"] == ["column `x`: odd (said of 2 files)"]
    found = {name: facts[name] for name in ("file", "parts", "records", "written", "first_time", "last_time")}
    assert found == {
        "file": "events",
        "parts": 3,
        "records": 6,
        "written": 5,
        "first_time": "2019",
        "last_time": "2021",
    }
    with pytest.raises(DatasetError, match="has 6 records, but 4 rows were written and 1 were dropped"):
        facts_of("x", parts, {"odd": 1}, 4)
    many = [part("1", {}, facts=_FACTS | {"notes": [f"note {number}" for number in range(70)]})]
    assert facts_of("x", many, {}, 2)["notes"][-1] == "20 more notes are left out"
