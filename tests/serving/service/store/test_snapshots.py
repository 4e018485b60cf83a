"""Copies of what the store has heard, for training."""

import hashlib
from pathlib import Path

import polars as pl
import pytest

from serving.service.store import Store, snapshots
from serving.service.types import Event, User, login_event

_DAY = 86_400
_NOW = 1_764_000_000


def _event(number: int, **fields: object) -> Event:
    values = {
        "event_id": f"e{number}",
        "event": "click",
        "timestamp": _NOW + number,
        "user_id": "대한",
        "item_id": "i1",
    }
    return Event(**(values | fields))  # type: ignore[arg-type]


def test_events_are_copied_once(store: Store, tmp_path: Path) -> None:
    store.append_events([_event(1, value=2.5, position=0, language="ko"), _event(2, item_id="สินค้า 👩‍👩‍👧‍👦")])
    first = store.copy_events(tmp_path / "first.parquet")
    assert (first.events, first.others, first.links, first.erased) == (2, 0, {}, frozenset())
    rows = pl.read_parquet(tmp_path / "first.parquet")
    assert rows["event_id"].to_list() == ["e1", "e2"]
    assert rows["item_id"].to_list() == ["i1", "สินค้า 👩‍👩‍👧‍👦"]
    # The format counts places from 1; an empty text is a missing one.
    assert rows.select("user_id", "value", "position", "language").rows() == [
        ("대한", 2.5, 1, "ko"),
        ("대한", None, None, None),
    ]
    assert store.copy_events(tmp_path / "again.parquet", first.mark).events == 0
    store.append_events([_event(3), _event(2)])
    second = store.copy_events(tmp_path / "second.parquet", first.mark)
    assert pl.read_parquet(tmp_path / "second.parquet")["event_id"].to_list() == ["e3"]
    assert store.copy_events(tmp_path / "second.parquet", second.mark).events == 0
    assert pl.read_parquet(tmp_path / "second.parquet").is_empty()


def test_what_training_does_not_know_is_counted(store: Store, tmp_path: Path) -> None:
    store.append_events([_event(1), _event(2, item_id="", event="search"), _event(3, event="unheard-of")])
    copied = store.copy_events(tmp_path / "events.parquet")
    assert (copied.events, copied.others) == (1, 2)


def test_a_visit_is_the_users_after_the_log_in(store: Store, tmp_path: Path) -> None:
    store.append_events([_event(1, user_id="", session_id="방문")])
    first = store.copy_events(tmp_path / "first.parquet")
    assert pl.read_parquet(tmp_path / "first.parquet")["user_id"].to_list() == ["session:방문"]
    store.link_session("방문", "عائشة", login_event("방문", "عائشة"))
    store.append_events([_event(2, user_id="", session_id="방문")])
    second = store.copy_events(tmp_path / "second.parquet", first.mark)
    assert second.links == {"방문": "عائشة"}
    assert pl.read_parquet(tmp_path / "second.parquet")["user_id"].to_list() == ["عائشة"]


def test_who_is_erased_is_named_by_digests(store: Store, tmp_path: Path) -> None:
    store.append_events([_event(1, session_id="v"), _event(2, user_id="", session_id="v"), _event(3, user_id="other")])
    first = store.copy_events(tmp_path / "first.parquet")
    store.delete_user("대한")
    second = store.copy_events(tmp_path / "second.parquet", first.mark)
    expected = {hashlib.sha256(name.encode()).hexdigest() for name in ("대한", "session:v")}
    assert second.erased == expected
    assert store.copy_events(tmp_path / "third.parquet", second.mark).erased == frozenset()
    assert store.copy_events(tmp_path / "all.parquet").events == 1


def test_many_events_come_in_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_CHUNK", 30)
    monkeypatch.setattr(snapshots, "_READ", 10)
    # A column of the context that only some parts have.
    store.append_events([_event(n, context={"late": n} if n > 70 else {}) for n in range(100)])
    copied = store.copy_events(tmp_path / "events.parquet")
    rows = pl.read_parquet(tmp_path / "events.parquet")
    assert copied.events == rows.height == 100
    assert rows["event_id"].to_list() == [f"e{n}" for n in range(100)]
    assert rows["late"].drop_nulls().to_list() == list(range(71, 100))
    assert [path.name for path in tmp_path.glob(".*.parquet")] == []


def test_files_of_moved_events(store: Store, tmp_path: Path) -> None:
    store.append_events([_event(1, timestamp=_NOW - 40 * _DAY), _event(2)])
    assert store.interaction_files() == []
    store.segment_events(_NOW - 30 * _DAY, tmp_path / "moved")
    (path,) = store.interaction_files()
    assert pl.read_parquet(path)["event_id"].to_list() == ["e1"]
    assert store.copy_events(tmp_path / "events.parquet").events == 1


def test_all_profiles(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_READ", 2)
    users = [User(user_id=name, languages=["ko"], country="KR") for name in ("a", "b", "대한", "👩‍👩‍👧‍👦", "z")]
    store.put_users(users)
    found = [user for batch in store.all_users() for user in batch]
    assert sorted(user.user_id for user in found) == sorted(user.user_id for user in users)
    assert all(user.languages == ["ko"] for user in found)
