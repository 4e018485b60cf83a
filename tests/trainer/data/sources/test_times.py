"""Times: units, forms, zones, and the rows without a time; expected seconds come from datetime."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from tests.trainer.data.sources.making import CATALOGUE, fault, make
from trainer.data.sources.times import bounds

pytestmark = pytest.mark.usefixtures("own_cache")


def log(*times: str) -> str:
    return "user_id,item_id,timestamp,event\n" + "".join(f'u,8,"{time}",view\n' for time in times)


def seconds(folder: Path, *times: str, **settings: object) -> list[int]:
    return make(folder, log(*times), CATALOGUE, **settings).interactions().collect()["timestamp"].to_list()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1700000000", 1_700_000_000),
        ("1700000000.75", 1_700_000_000),
        ("1.7e9", 1_700_000_000),
        ("1700000000123", 1_700_000_000),
        ("1700000000123456", 1_700_000_000),
        ("1700000000123456789", 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000),
        ("2023-11-14T22:13:20.999+00:00", 1_700_000_000),
        ("2023-11-15T07:13:20+09:00", 1_700_000_000),
        ("2023-11-15T07:13:20+0900", 1_700_000_000),
        ("2023-11-14 22:13:20.123+00", 1_700_000_000),
        ("2023-11-14 23:13:20+01", 1_700_000_000),
        ("2023-11-14 18:43:20-03:30", 1_700_000_000),
        ("2023-11-14 22:13:20 UTC", 1_700_000_000),
        ("2023-11-14 22:13:20 GMT", 1_700_000_000),
        ("2023-11-14 22:13:20 +0000 UTC", 1_700_000_000),
        ("2023-11-14T23:13:20+01:00[Europe/Berlin]", 1_700_000_000),
        ("20231114T221320Z", 1_700_000_000),
        ("2023/11/14 22:13:20", 1_700_000_000),
        ("2023-11-14T22:13", 1_700_000_000 - 20),
        ("2023-11-14", 1_699_920_000),
        ("20231114", 1_699_920_000),
        ("202311142213", 1_700_000_000 - 20),
        ("20231114221320", 1_700_000_000),
        ("20231114.0", 1_699_920_000),
        ("1990-01-01", 631_152_000),
    ],
)
def test_times(tmp_path: Path, written: str, expected: int) -> None:
    assert seconds(tmp_path, written, written) == [expected, expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([datetime(2023, 11, 14, 22, 13, 20), datetime(1990, 1, 1)], [1_700_000_000, 631_152_000]),
        ([datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)], [1_700_000_000]),
        ([date(2023, 11, 14), date(1990, 1, 2)], [1_699_920_000, 631_238_400]),
        ([1_700_000_000_000, 1_700_000_001_000], [1_700_000_000, 1_700_000_001]),
        ([1_700_000_000.5], [1_700_000_000]),
        ([20231114, 20231115], [1_699_920_000, 1_700_006_400]),
    ],
)
def test_times_of_parquet(tmp_path: Path, values: list[Any], expected: list[int]) -> None:
    size = len(values)
    frame = pl.DataFrame({"user_id": ["u"] * size, "item_id": ["8"] * size, "timestamp": values, "event": "view"})
    frame.write_parquet(tmp_path / "log.parquet")
    dataset = make(tmp_path, interactions=tmp_path / "log.parquet")
    assert dataset.interactions().collect()["timestamp"].to_list() == expected


def test_a_missing_time_is_reported(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user_id": "u", "item_id": "8", "timestamp": [datetime(2023, 11, 14, tzinfo=UTC), None], "event": "view"}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    assert "`timestamp`, row 2: the value is missing" in fault(tmp_path, interactions=tmp_path / "log.parquet")


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        # Only the sentinel row is reported; the others keep their unit.
        (
            ["1700000000000", "253402214400000", "1700000001000"],
            "row 2: '253402214400000' is 9999-12-31T00:00:00Z (read as unix milliseconds), outside 1990-01-01 to",
        ),
        (["1700000000000", "1700000001000", "4070908800000"], "row 3: '4070908800000' is 2099-01-01T00:00:00Z"),
        (["1700000000", "1700000001", "1700000001000"], "row 3: '1700000001000' is beyond the years"),
        (["1700000000", "0", "0"], "row 2: '0' is 1970-01-01T00:00:00Z (read as unix seconds)"),
        (["2023-11-14", "9999-12-31"], "row 2: '9999-12-31' is 9999-12-31T00:00:00Z (read as ISO 8601), outside"),
        (["2023-11-14", "0001-01-01"], "row 2: '0001-01-01' is 0001-01-01T00:00:00Z"),
        (["2023-11-14", "2023-13-14", "2023-11-15"], "row 2: '2023-13-14' is not a time"),
        (["20231114", "20231345", "20231115"], "row 2: '20231345' is not a date of the form %Y%m%d"),
        (["1700000000", "2023-11-14", "1700000001"], "row 2: '2023-11-14' is not a time"),
        (["2023-11-14", "2023-11-15", "1700000001"], "row 3: '1700000001' is not a time"),
        (
            ["45244.9259", "45245.5"],
            "row 1: '45244.9259' is not a unix time since 1990; among Excel's day numbers it is 2023",
        ),
        (["19675", "19676"], "among days since 1970 it is 2023-11-14. Remedy: set `time_unit: days`"),
        (["2019", "2020"], "row 1: '2019' is a year, not a time"),
        (["0", "1", "2"], "row 1: '0' is 1970-01-01T00:00:00Z as unix seconds; no value is a time from 1990-01-01"),
        (["14.11.2023 22:13"], "'14.11.2023 22:13' is not a time. Remedy: write unix seconds or ISO 8601"),
        (
            ["2023-11-14", "no", "never", "2023-11-14", "2023-11-14", "2023-11-14", "x", "y", "z"],
            "likewise 4 more rows (3, 7, 8",
        ),
    ],
)
def test_what_is_not_a_time_is_reported(tmp_path: Path, times: list[str], wanted: str) -> None:
    text = fault(tmp_path, log(*times))
    assert "log.csv, column `timestamp`, row " in text
    assert wanted in text


def test_the_end_of_next_year_is_the_last_time(tmp_path: Path) -> None:
    last = datetime(datetime.now(UTC).year + 1, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert seconds(tmp_path, last.isoformat()) == [int(last.timestamp())]
    assert bounds() == (631_152_000, int(last.timestamp()) + 1)
    assert "outside" in fault(tmp_path, log("2023-11-14", (last + timedelta(seconds=1)).isoformat()))


@pytest.mark.parametrize(
    ("written", "settings", "expected"),
    [
        ("45244.9259259259", {"time_unit": "excel_days"}, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("45244,5", {"time_unit": "excel_days", "decimal": ","}, datetime(2023, 11, 14, 12, tzinfo=UTC)),
        ("45244.75", {"time_unit": "excel_days", "time_zone": "Asia/Seoul"}, datetime(2023, 11, 14, 9, tzinfo=UTC)),
        ("19675", {"time_unit": "days"}, datetime(2023, 11, 14, tzinfo=UTC)),
        ("1700000000000", {"time_unit": "ms"}, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("14.11.2023 22:13", {"time_format": "%d.%m.%Y %H:%M"}, datetime(2023, 11, 14, 22, 13, tzinfo=UTC)),
        ("11/14/2023 10:13 PM", {"time_format": "%m/%d/%Y %I:%M %p"}, datetime(2023, 11, 14, 22, 13, tzinfo=UTC)),
        ("14.11.2023", {"time_format": "%d.%m.%Y"}, datetime(2023, 11, 14, tzinfo=UTC)),
        ("14112023", {"time_format": "%d%m%Y"}, datetime(2023, 11, 14, tzinfo=UTC)),
        ("14.11.2023 22:13 +0100", {"time_format": "%d.%m.%Y %H:%M %z"}, datetime(2023, 11, 14, 21, 13, tzinfo=UTC)),
        (
            "14.07.2023 22:13",
            {"time_format": "%d.%m.%Y %H:%M", "time_zone": "Europe/Berlin"},
            datetime(2023, 7, 14, 22, 13, tzinfo=ZoneInfo("Europe/Berlin")),
        ),
        (
            "2023-01-14 22:13",
            {"time_zone": "America/New_York"},
            datetime(2023, 1, 14, 22, 13, tzinfo=ZoneInfo("America/New_York")),
        ),
        # An offset in the file takes precedence over the setting.
        ("2023-01-14 22:13Z", {"time_zone": "America/New_York"}, datetime(2023, 1, 14, 22, 13, tzinfo=UTC)),
        ("1700000000", {"time_zone": "America/New_York"}, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
    ],
)
def test_settings(tmp_path: Path, written: str, settings: dict[str, str], expected: datetime) -> None:
    assert seconds(tmp_path, written, written, **settings) == [int(expected.timestamp())] * 2
    assert seconds(tmp_path, written, formats={"interactions": settings}) == [int(expected.timestamp())]


def test_a_format_that_rows_do_not_have(tmp_path: Path) -> None:
    text = fault(tmp_path, log("14.11.2023", "2023-11-14"), time_format="%d.%m.%Y")
    assert "row 2: '2023-11-14' does not match %d.%m.%Y" in text
    assert "`data.source.time_format` '%d.%m.%Y %H' can't be used" in fault(
        tmp_path, log("14.11.2023 7"), time_format="%d.%m.%Y %H"
    )


def test_hours_that_a_zone_has_twice_or_not_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    zone = ZoneInfo("Europe/Berlin")
    twice = datetime(2023, 10, 29, 2, 30, tzinfo=zone, fold=0)
    with caplog.at_level("WARNING"):
        assert seconds(tmp_path, "2023-10-29 02:30", time_zone="Europe/Berlin") == [int(twice.timestamp())]
    assert "1 of the times are in an hour that Europe/Berlin repeats: read as the first" in caplog.text
    text = fault(tmp_path, log("2023-03-26 01:30", "2023-03-26 02:30"), time_zone="Europe/Berlin")
    assert "row 2: '2023-03-26 02:30' does not exist in Europe/Berlin" in text


def test_what_was_read_is_logged_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        dataset = make(tmp_path, log("1700000000000", "1700000061000"))
    line = "read as unix milliseconds, from 2023-11-14T22:13:20Z to 2023-11-14T22:14:21Z"
    assert f"log.csv, column `timestamp`: {line}" in caplog.text
    kept = yaml.safe_load((dataset.path / "dataset.yaml").read_text())["read"]["interactions"]
    assert kept["times"] == "unix milliseconds"
    assert kept["time_zone"] == "UTC"
    assert (kept["first_time"], kept["last_time"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:14:21Z")


def test_times_rounded_by_a_spreadsheet_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        assert seconds(tmp_path, "1.7E+12", "1700000060000") == [1_700_000_000, 1_700_000_060]
    assert "column `timestamp`: 1 times are in scientific notation" in caplog.text
