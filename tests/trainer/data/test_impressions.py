"""Impressions as compressed rows, and the split at their times."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.trainer.data.builders import write
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.impressions import Impressions
from trainer.data.settings import DataConfig
from trainer.data.split import SplitError, impression_cut_times, split

ROWS = [
    # user, item, time, event, value, impression
    ("u1", "a", 10, "click", 1.0, None),
    ("u2", "b", 11, "click", 1.0, None),
    # The log is not in chronological order.
    ("u1", "日本", 140, "click", 1.0, "i5"),
    ("u1", "b", 140, "impression", 0.0, "i5"),
    ("u2", "a", 100, "impression", 0.0, "i1"),
    ("u2", "日本", 100, "click", 1.0, "i1"),
    ("u2", "日本", 100, "impression", 0.0, "i1"),
    ("ü3", "a", 110, "impression", 0.0, "i2"),
    ("ü3", "b", 120, "click", 1.0, "i3"),
    ("ü3", "a", 120, "impression", 0.0, "i3"),
    # An unknown outcome.
    ("u1", "a", 130, "impression", None, "i4"),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    names = ["user_id", "item_id", "timestamp", "event", "value", "impression_id"]
    return write(tmp_path / "d", interactions=pl.DataFrame(ROWS, schema=names, orient="row"))


def config(**split: object) -> DataConfig:
    return DataConfig.model_validate(
        {"positives": {"click": None}, "split": {"kind": "impressions", "min_positives": 1, **split}}
    )


def test_impressions_are_in_chronological_order(dataset: Dataset) -> None:
    catalogue = Catalogue.from_dataset(dataset)
    shown = Impressions.from_dataset(dataset, catalogue)
    assert shown.ids == ["i1", "i2", "i3", "i5"]
    assert shown.users == ["u2", "ü3", "ü3", "u1"]
    assert shown.timestamps.tolist() == [100, 110, 120, 140]
    lists = [
        [
            (catalogue.item_ids[item], bool(click))
            for item, click in zip(shown.items[a:b], shown.clicked[a:b], strict=True)
        ]
        for a, b in zip(shown.indptr[:-1], shown.indptr[1:], strict=True)
    ]
    # What occurs in an impression twice counts once, as clicked if it was.
    assert lists == [
        [("a", False), ("日本", True)],
        [("a", False)],
        [("b", True), ("a", False)],
        [("日本", True), ("b", False)],
    ]
    assert Impressions.from_dataset(dataset, catalogue, start=110, stop=140).ids == ["i2", "i3"]


def test_only_what_can_be_evaluated_remains(dataset: Dataset) -> None:
    catalogue = Catalogue.from_dataset(dataset)
    shown = Impressions.from_dataset(dataset, catalogue)
    assert shown.only(np.ones(len(shown.items), bool)).ids == ["i1", "i3", "i5"]
    without_b = shown.only(np.array([catalogue.item_ids[item] != "b" for item in shown.items]))
    assert without_b.ids == ["i1"]
    assert without_b.users == ["u2"]
    assert without_b.indptr.tolist() == [0, 2]
    assert without_b.clicked.tolist() == [False, True]
    with_b = shown.containing(np.array([catalogue.item_ids[item] == "b" for item in shown.items]))
    assert shown.of(with_b).ids == ["i3", "i5"]
    assert shown.of(with_b).owners.tolist() == [0, 0, 1, 1]


def test_a_dataset_without_impressions_has_none(tmp_path: Path) -> None:
    plain = write(tmp_path / "d")
    assert len(Impressions.from_dataset(plain, Catalogue.from_dataset(plain))) == 0
    with pytest.raises(SplitError, match="no impressions to split by"):
        split(plain, config())


def test_the_last_impressions_are_held_out(dataset: Dataset) -> None:
    # Five impressions: the last ceil(0.4 * 5) = 2 begin at 130, of the three before them the last at 120.
    settings = config(test_fraction=0.4, validation_fraction=0.3)
    assert impression_cut_times(dataset, settings.split) == (120, 130)
    parts = split(dataset, settings)
    assert parts.train.rows() == [("u1", "a", 10), ("u2", "b", 11), ("u2", "日本", 100)]
    assert parts.validation.rows() == [("ü3", "b", 120)]
    assert parts.test.rows() == [("u1", "日本", 140)]
    observed = parts.observed.select("user_id", "item_id", "timestamp").rows()
    assert observed == [row[:3] for row in ROWS if row[2] < 120]


def test_an_impression_without_a_click_is_not_observed_from_the_cut_on(dataset: Dataset) -> None:
    # The last four impressions begin at 110, with one that nobody clicked in: the first test positive is later.
    parts = split(dataset, config(test_fraction=0.8, validation_fraction=0.0))
    assert parts.test["timestamp"].min() == 120
    assert parts.observed["timestamp"].max() == 100


def test_all_is_training_without_a_test_part(dataset: Dataset) -> None:
    settings = config(test_fraction=0.0, validation_fraction=0.0)
    assert impression_cut_times(dataset, settings.split) == (None, None)
    parts = split(dataset, settings)
    assert parts.train.height == 5
    assert parts.observed.height == len(ROWS)
