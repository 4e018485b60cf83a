"""Placeholders among categories, and how the languages of items were determined."""

import logging
from pathlib import Path

import pytest

from tests.trainer.data.sources.making import make
from trainer.data.settings import PLACEHOLDERS

pytestmark = pytest.mark.usefixtures("own_cache")
LOG = "user_id,item_id,timestamp,event\nu,1,1700000000,view\n"


def test_placeholders_are_not_categories(tmp_path: Path) -> None:
    catalogue = (
        "item_id,title,language,categories\n"
        "1,a,en,(no genres listed)\n2,b,en,Drama|N/A\n3,c,en, unknown |없음\n4,d,en,-\n5,e,en,\n"
        "6,f,en,\\N|Unknown Worlds\n7,g,en,NONE|none\n"
    )
    dataset = make(tmp_path, LOG, catalogue)
    wanted = [[], ["Drama"], ["없음"], [], [], ["Unknown Worlds"], []]
    assert dataset.items().collect()["categories"].to_list() == wanted
    note = next(note for note in dataset.read["items"]["notes"] if "placeholders dropped" in note)
    assert "`data.source.category_placeholders`" in note
    assert "'(no genres listed)' 1" in note


def test_the_list_can_be_another_or_empty(tmp_path: Path) -> None:
    catalogue = "item_id,title,language,categories\n1,a,en,없음|-|N/A|Drama\n"
    kept = make(tmp_path, LOG, catalogue, category_placeholders=[]).items().collect()["categories"].to_list()
    assert kept == [["없음", "-", "N/A", "Drama"]]
    other = make(tmp_path, LOG, catalogue, category_placeholders=[*PLACEHOLDERS, "없음"]).items().collect()
    assert other["categories"].to_list() == [["Drama"]]


def test_placeholders_of_list_columns(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": "1", "title": "a", "language": "en", "categories": ["(no genres listed)", "Drama"]}\n'
        '{"item_id": "2", "title": "b", "language": "en", "categories": null}\n',
        encoding="utf-8",
    )
    items = make(tmp_path, LOG, items=tmp_path / "items.jsonl").items().collect()
    assert items["categories"].to_list() == [["Drama"], []]


def test_the_origin_of_languages_is_counted_with_its_doubts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{n},The old house number {n} by the river and the sea,\n" for n in range(1, 30)]
    catalogue = (
        "item_id,title,language\n" + "".join(rows) + "30,오래된 책을 읽는 밤,ko\n31,1941,\n32,서울의 봄 이야기,\n"
    )
    with caplog.at_level(logging.INFO, "trainer"):
        dataset = make(tmp_path, LOG, catalogue)
    facts = dataset.read["items"]["languages"]
    assert {name: facts[name] for name in ("from_column", "from_setting", "detected")} == {
        "from_column": 1, "from_setting": 0, "detected": 31,
    }  # fmt: skip
    # The number carries no information: it is doubtful, and not an example of a detected language.
    assert facts["doubtful"] == 1
    assert facts["examples"] == []
    assert "language of 31 items detected (en 29, " in caplog.text
    assert dataset.items().collect()["language"].to_list() == ["en"] * 29 + ["ko", "und", "ko"]


def test_a_configured_language_is_not_a_detection(tmp_path: Path) -> None:
    catalogue = "item_id,title,language\n1,a,en\n2,b,\n3,c,\n"
    dataset = make(tmp_path, LOG, catalogue, language="no")
    facts = dataset.read["items"]["languages"]
    assert (facts["from_column"], facts["from_setting"], facts["detected"]) == (1, 2, 0)
    assert dataset.items().collect()["language"].to_list() == ["en", "no", "no"]


def test_look_alike_ids_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = "user_id,item_id,timestamp,event\nu1,1,1700000000,view\n u1,2,1700000000,view\nu2.0,1,1700000000,view\n"
    (tmp_path / "users.csv").write_text("user_id,country\nu1,KR\nU2.0,US\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "trainer"):
        make(tmp_path, log, "item_id,title,language\n1,a,en\n2,b,en\n", users=tmp_path / "users.csv")
    assert "log.csv, column `user_id`: 1 differs in blanks around the id only ('u1', ' u1')" in caplog.text
    assert "users without a row in" in caplog.text
    assert "1 differs in upper and lower case only ('u2.0', 'U2.0')" in caplog.text


def test_items_dropped_because_of_their_spelling_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = "user_id,item_id,timestamp,event\nu1,1.0,1700000000,view\nu1,2,1700000000,view\nu2,9,1700000000,view\n"
    catalogue = "item_id,title,language\n1,a,en\n2,b,en\n"
    with caplog.at_level(logging.WARNING, "trainer"):
        dataset = make(tmp_path, log, catalogue, drop_unknown_items=True)
    assert dataset.rows["interactions"] == 1
    said = (
        "2 rows of 2 unknown items were dropped, though of these items 1 differs in a trailing `.0` only ('1.0', '1')"
    )
    assert said in caplog.text
    assert any(said in note for note in dataset.read["interactions"]["notes"])


def test_dropping_every_row_is_an_error_that_says_why(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp,event\nu1,1.0,1700000000,view\nu1,2.0,1700000000,view\n"
    with pytest.raises(
        Exception, match=r"none of the 2 rows has an item of the catalogue; of their 2 items 2 differ in"
    ):
        make(tmp_path, log, "item_id,title,language\n1,a,en\n2,b,en\n", drop_unknown_items=True)
