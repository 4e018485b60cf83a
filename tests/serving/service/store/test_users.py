"""Profiles, and what erasing a person leaves: nothing."""

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from serving.service.store import InvalidError, SegmentError, Store, open_store
from serving.service.types import ShownItem, ShownRecommendation, User
from tests.serving.service.store.samples import DAY, IDS, NOON, event, full_event, item

_PERSON = "عائشة"


def _shown(recommendation_id: str, **fields: Any) -> ShownRecommendation:
    return ShownRecommendation(
        recommendation_id=recommendation_id,
        timestamp=NOON + 0.25,
        placement="home",
        model_version=3,
        items=[ShownItem(item_id="1001", score=0.5, propensity=0.1, source="explored")],
        **fields,
    )


def _fill(store: Store) -> None:
    """Four events, two sessions, two recommendations and a profile of the person, and as much of others."""
    store.put_user(User(user_id=_PERSON, languages=["ar", "en"], country="EG", attributes={"age": 41}))
    store.put_user(User(user_id="ben"))
    store.append_events(
        [
            full_event("p1", user_id=_PERSON, session_id="seen"),
            event("p2", user_id="", session_id="seen", timestamp=NOON + DAY),
            event("p3", user_id="", session_id="linked", timestamp=NOON + DAY),
            event("p4", user_id=_PERSON, item_id="", event="search", timestamp=NOON + DAY),
            event("o1", user_id="ben", session_id="seen"),
            event("o2", user_id="", session_id="another's"),
            # The person used a session that Ben had begun: what is anonymous in it is his.
            event("o3", user_id="", session_id="ben's"),
            event("p5", user_id=_PERSON, session_id="ben's"),
        ]
    )
    store.link_session("linked", _PERSON)
    store.link_session("ben's", "ben")
    store.log_recommendations(
        [
            _shown("rp1", user_id=_PERSON),
            _shown("rp2", session_id="linked"),
            _shown("ro1", user_id="ben"),
            _shown("ro2", session_id="another's"),
        ]
    )


def _ids(store: Store) -> set[str]:
    return {each.event_id for each in store.events_after("")[0]}


def test_a_profile_comes_back_as_it_was(store: Store) -> None:
    for name in IDS:
        user = User(user_id=name, languages=["zh-Hant", "en"], country="TW", attributes={"名": "值", "n": 1})
        store.put_user(user)
        assert store.user(name) == user
    store.put_user(User(user_id=IDS[0]))
    assert store.user(IDS[0]) == User(user_id=IDS[0], languages=[], attributes={})
    assert store.user("unknown") is None
    for wrong in (User(user_id=""), User(user_id="session:1"), User(user_id="a", attributes={"b": float("nan")})):
        with pytest.raises(InvalidError):
            store.put_user(wrong)


def test_many_profiles_are_put_at_once_or_none(store: Store) -> None:
    store.put_users([User(user_id=name, country="TW") for name in IDS])
    store.put_users([User(user_id=IDS[0]), User(user_id="new"), User(user_id=IDS[0], country="KR")])
    assert [store.user(name) for name in (IDS[0], "new", IDS[1])] == [
        User(user_id=IDS[0], languages=[], attributes={}, country="KR"),
        User(user_id="new", languages=[], attributes={}),
        User(user_id=IDS[1], languages=[], attributes={}, country="TW"),
    ]
    with pytest.raises(InvalidError, match="users, place 1"):
        store.put_users([User(user_id="whole"), User(user_id="")])
    assert store.user("whole") is None
    store.put_users([])


def test_all_about_a_person_is_erased(url: str, store: Store) -> None:
    _fill(store)
    with open_store(url) as replica:
        mark = replica.latest_mark()
        assert store.delete_user(_PERSON)
        assert replica.users_deleted_after(mark)[0] == [hashlib.sha256(_PERSON.encode()).hexdigest()]
    assert _ids(store) == {"o1", "o2", "o3"}
    assert store.user(_PERSON) is None
    assert store.user("ben") is not None
    left = {each for each in ("rp1", "rp2", "ro1", "ro2") if store.recommendation(each)}
    assert left == {"ro1", "ro2"}
    assert store.history(_PERSON) == []
    exported = store.export_user(_PERSON)
    assert not any(exported[part] for part in ("profile", "sessions", "events", "moved_events", "recommendations"))
    # Again, and of somebody unknown: nothing to erase, but the feed has it.
    assert not store.delete_user(_PERSON)
    assert not store.delete_user("nobody")
    assert len(store.users_deleted_after("")[0]) == 3
    # The session is free for somebody else.
    store.link_session("linked", "cleo")
    assert store.history("cleo") == []


