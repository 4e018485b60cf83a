"""CSV and TSV files; the oracle is Python's csv module writing them, or bytes written by hand."""

import csv
import gzip
import io
import os
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.data.sources.making import LOG, fault, make
from trainer.data.faults import DatasetError
from trainer.data.settings import ColumnMapping, TableFormat, TabularSource
from trainer.data.sources import delimited
from trainer.data.sources.tabular import inputs

pytestmark = pytest.mark.usefixtures("own_cache")
ITEMS = "item_id,title,language\n007,x,en\n8,y,en\n"


def read(path: Path, **form: object) -> list[tuple[str | None, ...]]:
    """All columns of a file as read."""
    table = delimited.read(
        path,
        "items",
        TableFormat.model_validate(form),
        ["a"],
        lambda names: {n: n for n in names},
        path.with_suffix(".out"),
    )
    rows = table.frame.collect().rows()
    assert table.records == len(rows)
    return rows


# Any text but the two characters that no CSV can hold or that end a record in a special way.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
    | st.sampled_from('",;\t\n\r|\'日本語한국어ไทยعربي🎬" ')
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(_TEXT, _TEXT, _TEXT), min_size=1, max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    chosen=st.lists(st.sampled_from("abc"), min_size=1, unique=True),
)
def test_what_a_csv_library_writes_is_read(
    tmp_path: Path,
    rows: list[tuple[str, ...]],
    quoting: int,
    delimiter: str,
    end: str,
    encoding: str,
    chosen: list[str],
) -> None:
    if any("\r" in value for row in rows for value in row):
        # Python's writer leaves a lone carriage return without quotes, which ends a row for its own reader.
        quoting = csv.QUOTE_ALL
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, delimiter=delimiter, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow("abc")
    writer.writerows(rows)
    path = tmp_path / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    table = delimited.read(
        path, "t", TableFormat(quote='"'), "abc", lambda names: {n: n for n in names if n in chosen}, tmp_path / "out"
    )
    wanted = [{n: v for n, v in zip("abc", row, strict=True) if n in chosen} for row in rows]
    empty = {"", r"\N"}
    assert table.frame.collect().to_dicts() == [
        {n: None if v in empty else v for n, v in row.items()} for row in wanted
    ]
    assert table.records == len(rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\t\n\r"))] * 3),
        min_size=1,
        max_size=12,
    )
)
def test_a_tsv_is_taken_as_it_is_written(tmp_path: Path, rows: list[tuple[str, ...]]) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\tc\n" + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8", newline="")
    looks_quoted = any(
        len(v) > 3 and v[0] == v[-1] == '"' and '""' in v[1:-1] and '"' not in v[1:-1].replace('""', "")
        for row in rows
        for v in row
    )
    if looks_quoted:
        with pytest.raises(DatasetError, match="is quoted as in CSV"):
            read(path)
        rows_read = read(path, quote="")
        return
    rows_read = read(path)
    assert rows_read == [tuple(None if value in ("", r"\N") else value for value in row) for row in rows]


def test_odd_quotes_in_a_column_that_is_not_mapped_lose_nothing(tmp_path: Path) -> None:
    """100,000 rows of which two hold a single quote: Python's csv and the dataset count the same."""
    pick = random.Random(5)
    notes = ["ok", '6" pipe', 'a "b" c', 'x"', ""]
    lines = [f"u{n},{pick.choice(['007', '8'])},{1_700_000_000 + n},view,{pick.choice(notes)}" for n in range(100_000)]
    log = "user_id,item_id,timestamp,event,note\n" + "\n".join(lines) + "\n"
    dataset = make(tmp_path, log)
    expected = [(row["user_id"], row["item_id"], int(row["timestamp"])) for row in csv.DictReader(io.StringIO(log))]
    assert dataset.interactions().select("user_id", "item_id", "timestamp").collect().rows() == expected
    assert dataset.read["interactions"]["records"] == 100_000
    assert dataset.read["interactions"]["written"] == 100_000


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("007,Red, white,en\n8,y,en\n", "row 1: 4 fields but the header has 3. Remedy: put a field"),
        ("007,x,en\n8,y\n007,z\n", "row 2: 2 fields but the header has 3 (2 such rows)"),
        ("007,x,en,\n8,y,en,\n", "row 1: 4 fields but the header has 3 (2 such rows)"),
        ('007,"x\n y",en\n\n8,y\n', "row 2 (line 5): 2 fields but the header has 3"),
        ('007,x,en\n8,"open,en\n9,z,en\n', 'row 2: the quote (") that opens a field in it is never closed'),
        ('007,x,en\n8,"Heroes" by Bowie,en\n', 'row 2: text follows the quote (") that closes a field'),
        ('007,x,en\n8,"6\\" pipe",en\n', 'row 2: text follows the quote (") that closes a field'),
        ("007,x,en\n8,a\x00b,en\n", "row 2: it contains a NUL byte"),
        ("007,x,en\n   \n8,y,en\n", "row 2: 1 field but the header has 3"),
    ],
)
def test_a_row_that_is_not_like_the_header_is_reported(tmp_path: Path, content: str, wanted: str) -> None:
    text = fault(tmp_path, LOG, "item_id,title,language\n" + content)
    assert f"catalogue.csv, {wanted}" in text


