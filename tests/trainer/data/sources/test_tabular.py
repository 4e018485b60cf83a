"""The user's own tables: every format, conversion and fault."""

import gzip
import json
import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.trainer.data.sources.making import CATALOGUE, LOG, fault, make
from trainer.data.faults import DatasetError
from trainer.data.settings import ColumnMapping, TabularSource
from trainer.data.sources import prepare, tabular

SHOP = Path(__file__).parent / "shop"


pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_example_of_the_documentation() -> None:
    page = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
    settings = yaml.safe_load(page.split("```yaml")[1].split("```")[0])["data"]["source"]
    for table in ("interactions", "items"):
        settings[table] = str(SHOP / settings[table])
    dataset = prepare(TabularSource.model_validate(settings))
    assert dataset.interactions().collect().rows() == [
        ("ana", "1001", 1795458600, "purchase", None),
        ("ana", "1002", 1795462200, "purchase", None),
        ("大輔", "1003", 1795462260, "purchase", None),
    ]
    items = dataset.items().collect()
    assert items.select("item_id", "language", "title", "categories", "price").rows() == [
        ("1001", "es", "Tetera de barro hecha a mano en Oaxaca", ["cocina", "té"], 24.5),
        ("1002", "en", "Loose leaf green tea, first harvest", ["tea"], 12.0),
        ("1003", "ja", "南部鉄器の急須", [], None),
    ]


def test_ids_keep_their_zeros_and_gaps_their_meaning(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    assert dataset.interactions().collect().rows() == [
        ("u1", "007", 1_700_000_000, "rating", 4.0),
        ("ü2", "8", 1_700_000_001, "view", None),
    ]
    assert dataset.items().select("item_id", "title", "description", "categories").collect().rows() == [
        ("007", "제임스 본드", None, ["영화", "고전"]),
        ("8", "Tea pot", None, []),
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "ndjson", "parquet", "csv.gz", "tsv.gz", "jsonl.gz"])
def test_every_format_gives_the_same(tmp_path: Path, ending: str) -> None:
    log = pl.DataFrame(
        {
            "user_id": [1, 2],
            "item_id": [10, 20],
            "timestamp": [1_700_000_005, 1_700_000_006],
            "event": ["view", "click"],
            "value": [0.5, None],
        }
    )
    catalogue = pl.DataFrame(
        {
            "item_id": [10, 20],
            "title": ["Eins\tund", 'Zw"ei, 二 🎬'],
            "language": ["de", "de"],
            "categories": ["a|b", None],
        }
    )
    for name, frame in (("log", log), ("catalogue", catalogue)):
        file, kind = tmp_path / f"{name}.{ending}", ending.split(".")[0]
        if kind == "parquet":
            frame.write_parquet(file)
            continue
        text = (
            frame.write_csv(separator="\t" if kind == "tsv" else ",")
            if kind in ("csv", "tsv")
            else frame.write_ndjson()
        )
        content = text.encode()
        file.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    # Polars quotes TSV as CSV.
    quote = '"' if ending.startswith("tsv") else None
    source = TabularSource(interactions=tmp_path / f"log.{ending}", items=tmp_path / f"catalogue.{ending}", quote=quote)
    dataset = prepare(source)
    assert dataset.interactions().collect().rows() == [
        ("1", "10", 1_700_000_005, "view", 0.5),
        ("2", "20", 1_700_000_006, "click", None),
    ]
    assert dataset.items().select("item_id", "title", "categories").collect().rows() == [
        ("10", "Eins\tund", ["a", "b"]),
        ("20", 'Zw"ei, 二 🎬', []),
    ]


def log_with(**changes: str) -> str:
    row = {"user_id": "u", "item_id": "8", "timestamp": "1700000005", "event": "view", "value": "1"} | changes
    good = {"user_id": "u", "item_id": "8", "timestamp": "1700000005", "event": "view", "value": "1"}
    header = ",".join(row)
    lines = [
        ",".join(good.get(name, changes[name] if name not in good else "") for name in row),
        ",".join(row.values()),
    ]
    return "\n".join([header, *lines]) + "\n"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"timestamp": "yesterday"}, "column `timestamp`, row 2: 'yesterday' is not a time"),
        (
            {"timestamp": "-4"},
            "column `timestamp`, row 2: '-4' is 1969-12-31T23:59:56Z (read as unix seconds",
        ),
        ({"timestamp": ""}, "column `timestamp`, row 2: the value is missing"),
        ({"event": "klick"}, "column `event`, row 2: unknown event 'klick'"),
        ({"event": ""}, "column `event`, row 2: the value is missing"),
        ({"user_id": ""}, "column `user_id`, row 2: the id is missing"),
        ({"item_id": "99"}, "column `item_id`, row 2: '99' is not in"),
        ({"value": "much"}, "column `value`, row 2: 'much' is not a number"),
        ({"value": "inf"}, "column `value`, row 2: inf is not a finite number"),
    ],
)
def test_a_broken_row_of_the_log_is_reported(tmp_path: Path, changes: dict[str, str], wanted: str) -> None:
    text = fault(tmp_path, log_with(**changes))
    assert str(tmp_path / "log.csv") in text
    assert wanted in text


