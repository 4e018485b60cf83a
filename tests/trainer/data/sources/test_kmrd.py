"""KMRD: titles in two languages, years, genres."""

from pathlib import Path

import polars as pl
import pytest

from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import KmrdSource
from trainer.data.sources import prepare
from trainer.data.sources.kmrd import parse_english

FILES = {
    "rates.csv": "user,movie,rate,time\n0,1,7,1494128040\n0,2,10,1467529800\n1,4,1,1467529801\n",
    "movies.txt": (
        "movie\ttitle\ttitle_eng\tyear\tgrade\n"
        "1\t시네마 천국\tNuovo Cinema Paradiso , Cinema Paradiso , 1988\t2013\t전체 관람가\n"
        "2\t너에게로 또다시\t1990\t1991\t12세 관람가\n"
        '3\t\tThe "Quoted" One , 1960\t\tNR\n'
        "4\t\t\t\t\n"
    ),
    "genres.csv": "movie,genre\n1,드라마\n1,멜로/로맨스\n1,드라마\n3,SF\n",
    "countries.csv": "movie,country\n1,이탈리아\n1,프랑스\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "kmrd"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_text(content, encoding="utf-8")
    return path


def shown(dataset: Dataset) -> list[tuple[str, str, str]]:
    return dataset.items().select("item_id", "language", "title").collect().rows()


@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        (
            "ko",
            [
                ("1", "ko", "시네마 천국"),
                ("2", "ko", "너에게로 또다시"),
                ("3", "en", 'The "Quoted" One'),
                ("4", "und", ""),
            ],
        ),
        (
            "en",
            [
                ("1", "en", "Cinema Paradiso"),
                ("2", "ko", "너에게로 또다시"),
                ("3", "en", 'The "Quoted" One'),
                ("4", "und", ""),
            ],
        ),
    ],
)
def test_one_language_falls_back_on_the_other(folder: Path, language: str, wanted: list[tuple[str, str, str]]) -> None:
    dataset = prepare(KmrdSource.model_validate({"path": folder, "title_language": language}))
    assert shown(dataset) == wanted
    assert dataset.translations() is None


def test_both_keeps_english_as_a_translation(folder: Path) -> None:
    dataset = prepare(KmrdSource(path=folder, title_language="both"))
    assert [row[1] for row in shown(dataset)] == ["ko", "ko", "en", "und"]
    translations = dataset.translations()
    assert translations is not None
    assert translations.select("item_id", "language", "title").collect().rows() == [("1", "en", "Cinema Paradiso")]


def test_facts_of_the_films(folder: Path) -> None:
    first = prepare(KmrdSource(path=folder)).items().collect().row(0, named=True)
    assert first == {
        "item_id": "1",
        "language": "ko",
        "title": "시네마 천국",
        "description": None,
        "categories": ["드라마", "멜로/로맨스"],
        "year": 1988,
        "rerelease_year": 2013,
        "grade": "전체 관람가",
        "countries": ["이탈리아", "프랑스"],
        "original_title": "Nuovo Cinema Paradiso",
    }


@pytest.mark.parametrize(
    ("field", "parsed"),
    [
        ("Superman III , 1983", ("Superman III", None, 1983)),
        ("A Bout De Souffle , Breathless , 1959", ("Breathless", "A Bout De Souffle", 1959)),
        ("Good Morning, Vietnam , 1987", ("Good Morning, Vietnam", None, 1987)),
        ("2010 , 1984", ("2010", None, 1984)),
        ("1990", ("", None, 1990)),
        ("", ("", None, None)),
        ("靈幻道士", ("", "靈幻道士", None)),
        ("人民英雄: People's Hero , 1987", ("People's Hero", "人民英雄", 1987)),
        ("Fame , Fame: The Original Movie , 1980", ("Fame: The Original Movie", "Fame", 1980)),
        ("Jaws: The Revenge , 1987", ("Jaws: The Revenge", None, 1987)),
        (
            "好小子 5 : 萬能運動員 , Kung Fu Kids Part V , 1988",
            ("Kung Fu Kids Part V", "好小子 5 : 萬能運動員", 1988),
        ),
    ],
)
def test_english_titles_are_taken_apart(field: str, parsed: tuple[str, str | None, int | None]) -> None:
    assert parse_english(field) == parsed


def test_a_rating_of_an_unknown_film_names_the_users_file(folder: Path) -> None:
    (folder / "rates.csv").write_text("user,movie,rate,time\n0,1,7,5\n0,99,7,5\n")
    with pytest.raises(DatasetError, match=r"rates\.csv, column `movie`, row 2: '99'"):
        prepare(KmrdSource(path=folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rates.csv", "user,movie,rate,time\n0,1,seven,5\n"),
        ("rates.csv", "user,film,rate,time\n0,1,7,5\n"),
        ("rates.csv", ""),
        ("movies.txt", "movie\ttitle\n1\tx\n"),
        ("genres.csv", "movie;genre\n1;x\n"),
    ],
)
def test_a_broken_file_is_reported(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DatasetError, match=f"{name} can't be read"):
        prepare(KmrdSource(path=folder))


def test_a_missing_file_is_reported(folder: Path) -> None:
    (folder / "genres.csv").unlink()
    with pytest.raises(DatasetError, match=r"genres\.csv missing.*github\.com/lovit/kmrd"):
        prepare(KmrdSource(path=folder))


def test_no_folder_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BABELREC_DATA_MIRROR", raising=False)
    with pytest.raises(DatasetError, match=r"github\.com/lovit/kmrd.*data\.source\.path"):
        prepare(KmrdSource())


def test_the_real_data(data_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    monkeypatch.setenv("BABELREC_DATA_MIRROR", str(data_mirror))
    dataset = prepare(KmrdSource(title_language="both"))
    assert dataset.rows["interactions"] == 140_710
    items = dataset.items().collect()
    assert items.height == 999
    assert items["language"].value_counts().sort("language").rows() == [("ko", 992), ("und", 7)]
    # Re-releases are later than the production, except for a handful of typing errors in the source.
    known = items.drop_nulls(["year", "rerelease_year"])
    assert (known["rerelease_year"] >= known["year"]).sum() > 0.98 * known.height
    translations = dataset.translations()
    assert translations is not None
    titles = translations.collect()
    assert titles["language"].unique().to_list() == ["en"]
    assert titles.filter(pl.col("title").str.contains(r"\s,\s")).is_empty()
    assert titles.filter(item_id="10002")["title"].item() == "Back To The Future"