def test_a_field_too_many_in_a_tsv_is_reported(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("item_id\ttitle\tlanguage\n007\tx\ten\n8\ty\tz\ten\n")
    text = fault(tmp_path, items=tmp_path / "c.tsv")
    assert "c.tsv, row 2: 4 fields but the header has 3" in text
    assert "quote" in text


@pytest.mark.parametrize(
    ("content", "titles"),
    [
        (
            'item_id\ttitle\tlanguage\n007\t"Heroes" by Bowie\ten\n8\tPipe 3/4"\ten\n',
            ['"Heroes" by Bowie', 'Pipe 3/4"'],
        ),
        ('item_id\ttitle\tlanguage\n007\t"Heroes\ten\n8\tLow"\ten\n', ['"Heroes', 'Low"']),
        # A quoted header: written by a tool that quotes fields.
        ('"item_id"\t"title"\t"language"\n"007"\t"a\tb"\t"en"\n"8"\t"say ""hi"""\t"en"\n', ["a\tb", 'say "hi"']),
    ],
)
def test_tsv_has_no_quoting_unless_its_header_has(tmp_path: Path, content: str, titles: list[str]) -> None:
    (tmp_path / "c.tsv").write_text(content)
    items = make(tmp_path, items=tmp_path / "c.tsv").items().collect()
    assert items["title"].to_list() == titles


def test_a_tsv_that_is_quoted_needs_the_setting(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text('item_id\ttitle\tlanguage\n007\tx\ten\n8\t"say ""hi"""\ten\n')
    assert "column `title`, row 2: " in fault(tmp_path, items=tmp_path / "c.tsv")
    for quote, title in (('"', 'say "hi"'), ("", '"say ""hi"""')):
        items = make(tmp_path, items=tmp_path / "c.tsv", formats={"items": {"quote": quote}}).items().collect()
        assert items["title"].to_list() == ["x", title]


def test_quotes_that_happen_to_pair_up_over_rows_are_refused(tmp_path: Path) -> None:
    rows = '007,"Heroes,en\n8,Blue,en\n9,Low",en\n10,Dog,en\n'
    text = fault(tmp_path, LOG, "item_id,title,language\n" + rows)
    assert 'row 1: the quotes (") in it enclose lines 2 to 4, each of which has the 3 fields of a row' in text
    log = LOG.replace(",8,", ",007,")
    dataset = make(tmp_path, log, "item_id,title,language\n" + rows, quote='"')
    assert dataset.items().collect()["title"].to_list() == ["Heroes,en\n8,Blue,en\n9,Low", "Dog"]
    # Line breaks by themselves are valid.
    rows = '007,"one, two\nthree",en\n8,"a\n\nb",en\n'
    dataset = make(tmp_path, LOG, "item_id,title,language\n" + rows)
    assert dataset.items().collect()["title"].to_list() == ["one, two\nthree", "a\n\nb"]


def test_a_space_before_quotes_is_refused(tmp_path: Path) -> None:
    catalogue = 'item_id, title, language\n007, "Red shoe", en\n8, "y", en\n'.replace(
        ", title, language", ",title,language"
    )
    text = fault(tmp_path, LOG, catalogue)
    assert "column `title`, row 1: ' \"Red shoe\"' has a space before its quotes" in text


def test_the_line_that_tells_excel_the_delimiter(tmp_path: Path) -> None:
    text = fault(tmp_path, LOG, "sep=;\n" + ITEMS.replace(",", ";"))
    assert "its first line 'sep=;' is not a header" in text or "its first line 'sep=' is not a header" in text


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_sniffed_logged_and_kept(
    tmp_path: Path, delimiter: str, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = f"item_id,title,language\n007,{'x'},en\n8,y,en\n".replace(",", delimiter)
    with caplog.at_level("INFO"):
        dataset = make(tmp_path, LOG, catalogue.replace("x", '"Red, white"'))
    assert dataset.items().collect()["title"].to_list() == ["Red, white", "y"]
    assert "catalogue.csv: read as separated by" in caplog.text
    header = yaml.safe_load((dataset.path / "dataset.yaml").read_text())
    assert header["read"]["items"]["delimiter"] == delimiter
    assert header["read"]["interactions"]["delimiter"] == ","


def test_a_comma_stays_the_delimiter_where_others_occur(tmp_path: Path) -> None:
    catalogue = "item_id,title,language,categories\n007,a;b;c,en,x|y\n8,d;e;f,en,z|w\n"
    items = make(tmp_path, LOG, catalogue).items().collect()
    assert items["title"].to_list() == ["a;b;c", "d;e;f"]
    assert items["categories"].to_list() == [["x", "y"], ["z", "w"]]


def test_a_delimiter_that_must_be_set(tmp_path: Path) -> None:
    catalogue = ITEMS.replace(",", "~")
    assert "set `data.source.delimiter`" in fault(tmp_path, LOG, catalogue)
    dataset = make(tmp_path, LOG, catalogue, formats={"items": {"delimiter": "~"}})
    assert dataset.rows["items"] == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "cp949", "shift_jis"])
def test_encodings(tmp_path: Path, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    title = {"cp1252": "Café “noir” €", "cp949": "오래된 책", "shift_jis": "南部鉄器の急須"}.get(encoding, "안녕 ☕ é")
    data = f"item_id,title,language\r\n007,{title},en\r\n8,y,en\r\n".encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    (tmp_path / "c.csv").write_bytes(data)
    known = encoding in ("utf-8-sig", "utf-16", "utf-16-be")
    if not known:
        text = fault(tmp_path, items=tmp_path / "c.csv")
        assert "c.csv" in text
        assert "set `encoding" in text
        if encoding != "utf-16-le":
            assert "row 1: " in text
            assert "is not UTF-8" in text
    form: dict[str, Any] = {} if known else {"items": {"encoding": encoding}}
    with caplog.at_level("INFO"):
        dataset = make(tmp_path, items=tmp_path / "c.csv", formats=form)
    assert ("c.csv: read as UTF-16, by its byte order mark" in caplog.text) == (encoding in ("utf-16", "utf-16-be"))
    assert dataset.read["items"]["encoding"] == ("utf-16" if encoding == "utf-16-be" else encoding)
    assert dataset.items().collect()["title"].to_list() == [title, "y"]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("c.csv", b"\x1f\x8b\x08\x00rest", "is gzip data, despite its name. Remedy: name it with `.gz`"),
        ("c.csv.gz", b"item_id,title\n", "is not gzip, despite its name. Remedy: remove `.gz` from its name"),
        (
            "c.csv",
            b"PK\x03\x04 workbook",
            "Excel workbook is one), despite its name. Remedy: save the sheet",
        ),
        ("c.csv", b"PAR1 nothing", "is Parquet, despite its name. Remedy: name it `.parquet`"),
        ("c.csv", b"<!DOCTYPE html><html>", "is a web page"),
        ("c.csv", b"", "the table `items` is empty"),
        ("c.csv", b"\n\n", "the table `items` is empty"),
        ("c.csv", b"item_id,title,language\n", "the table `items` is empty"),
        ("c.csv.gz", gzip.compress(b"item_id,title,language\n" * 9999)[:-20], "gzip data are incomplete or damaged"),
        ("c.parquet", b"PAR1 nothing", "is truncated: its Parquet footer is missing"),
        ("c.parquet", b"item_id,title\n", "is not a Parquet file"),
        ("c.xlsx", b"PK\x03\x04", "save the sheet as CSV UTF-8"),
        ("c.json", b"[]", "write one JSON object per line and name it .jsonl"),
    ],
)
def test_a_file_that_is_something_else_is_reported(tmp_path: Path, name: str, content: bytes, wanted: str) -> None:
    (tmp_path / name).write_bytes(content)
    text = fault(tmp_path, items=tmp_path / name)
    assert name in text
    assert wanted in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(ITEMS)
    (tmp_path / "c.csv").chmod(0)
    assert "permission denied" in fault(tmp_path, items=tmp_path / "c.csv")


