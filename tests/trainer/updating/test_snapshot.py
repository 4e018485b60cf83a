"""The state of a service as a dataset to learn on from."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from serving.service.importing import import_dataset
from serving.service.store import Store, open_store
from serving.service.types import Event, Item, User, login_event
from trainer.data.dataset import Dataset
from trainer.updating import snapshot
from trainer.updating.snapshot import Snapshot, take_snapshot

_LATER = 1_700_000_000


@pytest.fixture
def store(tiny: Dataset, tmp_path: Path) -> Iterator[Store]:
    """A store with the tiny dataset, as `make live` fills it."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        import_dataset(tiny.path, opened)
        yield opened


def _click(name: str, *, user: str = "u1", item: str = "i1", after: int = 0, **more: str) -> Event:
    return Event(event_id=name, event="click", timestamp=_LATER + after, user_id=user, item_id=item, **more)  # type: ignore[arg-type]


def _rows(dataset: Dataset) -> pl.DataFrame:
    return dataset.interactions().collect()


def test_what_was_imported_is_there_once(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.append_events([_click("c1", user="대한", item="i2"), _click("c2", item="i3", after=5)])
    dataset, found = take_snapshot(store, tiny, "", tmp_path / "one")
    assert found.rows["before"] == tiny.rows["interactions"]
    assert (found.rows["new"], found.rows["written"]) == (2, tiny.rows["interactions"] + 2)
    assert _rows(dataset)["event_id"].n_unique() == dataset.rows["interactions"]
    newest = tiny.interactions().select(pl.col("timestamp").max()).collect().item()
    assert found.since == newest + 1
    # A second call only reads.
    again, same = take_snapshot(store, tiny, "", tmp_path / "one")
    assert same == found
    assert again.fingerprint == dataset.fingerprint == found.fingerprint


def test_the_next_one_has_only_what_is_new(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.append_events([_click("c1")])
    first, mark = take_snapshot(store, tiny, "", tmp_path / "one")
    store.append_events([_click("c2", after=9), _click("c1")])
    second, found = take_snapshot(store, first, mark.mark, tmp_path / "two")
    assert (found.rows["new"], found.since) == (1, _LATER + 1)
    assert set(_rows(second)["event_id"]) == set(_rows(first)["event_id"]) | {"c2"}


def test_who_was_erased_is_gone_from_the_data_before_too(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.append_events([_click("c1", user="", item="i5", session_id="v"), _click("c2", user="u9", session_id="v")])
    first, mark = take_snapshot(store, tiny, "", tmp_path / "one")
    assert {"u9", "session:v"} <= set(_rows(first)["user_id"])
    store.delete_user("u9")
    store.append_events([_click("c3", user="u9", after=50)])  # who comes back is somebody new
    second, found = take_snapshot(store, first, mark.mark, tmp_path / "two")
    assert _rows(second).filter(pl.col("user_id") == "u9")["event_id"].to_list() == ["c3"]
    assert "session:v" not in set(_rows(second)["user_id"])
    theirs = first.interactions().filter(pl.col("user_id").is_in(["u9", "session:v"])).collect().height
    assert found.rows["erased"] == theirs
    users = second.users()
    assert users is not None
    assert "u9" not in set(users.collect()["user_id"])


def test_a_visit_counts_as_the_users_after_the_log_in(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.append_events([_click("c1", user="", session_id="방문")])
    first, mark = take_snapshot(store, tiny, "", tmp_path / "one")
    store.link_session("방문", "u3", login_event("방문", "u3"))
    store.append_events([_click("c2", user="", session_id="방문", after=1)])
    second, _ = take_snapshot(store, first, mark.mark, tmp_path / "two")
    assert set(_rows(second).filter(pl.col("event_id").is_in(["c1", "c2"]))["user_id"]) == {"u3"}


def test_items_are_those_of_now_and_of_histories(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.put_items(
        [Item(item_id="new", language="th", title="ยานอวกาศใหม่"), Item(item_id="i2", language="en", title="changed")]
    )
    store.delete_items(["i4", "tail"])
    store.append_events([_click("c1", item="new"), _click("c2", item="never there")])
    dataset, found = take_snapshot(store, tiny, "", tmp_path / "one")
    items = {row["item_id"]: row for row in dataset.items().collect().iter_rows(named=True)}
    assert items["new"]["title"] == "ยานอวกาศใหม่"
    assert items["i2"]["title"] == "changed"
    assert "i4" in items  # people have rated it
    assert "tail" not in items  # nobody has
    assert found.rows["unknown_items"] == 1
    assert "c2" not in set(_rows(dataset)["event_id"])


def test_moved_events_are_found(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.append_events([_click("c1", after=-90 * 86_400), _click("c2")])
    store.segment_events(_LATER - 30 * 86_400, tmp_path / "moved")
    dataset, found = take_snapshot(store, tiny, "", tmp_path / "one")
    assert {"c1", "c2"} <= set(_rows(dataset)["event_id"])
    # Those of the dataset have moved as well.
    assert found.rows["written"] == tiny.rows["interactions"] + 2


def test_profiles_are_the_stores(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.put_user(User(user_id="u1", languages=["th", "en"], country="TH"))
    dataset, _ = take_snapshot(store, tiny, "", tmp_path / "one")
    users = dataset.users()
    assert users is not None
    (row,) = users.filter(pl.col("user_id") == "u1").collect().iter_rows(named=True)
    assert row == {"user_id": "u1", "languages": ["th", "en"], "country": "TH"}


def test_old_interactions_can_be_left_out(tiny: Dataset, store: Store, tmp_path: Path) -> None:
    store.append_events([_click("c1"), _click("c2", after=-3 * 86_400)])
    dataset, found = take_snapshot(store, tiny, "", tmp_path / "one", days=2)
    assert _rows(dataset)["event_id"].to_list() == ["c1"]
    assert found.rows["too_old"] == tiny.rows["interactions"] + 1


def test_a_killed_one_is_taken_again(
    tiny: Dataset, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append_events([_click("c1")])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "write_text", stop)
        with pytest.raises(KeyboardInterrupt):
            take_snapshot(store, tiny, "", tmp_path / "one")
    assert Snapshot.read(tmp_path / "one") is None
    store.append_events([_click("c2")])
    _, found = take_snapshot(store, tiny, "", tmp_path / "one")
    assert found.rows["new"] == 2