def test_an_erased_person_is_not_in_the_bytes_of_the_file(sqlite: str, tmp_path: Path) -> None:
    with open_store(sqlite) as store:
        _fill(store)
        names = [text.encode() for text in (_PERSON, "linked", "手機")]
        held = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
        assert all(name in held for name in names)
        store.delete_user(_PERSON)
        left = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
        assert not any(name in left for name in names)


def test_a_person_is_erased_from_files_of_moved_events(store: Store, tmp_path: Path) -> None:
    _fill(store)
    folder = tmp_path / "moved"
    store.segment_events(NOON + 3 * DAY, folder)
    assert _ids(store) == set()
    assert {each["event_id"] for each in store.export_user(_PERSON)["moved_events"]} == {  # type: ignore[attr-defined]
        *("p1", "p2", "p3", "p4", "p5")
    }
    assert store.delete_user(_PERSON)
    files = sorted(folder.rglob("*"))
    left = pl.concat([pl.read_parquet(path) for path in files if path.suffix == ".parquet"], how="diagonal_relaxed")
    assert sorted(left["event_id"]) == ["o1", "o2", "o3"]
    assert not any(_PERSON.encode() in path.read_bytes() for path in files if path.is_file())
    assert not any(path.name.startswith(".") for path in files)
    assert not store.delete_user(_PERSON)


def test_a_session_of_which_only_files_know_is_erased(store: Store, tmp_path: Path) -> None:
    store.append_events([event("p1", user_id=_PERSON, session_id="s")])
    store.segment_events(NOON + DAY, tmp_path)
    store.append_events([event("p2", user_id="", session_id="s", timestamp=NOON + DAY), event("o1", user_id="ben")])
    assert store.delete_user(_PERSON)
    assert _ids(store) == {"o1"}


def test_nothing_is_erased_while_a_file_is_out_of_reach(store: Store, tmp_path: Path) -> None:
    _fill(store)
    store.segment_events(NOON + DAY, tmp_path / "disk")
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    before = _ids(store)
    for call in (store.delete_user, store.export_user):
        with pytest.raises(SegmentError, match=r"out of reach.*mount"):
            call(_PERSON)
    assert _ids(store) == before
    assert store.user(_PERSON) is not None
    assert "out of reach" in store.check().problems[0]
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    assert store.delete_user(_PERSON)
    # A file that its owner has removed holds nothing.
    (tmp_path / "disk" / "interactions" / "2024-10-04.parquet").unlink()
    store.delete_user(_PERSON)


def test_an_export_has_all_about_a_person(store: Store, tmp_path: Path) -> None:
    _fill(store)
    store.segment_events(NOON + DAY, tmp_path)
    exported = json.loads(json.dumps(store.export_user(_PERSON)))
    assert exported["user_id"] == _PERSON
    assert exported["profile"]["attributes"] == {"age": 41}
    assert exported["sessions"] == ["linked", "seen"]
    assert {each["event_id"] for each in exported["events"]} == {"p2", "p3", "p4"}
    assert {each["event_id"] for each in exported["moved_events"]} == {"p1", "p5"}
    assert {each["device"] for each in exported["moved_events"] if each["event_id"] == "p1"} == {"手機"}
    assert {each["recommendation_id"] for each in exported["recommendations"]} == {"rp1", "rp2"}


def test_popular_items_survive_a_person(store: Store) -> None:
    store.put_items([item("1001")])
    _fill(store)
    store.delete_user(_PERSON)
    assert store.popular_items("", now=NOON) == ["1001"]


def test_recommendations_come_back_as_they_were(store: Store) -> None:
    assert store.recommendation("unknown") is None
    shown = [_shown(each, user_id=each, query="茶") for each in IDS]
    store.log_recommendations([*shown, _shown(IDS[0], user_id="again")][::-1])
    store.log_recommendations([_shown(IDS[1], user_id="again")])
    store.log_recommendations([])
    assert [store.recommendation(each) for each in IDS] == shown
    wrong = [ShownItem(item_id="a", score=float("nan"))]
    with pytest.raises(InvalidError, match="finite"):
        store.log_recommendations([ShownRecommendation(recommendation_id="r", timestamp=NOON, items=wrong)])


def test_sqlite_overwrites_what_it_deletes(sqlite: str) -> None:
    with open_store(sqlite) as store, store._database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    assert sqlite3.sqlite_version_info >= (3, 35)  # RETURNING
