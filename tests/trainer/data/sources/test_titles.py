"""Titles with a year and an article, split if requested."""

import logging
from pathlib import Path

import pytest

from tests.trainer.data.sources.making import make
from trainer.config.loading import parse_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.settings import TabularSource
from trainer.data.sources.titles import natural_title, title_and_year
from trainer.errors import BabelrecError

pytestmark = pytest.mark.usefixtures("own_cache")
LOG = "user_id,item_id,timestamp,event\nu,1,1700000000,view\n"
FILMS = """item_id,title,language
1,"Usual Suspects, The (1995)",en
2,Toy Story (1995),en
3,"Misérables, Les (1995)",fr
4,2001: A Space Odyssey,en
5,"Shop, The",en
6,살인의 추억 (2003),ko
7,(500) Days of Summer (2009),en
8,"Hate (Haine, La) (1995)",fr
9,(1995),und
10,,und
11,مرحبا (2010),ar
"""


def titles(dataset: Dataset) -> list[str]:
    return dataset.items().collect()["title"].to_list()


@pytest.mark.parametrize(
    ("written", "natural"),
    [
        ("Godfather, The", "The Godfather"),
        ("Avventura, L'", "L'Avventura"),
        ("Hate (Haine, La)", "Hate (La Haine)"),
        ("Good, the Bad, The", "The Good, the Bad"),
        ("Red, White and Blue", "Red, White and Blue"),
        ("  Two   blanks ", "Two blanks"),
        ("영화, The", "The 영화"),
    ],
)
def test_the_article_comes_to_the_front(written: str, natural: str) -> None:
    assert natural_title(written) == natural


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("Toy Story (1995)", ("Toy Story", 1995)),
        ("Zeus and Roxanne (1997) (V)", ("Zeus and Roxanne", 1997)),
        ("(500) Days of Summer", ("(500) Days of Summer", None)),
        ("1941", ("1941", None)),
        ("(1995)", ("", 1995)),
    ],
)
def test_the_year_is_removed(written: str, parts: tuple[str, int | None]) -> None:
    assert title_and_year(written) == parts


def test_titles_are_unchanged_and_the_pattern_is_suggested(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trainer"):
        dataset = make(tmp_path, LOG, FILMS)
    assert titles(dataset)[0] == "Usual Suspects, The (1995)"
    assert "year" not in dataset.items().collect_schema()
    offer = next(note for note in dataset.read["items"]["notes"] if "title_pattern" in note)
    # By hand: 1, 2, 3, 6, 7, 8, 9, 11 end in a year; 1, 3, 5 have a trailing article.
    assert "8 of 11 titles end in a year and 3 have a trailing article" in offer
    assert "'Usual Suspects, The (1995)' as 'The Usual Suspects' and the number `year` 1995" in offer
    assert offer in caplog.text


def test_the_film_pattern(tmp_path: Path) -> None:
    dataset = make(tmp_path, LOG, FILMS, title_pattern="film")
    items = dataset.items().collect()
    assert items["title"].to_list() == [
        "The Usual Suspects", "Toy Story", "Les Misérables", "2001: A Space Odyssey", "The Shop", "살인의 추억",
        "(500) Days of Summer", "Hate (La Haine)", "(1995)", "", "مرحبا",
    ]  # fmt: skip
    assert items["year"].to_list() == [1995, 1995, 1995, None, None, 2003, 2009, 1995, None, None, 2010]
    assert list(Catalogue.from_dataset(dataset).numeric) == ["year"]
    assert any("8 of 11 distinct titles fit" in note for note in dataset.read["items"]["notes"])


def test_an_expression_of_the_user(tmp_path: Path) -> None:
    catalogue = "item_id,title,language\n1,[2003] 살인의 추억,ko\n2,[19xx] Old,en\n3,No year,en\n4,[2003] ,en\n"
    dataset = make(tmp_path, LOG, catalogue, title_pattern=r"\[(?P<year>\w+)\] ?(?P<title>.*)")
    items = dataset.items().collect()
    assert items["title"].to_list() == ["살인의 추억", "Old", "No year", "[2003] "]
    assert items["year"].to_list() == [2003, None, None, None]


def test_a_year_of_the_file_is_kept(tmp_path: Path) -> None:
    catalogue = "item_id,title,language,made\n1,Toy Story (1995),en,1994\n"
    columns = {"items": {"year": "made"}}
    items = make(tmp_path, LOG, catalogue, title_pattern="film", columns=columns).items().collect()
    assert (items["title"].to_list(), items["year"].to_list()) == (["Toy Story"], [1994])


@pytest.mark.parametrize(
    "catalogue", ["1,Tea (1995),en\n2,Tea,en\n3,Cup,en\n4,Pot,en\n5,Jug,en\n6,Mug,en\n", "1,A (1995),en\n"]
)
def test_nothing_is_offered_for_single_titles(tmp_path: Path, catalogue: str) -> None:
    dataset = make(tmp_path, LOG, "item_id,title,language\n" + catalogue)
    assert not any("title_pattern" in note for note in dataset.read["items"]["notes"])


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "is not a regular expression"),
        ("films", "has the groups none"),
        ("(?P<name>.*)", r"has the groups \['name'\]"),
        ("(?P<title>.*)(?P<isbn>.*)", "write film, or an expression with"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused(pattern: str, says: str) -> None:
    source = {"name": "tabular", "interactions": "a.csv", "items": "b.csv", "title_pattern": pattern}
    with pytest.raises(BabelrecError, match=says):
        parse_config({"data": {"source": source}}, "c.yaml")


def test_no_pattern_is_the_default() -> None:
    assert TabularSource(interactions=Path("a"), items=Path("b")).title_pattern is None