def test_blank_lines_are_not_rows(tmp_path: Path) -> None:
    dataset = make(tmp_path, LOG, "\n\nitem_id,title,language\n\n007,x,en\n\n8,y,en\n\n")
    assert dataset.items().collect()["title"].to_list() == ["x", "y"]
    assert dataset.read["items"]["blank_lines"] == 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_a_missing_last_one(tmp_path: Path, end: str) -> None:
    dataset = make(tmp_path, LOG, ITEMS.replace("\n", end).rstrip("\r\n"))
    assert dataset.items().collect()["title"].to_list() == ["x", "y"]


def test_header_names(tmp_path: Path) -> None:
    # pandas writes its index without a name.
    dataset = make(tmp_path, LOG, ",item_id,title,language\n0,007,x,en\n1,8,y,en\n")
    assert dataset.read["items"]["unused"] == ["(unnamed)"]
    text = fault(tmp_path, LOG, "item_id,title,title,language\n007,x,z,en\n")
    assert "2 columns of the header are named `title`" in text
    dataset = make(tmp_path, LOG, "item_id,title,note,note,language\n007,x,1,2,en\n8,y,1,2,en\n")
    assert dataset.rows["items"] == 2


def test_faults_name_the_line_where_fields_hold_line_breaks(tmp_path: Path) -> None:
    log = 'user_id,item_id,timestamp,event,note\nu,8,1700000000,view,"two\nlines"\nu,8,never,view,\n'
    assert "column `timestamp`, row 2 (line 4): 'never' is not a time" in fault(tmp_path, log)