@pytest.mark.parametrize(
    ("catalogue", "wanted"),
    [
        ("item_id,title,language\n007,x,en\n8,y,klingonese\n", "column `language`, row 2: 'klingonese'"),
        ("item_id,title,language\n007,x,en\n8,y,jp\n", "column `language`, row 2: 'jp' names no registered"),
        ("item_id,title,language\n007,x,en\n007,y,en\n", "row 2: '007' is a duplicate of row 1"),
        ("item_id,title,language\n,x,en\n8,y,en\n", "column `item_id`, row 1: the id is missing"),
        ("item_id,name,language\n8,y,en\n", "column `title` is missing; the columns are item_id, name, language"),
        ("item_id,title,language\n", "the table `items` is empty"),
        ("", "the table `items` is empty"),
    ],
)
def test_a_broken_catalogue_is_reported(tmp_path: Path, catalogue: str, wanted: str) -> None:
    text = fault(tmp_path, LOG, catalogue)
    assert str(tmp_path / "catalogue.csv") in text
    assert wanted in text


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    text = fault(tmp_path, interactions=tmp_path / "none.csv")
    assert "none.csv can't be read: No such file" in text


def test_an_unknown_ending_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"x")
    assert ".jsonl" in fault(tmp_path, interactions=tmp_path / "log.txt")


def test_faults_name_mapped_columns(tmp_path: Path) -> None:
    log = "wer,was,wann,event\nu,8,-1,view\n"
    mapping = ColumnMapping(interactions={"user_id": "wer", "item_id": "was", "timestamp": "wann"})
    assert "log.csv, column `wann`, row 1: '-1' is 1969-12-31T23:59:59Z as unix seconds" in fault(
        tmp_path, log, columns=mapping
    )


def test_a_mapping_to_an_absent_column_is_reported(tmp_path: Path) -> None:
    mapping = ColumnMapping(interactions={"user_id": "user_idd"})
    text = fault(tmp_path, columns=mapping)
    assert "no column `user_idd`" in text
    assert "did you mean `user_id`?" in text
    assert "data.source.columns.interactions.user_id" in text


