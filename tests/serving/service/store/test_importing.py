"""Datasets in the store."""

from pathlib import Path

import polars as pl
import pytest

from serving.service.errors import InvalidRequestError
from serving.service.importing import import_dataset
from serving.service.store import Store
from serving.service.types import Event

_ROW = {"user_id": "u", "item_id": "i", "timestamp": 1_700_000_000, "event": "click"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A directory with one item."""
    folder = tmp_path / "shop"
    folder.mkdir()
    pl.DataFrame({"item_id": ["i"], "title": ["차"], "language": ["ko"]}).write_parquet(folder / "items.parquet")
    return folder


def _imported(dataset: Path, store: Store, **columns: object) -> Event:
    pl.DataFrame([_ROW | columns]).write_parquet(dataset / "interactions.parquet")
    assert import_dataset(dataset, store).endswith("1 events, 1 of them new.")
    assert import_dataset(dataset, store).endswith("1 events, 0 of them new.")
    ((event,), _) = store.events_after("")
    return event


def test_a_list_that_was_shown_is_an_answer(dataset: Path, store: Store) -> None:
    event = _imported(dataset, store, impression_id="l1", position=1)
    assert (event.recommendation_id, event.position, event.context) == ("l1", 0, {})


def test_an_answer_is_that_of_the_event(dataset: Path, store: Store) -> None:
    event = _imported(dataset, store, impression_id="l1", recommendation_id="r1", event_id="e", device="電話")
    assert (event.recommendation_id, event.event_id, event.context) == ("r1", "e", {"device": "電話"})


def test_events_without_ids_have_those_of_their_places(dataset: Path, store: Store) -> None:
    assert _imported(dataset, store).event_id == "shop-0"


def test_shards_are_one_table(dataset: Path, store: Store) -> None:
    folder = dataset / "interactions"
    folder.mkdir()
    for part, event in enumerate(["view", "click", "purchase"]):
        row = _ROW | {"event": event, "user_id": f"用户{part}"}
        pl.DataFrame([row]).write_parquet(folder / f"part-{part:06d}.parquet")
    assert import_dataset(dataset, store).endswith("3 events, 3 of them new.")
    (events, _) = store.events_after("")
    assert [(each.event_id, each.event) for each in events] == [
        ("shop-0", "view"),
        ("shop-1", "click"),
        ("shop-2", "purchase"),
    ]


def test_a_directory_without_items_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InvalidRequestError, match=r"neither items\.parquet nor items/.*`trainer.task data`"):
        import_dataset(tmp_path, store)
