"""The faults are what they are said to be."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.loop import gate_faults
from benchmarks.loop.fortnight import world_settings
from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.dataset import write_tables
from benchmarks.simulation.driver import run
from benchmarks.simulation.events import interactions
from benchmarks.simulation.lists import Shown
from benchmarks.simulation.policies import RandomPolicy
from benchmarks.simulation.world import Requests, World
from trainer.data.dataset import Dataset
from trainer.updating.data_checks import data_checks
from trainer.updating.settings import GateConfig, UpdateConfig

_SETTINGS = UpdateConfig()
_SINCE = 1_735_689_600 + 2 * 86_400


@pytest.fixture(scope="module")
def world() -> World:
    return World(world_settings(400, 1.0, 4), seed=3)


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    log: list[pl.DataFrame] = []

    def hear(requests: Requests, shown: Shown, outcome: Outcome) -> None:
        log.append(interactions(world, requests, shown, outcome))

    run(world, RandomPolicy(world), range(4), listeners=[hear], exact=False)
    path = tmp_path_factory.mktemp("faults") / "whole"
    return write_tables(world, path, pl.concat(log), day=3, description="")


def _failed(whole: Dataset, faulty: Dataset) -> list[str]:
    return [check.name for check in data_checks(whole, faulty, _SINCE, GateConfig()) if not check.holds]


def test_sound_data_passes(world: World, whole: Dataset, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    same = gate_faults._sound(whole, _SINCE, tmp_path / "d", random, world.languages, _SETTINGS)
    assert _failed(whole, same) == []
    assert same.rows == {name: count for name, count in whole.rows.items() if name != "translations"}


def test_shuffled_labels_keep_people_and_items_but_not_who_took_what(
    world: World, whole: Dataset, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    faulty = gate_faults._all_shuffled(whole, _SINCE, tmp_path / "d", random, world.languages, _SETTINGS)
    before, after = (each.interactions().sort("event_id").collect() for each in (whole, faulty))
    assert before.drop("item_id").equals(after.drop("item_id"))
    is_new = before["timestamp"] >= _SINCE
    assert before.filter(~is_new)["item_id"].equals(after.filter(~is_new)["item_id"])
    new = [each.filter(is_new)["item_id"].to_list() for each in (before, after)]
    assert Counter(new[0]) == Counter(new[1])
    assert np.mean([one == other for one, other in zip(*new, strict=True)]) < 0.05


def test_a_language_is_missing(world: World, whole: Dataset, tmp_path: Path) -> None:
    kinds = set()
    for seed in range(8):
        random = np.random.default_rng(seed)
        faulty = gate_faults._dropped(whole, _SINCE, tmp_path / f"{seed}", random, world.languages, _SETTINGS)
        failed = _failed(whole, faulty)
        # Of the small language there may be too few events or items to miss them.
        events, items = (faulty.interactions().collect(), faulty.items().collect())
        new = set(events.filter(pl.col("timestamp") >= _SINCE)["language"])
        lost = (set(world.languages) - new) | (set(world.languages) - set(items["language"]))
        assert len(lost) == 1
        kinds.add(items.height < whole.rows["items"])
        assert failed or lost == {"ko"}
    assert kinds == {True, False}


def test_every_item_is_there_twice(world: World, whole: Dataset, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    faulty = gate_faults._doubled(whole, _SINCE, tmp_path / "d", random, world.languages, _SETTINGS)
    assert faulty.rows["items"] == 2 * whole.rows["items"]
    new = faulty.interactions().filter(pl.col("timestamp") >= _SINCE).collect()["item_id"]
    assert 0.45 < new.str.starts_with("copy of ").mean() < 0.55  # type: ignore[operator]
    assert "items with the text of another" in _failed(whole, faulty)
