"""Data sets of growing size."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.scale.sizes import SIZES, Size, make_dataset


def test_a_data_set_has_what_its_size_says_and_is_made_once(tmp_path: Path) -> None:
    size = Size(items=205, interactions=20_000, users=900)
    dataset = make_dataset(tmp_path / "data", size, seed=4)
    assert dict(dataset.rows) == {"interactions": 20_000, "items": 205}
    assert make_dataset(tmp_path / "data", size) == dataset
    assert make_dataset(tmp_path / "again", size, seed=4).fingerprint == dataset.fingerprint
    assert make_dataset(tmp_path / "other", size, seed=5).fingerprint != dataset.fingerprint


def test_people_choose_their_communitys_items(tmp_path: Path) -> None:
    size = Size(items=205, interactions=20_000, users=900)
    assert size.communities == 4
    events = make_dataset(tmp_path / "data", size).interactions().collect()
    community = [pl.col(name).str.slice(1).cast(pl.Int64) % 4 for name in ("user_id", "item_id")]
    # 0.7, and by chance a quarter of the rest.
    assert events.select((community[0] == community[1]).mean()).item() == pytest.approx(0.7 + 0.3 / 4, abs=0.02)
    assert events["timestamp"].is_sorted()
    counts = events["item_id"].value_counts(sort=True)["count"]
    assert counts[0] > 20 * float(np.median(counts.to_numpy()))


def test_sizes_are_those_of_the_protocol() -> None:
    assert [(each.items, each.interactions, each.users) for each in map(SIZES.__getitem__, "SML")] == [
        (10_000, 1_000_000, 50_000),
        (100_000, 10_000_000, 500_000),
        (1_000_000, 20_000_000, 2_000_000),
    ]