def test_the_event_needs_a_column_or_a_default(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\nu,8,1700000005\n"
    assert "default_event" in fault(tmp_path, log)
    assert make(tmp_path, log, default_event="play").interactions().collect()["event"].to_list() == ["play"]


def test_an_unknown_default_event_is_refused(tmp_path: Path) -> None:
    assert "unknown event 'wish'" in fault(
        tmp_path, "user_id,item_id,timestamp\nu,8,1700000005\n", default_event="wish"
    )


def test_a_default_event_fills_gaps(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp,event\nu,8,1700000005,\nu,8,1700000006,click\n"
    got = make(tmp_path, log, default_event="view").interactions().collect()["event"].to_list()
    assert got == ["view", "click"]


def test_languages_are_given_or_set_or_detected(tmp_path: Path) -> None:
    titles = "item_id,title,language\n007,오래된 책을 읽는 밤,\n8,The night of the old books,EN_gb\n"
    assert make(tmp_path, LOG, titles).items().collect()["language"].to_list() == ["ko", "en-GB"]
    assert make(tmp_path, LOG, titles, language="ja").items().collect()["language"].to_list() == [
        "ja",
        "en-GB",
    ]
    without = "item_id,title\n007,오래된 책을 읽는 밤\n8,\n"
    assert make(tmp_path, LOG, without).items().collect()["language"].to_list() == ["ko", "und"]


def test_further_columns_come_by_name_and_get_their_type(tmp_path: Path) -> None:
    catalogue = (
        "item_id,title,language,price,image,brand,internal\n"
        '007,x,en,3.5,"[0.5, 1, -2]",甲,secret\n8,y,en,,"[1,2,3e1]",,secret\n'
    )
    mapping = ColumnMapping(items={"price": "price", "vector": "image", "brand": "brand"})
    items = make(tmp_path, LOG, catalogue, columns=mapping).items().collect()
    assert items.columns == [
        "item_id",
        "language",
        "title",
        "description",
        "categories",
        "price",
        "vector",
        "brand",
    ]
    assert items["price"].to_list() == [3.5, None]
    assert items["vector"].to_list() == [[0.5, 1.0, -2.0], [1.0, 2.0, 30.0]]
    assert items["vector"].dtype == pl.List(pl.Float32)
    assert items["brand"].to_list() == ["甲", None]


def test_embeddings_of_jsonl(tmp_path: Path) -> None:
    rows = [
        {"item_id": "007", "title": "x", "language": "en", "v": [1, 2]},
        {"item_id": "8", "title": "y", "language": "en", "v": [1]},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mapping = ColumnMapping(items={"v": "v"})
    text = fault(tmp_path, items=tmp_path / "c.jsonl", columns=mapping)
    assert "column `v`, row 2: an embedding of 1 numbers, where row 1 has 2" in text


def test_users(tmp_path: Path) -> None:
    (tmp_path / "users.jsonl").write_text('{"user_id": "u1", "languages": ["KO", "pt-br"], "country": "KR"}\n')
    users = make(tmp_path, users=tmp_path / "users.jsonl").users()
    assert users is not None
    assert users.collect().rows() == [("u1", ["ko", "pt-BR"], "KR")]
    (tmp_path / "users.csv").write_text("user_id,languages\nu1,en|xx\n")
    assert "column `languages`, row 1: 'xx'" in fault_users(tmp_path)


def fault_users(folder: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        make(folder, users=folder / "users.csv")
    return str(caught.value)


def test_decimal_ids_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [1.0], "item_id": ["8"], "timestamp": [1_700_000_005], "event": ["view"]}).write_parquet(
        tmp_path / "log.parquet"
    )
    assert "`user_id`: ids of type Float64" in fault(tmp_path, interactions=tmp_path / "log.parquet")


def test_unknown_items_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG + "u1,404,1700000009,view,\n")
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    source = TabularSource(interactions=tmp_path / "log.csv", items=tmp_path / "catalogue.csv")
    with pytest.raises(DatasetError, match=re.escape("'404' is not in")):
        tabular.write(source, tmp_path / "strict")
    dataset = prepare(source.model_copy(update={"drop_unknown_items": True}))
    assert dataset.rows["interactions"] == 2
    assert dataset.dropped == {"interactions with items that are not in the catalogue": 1}


def test_unused_columns_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        make(tmp_path, LOG, "item_id,title,language,colour\n007,x,en,red\n8,y,en,blue\n")
    assert "not used: colour" in caplog.text


def test_ids_and_texts_corrupted_by_tools_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = "user_id,item_id,timestamp,event\nnan,8,1700000000,view\nnan,1.23457E+12,1700000000,view\n"
    catalogue = "item_id,title,language\n8,None,en\n1.23457E+12,y,en\n"
    with caplog.at_level("WARNING"):
        dataset = make(tmp_path, log, catalogue)
    assert "column `user_id`: 2 values are the text 'nan': set `null_values: [nan]`" in caplog.text
    assert "column `title`: 1 values are the text 'None'" in caplog.text
    assert "column `item_id`: 1 ids such as '1.23457E+12' look like numbers that a spreadsheet" in caplog.text
    assert len(dataset.read["interactions"]["notes"]) == 2


def test_null_values_of_typed_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["007", "8"], "title": "x", "language": "en", "price": [-999, 5]})
    frame.write_parquet(tmp_path / "c.parquet")
    mapping = ColumnMapping(items={"price": "price"})
    items = make(tmp_path, items=tmp_path / "c.parquet", columns=mapping, null_values=["-999"]).items().collect()
    assert items["price"].to_list() == [None, 5]


def test_one_broken_embedding_is_reported(tmp_path: Path) -> None:
    rows = [f'{item},x,en,"[0.5, {item}]"' for item in range(1, 20)] + ["20,x,en,[0.5; 1]", "8x,x,en,"]
    catalogue = "item_id,title,language,v\n" + "\n".join(rows)
    text = fault(
        tmp_path, "user_id,item_id,timestamp,event\nu,1,1700000000,view\n", catalogue, columns={"items": {"v": "v"}}
    )
    assert "column `v`, row 20: '[0.5; 1]' is not a list of numbers (19 of 20 values are)" in text


def test_rows_keep_their_numbers_when_others_are_left_out(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp,event\nu,404,1700000000,view\nu,8,1700000000,view\nu,8,1700000000,klick\n"
    assert "column `event`, row 3: unknown event 'klick'" in fault(tmp_path, log, drop_unknown_items=True)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("User ID,Item_ID,Timestamp", "name the file's column for it (`User ID`?)"),
        ("u,1,1700000000", "if this is the first row of values, put a header above it"),
        ("user_id item_id timestamp", "set `data.source.delimiter`"),
    ],
)
def test_a_header_that_is_not_found_is_helped_with(tmp_path: Path, header: str, wanted: str) -> None:
    text = fault(tmp_path, f"{header}\n")
    assert "column `user_id` is missing" in text
    assert wanted in text
