from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.dataset import service_item, write_log
from benchmarks.simulation.driver import run
from benchmarks.simulation.events import interactions, service_events
from benchmarks.simulation.lists import EMPTY, Shown
from benchmarks.simulation.policies import EpsilonGreedy, Popularity
from benchmarks.simulation.world import Requests, World
from tests.benchmarks.simulation.worlds import small_world
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.impressions import Impressions


def _policy(world: World) -> EpsilonGreedy:
    return EpsilonGreedy(world, Popularity(world, 5), 0.5)


def test_the_trainer_reads_a_log_and_its_counts_are_those_of_the_run(tmp_path: Path) -> None:
    world = small_world()
    write_log(world, tmp_path / "log", _policy(world), range(3))
    dataset = Dataset.load(tmp_path / "log")
    heard: list[tuple[Requests, Shown, Outcome]] = []
    done = run(world, _policy(world), range(3), exact=False, listeners=[lambda *each: heard.append(each)])
    clicks = int(done.observed[:, 0].sum())
    rows = dataset.interactions().collect()
    counts = Counter(rows["event"].to_list())
    assert counts["click"] == counts["view"] == clicks
    assert counts["impression"] + clicks == 5 * len(done)
    assert counts["purchase"] == done.observed[:, 1].sum()
    assert counts["rating"] == sum(outcome.rated.sum() for _, _, outcome in heard)
    sums = dict(rows.group_by("event").agg(pl.col("value").sum()).iter_rows())
    assert sums["view"] == pytest.approx(done.observed[:, 3].sum())
    assert sums["purchase"] == pytest.approx(done.observed[:, 4].sum())
    assert rows["recommendation_id"].n_unique() == rows["session_id"].n_unique() == len(done)
    assert rows["event_id"].n_unique() == len(rows)
    assert rows["timestamp"].is_sorted()
    impressions = Impressions.from_dataset(dataset, Catalogue.from_dataset(dataset))
    assert len(impressions) == len(done)
    assert int(impressions.clicked.sum()) == clicks
    assert np.diff(impressions.indptr).tolist() == [5] * len(done)
    assert dataset.rows["users"] == 60
    assert dataset.rows["items"] == (world.items.arrives <= 2).sum()
    with pytest.raises(DatasetError, match="exists"):
        write_log(world, tmp_path / "log", _policy(world), range(3))


def test_a_log_has_titles_languages_and_nothing_of_the_truth(tmp_path: Path) -> None:
    world = small_world()
    dataset = write_log(world, tmp_path / "log", _policy(world), range(1))
    items, translations = dataset.items().collect(), dataset.translations()
    assert items.columns == ["item_id", "language", "title", "description", "categories", "price"]
    titles = {(row[0], row[1]): row[2] for row in items.select("item_id", "language", "title").iter_rows()}
    assert translations is not None
    titles |= {(row[0], row[1]): row[2] for row in translations.collect().iter_rows()}
    wanted = {
        (world.items.ids[item], tag): title
        for item in np.flatnonzero(world.items.arrives <= 0)
        for tag, title in world.items.titles[item].items()
    }
    assert titles == wanted
    users = dataset.users()
    assert users is not None
    first = users.collect().row(0, named=True)
    assert first["languages"] == world.people.languages(0, world.languages)
    assert first["country"] == world.people.country[0]


def test_rows_and_events_of_a_visit() -> None:
    world = small_world()
    requests = world.visits(0).some(np.array([4, 9]))
    lists = np.array([[1, 2, 3], [4, 5, EMPTY]])
    clicked = np.array([[False, True, False], [False, False, False]])
    outcome = Outcome(
        examined=clicked,
        clicked=clicked,
        purchased=clicked,
        satisfaction=0.75 * clicked,
        rated=clicked,
        dwell=12.5 * clicked,
    )
    shown = Shown(lists, np.full(lists.shape, 0.25), np.array([0.5, np.nan]), ["a", "b"])
    rows = interactions(world, requests, shown, outcome, "x-")
    time, visit = int(requests.timestamps[0]), f"x-v{requests.ids[0]}"
    price = float(world.items.price[2])
    assert rows.filter(pl.col("recommendation_id") == "a").select("item_id", "event", "value", "timestamp").rows() == [
        ("p1", "impression", 0.0, time),
        ("p2", "click", None, time + 1),
        ("p2", "view", 12.5, time + 2),
        ("p2", "purchase", price, time + 3),
        ("p2", "rating", 4.0, time + 4),
        ("p3", "impression", 0.0, time),
    ]
    assert rows["position"].to_list() == [1, 2, 2, 2, 2, 3, 1, 2]
    assert rows["list_propensity"].to_list() == [0.5] * 6 + [None] * 2
    assert set(rows["propensity"].to_list()) == {0.25}
    purchase = service_events(rows)[3]
    person = requests.people[0]
    assert (purchase.event, purchase.value, purchase.position, purchase.timestamp) == ("purchase", price, 1, time + 3)
    assert (purchase.event_id, purchase.session_id) == (f"{visit}-1-purchase", visit)
    assert (purchase.recommendation_id, purchase.user_id) == ("a", world.people.ids[person])
    assert purchase.language == world.languages[world.people.language[person]]
    assert purchase.country == world.people.country[person]


def test_an_item_as_the_service_takes_it() -> None:
    world = small_world()
    item = service_item(world, 3)
    assert item.title == world.items.titles[3][item.language]
    assert item.numbers == {"price": world.items.price[3]}
    assert item.categories == world.items.categories[3]
