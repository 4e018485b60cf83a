"""Numbers in text: missing ones, decimal signs, and columns that hold something else."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.trainer.data.sources.making import LOG, fault, make
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset

pytestmark = pytest.mark.usefixtures("own_cache")


def catalogue(values: list[str], delimiter: str = ",") -> str:
    """A catalogue with a column `price`; its first two items are those of the log."""
    ids = ["007", "8", *(f"i{n}" for n in range(len(values) - 2))]
    rows = [["item_id", "title", "language", "price"]]
    rows += [[item, "x", "en", f'"{value}"'] for item, value in zip(ids, values, strict=True)]
    return "\n".join(delimiter.join(row) for row in rows) + "\n"


def shop(folder: Path, values: list[str], delimiter: str = ",", **settings: object) -> Dataset:
    return make(folder, LOG, catalogue(values, delimiter), columns={"items": {"price": "price"}}, **settings)


def prices(folder: Path, values: list[str], delimiter: str = ",", **settings: object) -> list[Any]:
    return shop(folder, values, delimiter, **settings).items().collect()["price"].to_list()


def refused(folder: Path, values: list[str], **settings: object) -> str:
    return fault(folder, LOG, catalogue(values), columns={"items": {"price": "price"}}, **settings)


@pytest.mark.parametrize("nothing", ["-", "N/A", "NULL", "None", "nan", "NaN", "#N/A", "n/a", "—", "?", " "])
def test_one_spelling_of_nothing_keeps_a_column_numeric(
    tmp_path: Path, nothing: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = [str(n / 2) for n in range(999)] + [nothing]
    with caplog.at_level("INFO"):
        dataset = shop(tmp_path, values)
    assert list(Catalogue.from_dataset(dataset).numeric) == ["price"]
    assert dataset.items().collect()["price"].to_list() == [n / 2 for n in range(999)] + [None]
    if nothing.strip():
        line = f"column `price`: {nothing!r} in row 1000 is read as missing (1 in all)"
        assert line in caplog.text
        assert line in dataset.read["items"]["notes"]


def test_a_word_among_numbers_is_refused(tmp_path: Path) -> None:
    values = [str(n) for n in range(999)] + ["sold out"]
    text = refused(tmp_path, values)
    assert "column `price`, row 1000: 'sold out' is not a number (999 of 1,000 values are). Remedy: " in text
    assert "`null_values`" in text
    assert prices(tmp_path, values, null_values=["sold out"])[-2:] == [998.0, None]


def test_a_column_of_numbers_and_words_stays_text_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        dataset = shop(tmp_path, ["42", "43", "L", "XL"])
    assert dataset.items().collect()["price"].to_list() == ["42", "43", "L", "XL"]
    assert (
        "column `price`: row 3: 'L' is not a number (2 of 4 values are): kept as text, the model does not"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        (["1.299,00 €", "5,5"], {"decimal": ","}, [1299.0, 5.5]),
        (["€ 1.299", "-0,5"], {"decimal": ","}, [1299.0, -0.5]),
        (["1 299,50", "12’345,6"], {"decimal": ","}, [1299.5, 12345.6]),
        (["1 299 EUR", "1.000.000"], {"decimal": ","}, [1299.0, 1_000_000.0]),
        (["$1,299.00", "5"], {"decimal": "."}, [1299.0, 5.0]),
        (["₩12,000", "USD 3.5"], {"decimal": "."}, [12000.0, 3.5]),
        (["1.5e3", "-2"], {}, [1500.0, -2.0]),
    ],
)
def test_decimal_signs_and_currencies(
    tmp_path: Path, values: list[str], settings: dict[str, str], expected: list[float]
) -> None:
    assert prices(tmp_path, values, **settings) == expected


@pytest.mark.parametrize(
    "values", [["1.299,00 €", "5,00 €"], ["1,5", "2,5"], ["1,299", "2"], ["1.5", "1,5"], ["12 EUR", "3"]]
)
def test_an_ambiguous_number_needs_the_setting(tmp_path: Path, values: list[str]) -> None:
    text = refused(tmp_path, values)
    assert "column `price`, row " in text
    assert "`decimal: ','`" in text


@pytest.mark.parametrize("values", [["1.29", "3,5"], ["1,2,3", "3,5"], ["1.2345", "1,5"]])
def test_a_number_of_the_other_sign_is_refused(tmp_path: Path, values: list[str]) -> None:
    assert f"row 1: {values[0]!r} is not a number" in refused(tmp_path, [*values, *["1,5"] * 20], decimal=",")


def test_a_decimal_comma_is_seen_where_semicolons_separate(tmp_path: Path) -> None:
    dataset = shop(tmp_path, ["1.299,00", "5,5", "7"], ";")
    assert dataset.items().collect()["price"].to_list() == [1299.0, 5.5, 7.0]
    assert "column `price`: read with a decimal comma" in dataset.read["items"]["notes"]


def test_codes_are_not_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        assert prices(tmp_path, ["01067", "80331"]) == ["01067", "80331"]
    assert "1 values begin with a zero" in caplog.text
    assert prices(tmp_path, ["0", "0.5"]) == [0.0, 0.5]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["true", "False"], [True, False]),
        (["yes", "no"], [True, False]),
        (["t", ""], [True, None]),
        (["0", "1"], [0.0, 1.0]),
    ],
)
def test_truth_values(tmp_path: Path, values: list[str], expected: list[Any]) -> None:
    assert prices(tmp_path, values) == expected


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("much", "column `value`, row 2: 'much' is not a number"),
        ("4,5", "column `value`, row 2: '4,5' is not a number"),
    ],
)
def test_values_of_interactions(tmp_path: Path, value: str, wanted: str) -> None:
    log = f'user_id,item_id,timestamp,event,value\nu,8,1700000000,view,1\nu,8,1700000000,view,"{value}"\n'
    assert wanted in fault(tmp_path, log)


def test_missing_values_of_interactions(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp,event,value\nu,8,1700000000,view,1\nu,8,1700000000,view,NULL\n"
    assert make(tmp_path, log).interactions().collect()["value"].to_list() == [1.0, None]


def test_positions_are_whole(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp,event,position\nu,8,1700000000,view,3.0\nu,8,1700000000,view,{}\n"
    assert make(tmp_path, log.format(2)).interactions().collect()["position"].to_list() == [3, 2]
    assert "row 2: '2.5' is not a whole number" in fault(tmp_path, log.format(2.5))
    assert "row 2: '99999999999' is not a whole number" in fault(tmp_path, log.format(99999999999))


def test_types_of_parquet(tmp_path: Path) -> None:
    from decimal import Decimal

    frame = pl.DataFrame(
        {
            "item_id": pl.Series([7, 8], dtype=pl.UInt64),
            "title": pl.Series(["x", "y"], dtype=pl.Categorical),
            "language": [b"en", b"ko"],
            "price": [Decimal("1.50"), None],
            "since": ["2023-01-01", "2023-01-02"],
        }
    ).with_columns(pl.col("since").str.to_date())
    frame.write_parquet(tmp_path / "c.parquet")
    log = "user_id,item_id,timestamp,event\nu,8,1700000000,view\n"
    mapping = {"items": {"price": "price", "since": "since"}}
    dataset = make(tmp_path, log, items=tmp_path / "c.parquet", columns=mapping)
    assert dataset.items().select("item_id", "title", "language", "price", "since").collect().rows() == [
        ("7", "x", "en", 1.5, "2023-01-01"),
        ("8", "y", "ko", None, "2023-01-02"),
    ]
    assert "column `since`: type Date: kept as text, the model does not use it" in dataset.read["items"]["notes"]


def test_thousands_and_three_decimals_look_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = ["1.299", "2.500", "7"]
    text = fault(tmp_path, LOG, catalogue(values, ";"), columns={"items": {"price": "price"}})
    assert "column `price`, row 1: '1.299' is one thousand and more, or has three decimals" in text
    assert "`decimal: ','`" in text
    assert prices(tmp_path, values, ";", decimal=",") == [1299.0, 2500.0, 7.0]
    assert prices(tmp_path, values, ";", decimal=".") == [1.299, 2.5, 7.0]
    assert prices(tmp_path, ["1.299", "2.50"], ";") == [1.299, 2.5]
    with caplog.at_level("WARNING"):
        assert prices(tmp_path, values) == [1.299, 2.5, 7.0]
    assert "all 2 values with a point have three digits after it, such as '1.299': read as decimals" in caplog.text


def test_a_column_without_any_value_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        shop(tmp_path, ["-", "n/a"])
    assert "column `price`: no row has a value" in caplog.text


def test_percentages(tmp_path: Path) -> None:
    assert "row 1: '10%' is not a number" in refused(tmp_path, ["10%", "20 %"])
    assert prices(tmp_path, ["10%", "20,5 %"], decimal=",") == [10.0, 20.5]
