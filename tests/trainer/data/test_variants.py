"""Additional texts of items, by hand."""

from pathlib import Path

import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.variants import TextVariants, dropped, single_fields, translations, with_words_dropped
from trainer.text.alignment import TextPairs, parallel_texts


def _dataset(path: Path) -> Dataset:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "language": ["ko", "en", "und"],
            "title": ["사랑", "Love", "?"],
            "description": ["긴 이야기", None, "x"],
            "categories": [["drama"]] * 3,
        }
    )
    more = pl.DataFrame(
        {
            "item_id": ["b", "a", "a", "c"],
            "language": ["ko", "en", "zh", "en"],
            "title": ["사랑 이야기", "Love", "爱情", "What"],
            "description": [None, "A long story", None, None],
        }
    )
    events = pl.DataFrame(
        {
            "user_id": ["u"] * 3,
            "item_id": ["a", "b", "c"],
            "timestamp": [1, 2, 3],
            "event": ["click"] * 3,
            "value": [None] * 3,
        },
        schema_overrides={"value": pl.Float64},
    )
    return write_dataset(
        path / "three",
        name="three",
        description="",
        licence="",
        homepage="",
        interactions=events,
        items=items,
        translations=more,
    )


def test_translations_join_title_and_description_as_items_do(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    found = translations(dataset, Catalogue.from_dataset(dataset))
    assert list(zip(found.rows.tolist(), found.languages, found.texts, strict=True)) == [
        (0, "en", "Love. A long story"),
        (0, "zh", "爱情"),
        (1, "ko", "사랑 이야기"),
        (2, "en", "What"),
    ]


def test_a_title_and_a_description_are_shown_alone_where_both_are_there(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    found = single_fields(dataset, Catalogue.from_dataset(dataset))
    assert found.texts == ["사랑", "긴 이야기", "?", "x"]
    assert found.rows.tolist() == [0, 0, 2, 2]
    assert found.languages == ["ko", "ko", "und", "und"]


def test_parallel_texts_leave_out_undetermined_ones_and_keep_an_items_pairs_together(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    catalogue = Catalogue.from_dataset(dataset)
    pairs = parallel_texts(catalogue, translations(dataset, catalogue))
    assert pairs.keys == ["a", "a", "b"]
    assert pairs.language_pairs() == [("en", "ko"), ("ko", "zh")]
    assert pairs.of_languages("en", "ko") == (["Love. A long story", "Love"], ["사랑. 긴 이야기", "사랑 이야기"])
    trained, held = pairs.hold_out(0.5, seed=0)
    assert {*trained.keys} | {*held.keys} == {"a", "b"}
    assert not {*trained.keys} & {*held.keys}
    assert len(TextPairs.none() + held) == len(held)


def test_dropped_words_leave_the_others_in_order_and_at_least_one() -> None:
    text = "a bb ccc dddd eeeee"
    words = text.split()
    found = dropped(text, 0.5, views=50, seed=1)
    assert len(found) == len(set(found)) > 5
    for variant in found:
        left = variant.split()
        assert left
        assert left == [word for word in words if word in left]
        assert len(left) < len(words)
    assert dropped(text, 0.5, views=50, seed=1) == found
    assert dropped(text, 0.5, views=50, seed=2) != found
    assert all(len(variant.split()) == 1 for variant in dropped(text, 1.0, views=5, seed=1))
    assert dropped("single", 0.5, views=5, seed=1) == []
    assert dropped(text, 0.0, views=5, seed=1) == []


def test_scripts_without_spaces_lose_characters() -> None:
    found = dropped("流浪地球", 0.5, views=20, seed=0)
    assert all(set(variant) < set("流浪地球") and " " not in variant for variant in found)
    assert len(found) > 3


def test_translations_lose_words_too(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    catalogue = Catalogue.from_dataset(dataset)
    others = translations(dataset, catalogue)
    found = with_words_dropped(catalogue, others, 0.5, views=20, seed=0)
    assert {(row, tag) for row, tag in zip(found.rows.tolist(), found.languages, strict=True)} == {
        (0, "ko"),
        (0, "en"),
        (0, "zh"),
        (1, "ko"),
        (2, "und"),
    }
    assert len(with_words_dropped(catalogue, TextVariants.none(), 0.0, views=4, seed=0)) == 0