def test_a_record_larger_than_a_block(tmp_path: Path) -> None:
    long = "쪽" * 4_000_000
    items = make(tmp_path, LOG, f'item_id,title,language\n007,"{long}",ko\n8,y,en\n').items().collect()
    assert items["title"].to_list() == [long, "y"]


def test_the_null_of_database_exports(tmp_path: Path) -> None:
    mapping = ColumnMapping(items={"price": "price"})
    catalogue = "item_id,title,language,description,price\n007,x,en,\\N,\\N\n8,y,en,z,2\n"
    items = make(tmp_path, LOG, catalogue, columns=mapping).items().collect()
    assert items["description"].to_list() == [None, "z"]
    assert items["price"].to_list() == [None, 2.0]


def test_null_values(tmp_path: Path) -> None:
    mapping = ColumnMapping(items={"price": "price"})
    catalogue = "item_id,title,language,description,price\n007,x,en,keine Angabe,auf Anfrage\n8,y,en,z,2\n"
    settings_ = {"null_values": ["keine Angabe", "auf Anfrage"], "columns": mapping}
    dataset = make(tmp_path, LOG, catalogue, **settings_)
    items = dataset.items().collect()
    assert items["description"].to_list() == [None, "z"]
    assert items["price"].to_list() == [None, 2.0]
    assert "column `price`: read as missing by `null_values`: 1" in dataset.read["items"]["notes"]


def test_a_directory_of_parts(tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    (folder / "day=1").mkdir(parents=True)
    (folder / "day=1" / "part-0.csv").write_text("user_id,item_id,timestamp,event\nu,8,1700000000,view\n")
    (folder / "day=1" / "part-1.csv").write_text("item_id,user_id,timestamp,event\n007,v,1700000001,view\n8,w,x,view\n")
    (folder / "_SUCCESS").write_text("")
    (folder / "day=1" / "part-2.csv").write_text("")
    text = fault(tmp_path, interactions=folder)
    assert "column `timestamp`, part-1.csv, row 2: 'x' is not a time" in text
    (folder / "day=1" / "part-1.csv").write_text("item_id,user_id,timestamp,event\n007,v,x,view\n8,w,x,view\n")
    assert "part-1.csv, row 1: 'x' is not a time; likewise 1 more row (part-1.csv, row 2)" in fault(
        tmp_path, interactions=folder, time_unit="s"
    )
    (folder / "day=1" / "part-1.csv").write_text("item_id,user_id,timestamp,event\n007,v,1700000001,view\n")
    dataset = make(tmp_path, interactions=folder)
    assert dataset.interactions().select("user_id", "item_id").collect().rows() == [("u", "8"), ("v", "007")]
    assert dataset.read["interactions"]["records"] == 2
    source = {"interactions": folder, "items": tmp_path / "catalogue.csv"}
    assert [file.name for file in inputs(TabularSource.model_validate(source))] == [
        "part-0.csv",
        "part-1.csv",
        "catalogue.csv",
    ]
    (folder / "x.parquet").write_bytes(b"PAR1")
    assert "contains files of several formats" in fault_directory(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is a directory without files" in fault_directory(empty)


def fault_directory(folder: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        make(folder.parent, interactions=folder)
    return str(caught.value)


def test_rows_that_are_left_out_are_counted(tmp_path: Path) -> None:
    dataset = make(tmp_path, LOG + "u1,404,1700000009,view,\n", drop_unknown_items=True)
    read_ = dataset.read["interactions"]
    assert (read_["records"], read_["written"], sum(read_["dropped"].values())) == (3, 2, 1)


def test_a_reader_that_loses_rows_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = pl.LazyFrame.sink_parquet

    def lossy(frame: pl.LazyFrame, path: Path, row_group_size: int) -> None:
        original(frame.head(1), path, row_group_size=row_group_size)

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", lossy)
    text = fault(tmp_path)
    assert "log.csv has 2 records, but 1 rows were read and 0 were dropped" in text
