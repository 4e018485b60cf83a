"""Old events move to files: none is lost or doubled wherever a run stops."""

import datetime
import errno
import os
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from serving.service.store import InvalidError, SegmentError, Store, UnavailableError, segments
from serving.service.types import Event
from tests.serving.service.store.samples import DAY, IDS, NOON, event, full_event, item
from tests.serving.service.store.stopping import STEPS, KillAt, Killed
from trainer.data.faults import Origin
from trainer.data.validation import validate_table


def _day(timestamp: int) -> str:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).date().isoformat()


def _three_days() -> list[Event]:
    events = [
        full_event(f"{days}/{each}", user_id=each, item_id=each, timestamp=NOON + days * DAY)
        for days in range(3)
        for each in IDS
    ]
    return [*events, event("search", item_id="", event="search", query="茶", timestamp=NOON - DAY // 2)]


def _moved(folder: Path) -> list[str]:
    # As the trainer reads a folder: without names that begin with a dot.
    files = sorted(folder.rglob("[!.]*.parquet"))
    return [each for path in files for each in pl.read_parquet(path)["event_id"]]


def _left(store: Store) -> list[str]:
    return [each.event_id for each in store.events_after("", 10_000)[0]]


def test_whole_days_move(store: Store, tmp_path: Path) -> None:
    sent = _three_days()
    store.append_events(sent)
    # In the afternoon of the third day: it is not over.
    report = store.segment_events(NOON + 2 * DAY + 3600, tmp_path)
    assert (report.before, report.moved, report.after, report.appended) == (28, 19, 9, 0)
    days = [(each.day, each.moved, each.known, each.interactions, each.other_events) for each in report.days]
    assert days == [(_day(NOON), 10, 0, 9, 1), (_day(NOON + DAY), 9, 0, 9, 0)]
    assert sorted(_left(store)) == sorted(f"2/{each}" for each in IDS)
    assert sorted(_moved(tmp_path)) == sorted(each.event_id for each in sent if each.timestamp < NOON + DAY + DAY // 2)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")) == [
        f"interactions/{_day(NOON)}.parquet",
        f"interactions/{_day(NOON + DAY)}.parquet",
        f"other_events/{_day(NOON)}.parquet",
    ]
    again = store.segment_events(NOON + 2 * DAY + 3600, tmp_path)
    assert (again.before, again.moved, again.after, again.days) == (9, 0, 9, [])


def test_files_have_the_dataset_format(store: Store, tmp_path: Path) -> None:
    store.append_events(
        [
            full_event("1"),
            event("2", user_id="", session_id="s", context={"width": 1.5, "device": 3, "more": True}),
            event("3", user_id="", session_id="t"),
            event("4", timestamp=NOON + DAY, context={"width": 2}),
        ]
    )
    store.link_session("t", "ben")
    store.segment_events(NOON + 2 * DAY, tmp_path)
    path = tmp_path / "interactions" / f"{_day(NOON)}.parquet"
    frame = pl.read_parquet(path)
    assert validate_table("interactions", frame.lazy(), Origin(str(path))) == 3
    assert frame.rows(named=True)[0] == {
        "user_id": "ana",
        "item_id": "1001",
        "timestamp": NOON,
        "event": "click",
        "value": 4.5,
        "event_id": "1",
        "recommendation_id": "r1",
        "session_id": "ช่วงเวลา",
        "position": 1,  # the format counts from 1
        "propensity": 0.25,
        "language": "zh-Hant",
        "country": "TW",
        "placement": "home",
        "query": "茶壺 🫖",
        "dark": True,
        "device": "手機",
        "more": None,
        "scroll": 0.5,
        "width": 390.0,
    }
    assert frame["user_id"].to_list() == ["ana", "session:s", "ben"]
    # Texts and numbers in one column are texts, whole numbers and fractions are fractions.
    assert frame["device"].to_list() == ["手機", "3", None]
    assert frame["width"].to_list() == [390.0, 1.5, None]
    assert frame.row(2, named=True) == dict.fromkeys(frame.columns) | {
        "user_id": "ben",
        "item_id": "1001",
        "timestamp": NOON,
        "event": "click",
        "event_id": "3",
        "session_id": "t",
    }
    # A day's later events may bring other types.
    store.append_events([event("5", timestamp=NOON + DAY, context={"width": "wide"})])
    store.segment_events(NOON + 2 * DAY, tmp_path)
    later = pl.read_parquet(tmp_path / "interactions" / f"{_day(NOON + DAY)}.parquet")
    assert later["width"].to_list() == ["2", "wide"]


def test_events_that_come_late_join_their_day(store: Store, tmp_path: Path) -> None:
    store.append_events([event("a"), event("b")])
    store.segment_events(NOON + DAY, tmp_path)
    # The store no longer knows `b`, but the file does.
    store.append_events([event("b"), event("c"), event("b2", timestamp=NOON + DAY)])
    report = store.segment_events(NOON + DAY, tmp_path)
    assert [(each.moved, each.known, each.interactions) for each in report.days] == [(2, 1, 3)]
    assert sorted(_moved(tmp_path)) == ["a", "b", "c"]
    assert _left(store) == ["b2"]


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_stops_anywhere_is_completed(store: Store, tmp_path: Path, kill_at: KillAt, step: str) -> None:
    sent = [each.event_id for each in _three_days()]
    store.append_events(_three_days())
    for place in (1, 2):
        kill_at(step, place)
        with pytest.raises(Killed):
            store.segment_events(NOON + 2 * DAY, tmp_path)
        # Every event is somewhere, and in no file twice.
        moved, left = _moved(tmp_path), _left(store)
        assert {*moved, *left} == set(sent)
        assert len(set(moved)) == len(moved)
        assert len(set(left)) == len(left)
        # Also then, all of a person is found.
        name = "민수"
        exported = store.export_user(name)
        ids = [each["event_id"] for part in ("events", "moved_events") for each in exported[part]]  # type: ignore[attr-defined]
        assert sorted(ids) == [f"{days}/{name}" for days in range(3)]
    kill_at(step, 0)
    report = store.segment_events(NOON + 2 * DAY, tmp_path)
    assert sorted(_moved(tmp_path) + _left(store)) == sorted(sent)
    assert len(_left(store)) == report.after == 9
    assert not list(tmp_path.rglob(".*"))
    assert store.check().problems == []


@pytest.mark.parametrize("step", STEPS)
def test_a_person_is_erased_after_a_run_that_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def stop(name: str) -> None:
        if name == step:
            raise RuntimeError

    store.append_events([event("p"), event("o", user_id="ben")])
    monkeypatch.setattr(segments, "step", stop)
    with pytest.raises(RuntimeError):
        store.segment_events(NOON + DAY, tmp_path)
    assert store.delete_user("ana")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    # Apart from a column of the schema.
    left = [path for path in files if b"ana" in path.read_bytes().replace(b"canary", b"")]
    assert not [path for path in files if path.name.startswith(".")] + left
    monkeypatch.undo()
    store.segment_events(NOON + DAY, tmp_path)
    assert _moved(tmp_path) == ["o"]


def test_a_file_that_lacks_rows_deletes_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append_events([event("a"), event("b")])
    monkeypatch.setattr("serving.service.store.segment_files.rows_in", lambda path: 1)
    with pytest.raises(SegmentError, match="1 rows instead of"):
        store.segment_events(NOON + DAY, tmp_path)
    assert sorted(_left(store)) == ["a", "b"]


def test_large_days_come_in_chunks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_CHUNK", 7)
    monkeypatch.setattr("serving.service.store.statements._PARAMETERS", 10)
    store.append_events([event(str(n), timestamp=NOON + n, context={f"c{n // 10}": n}) for n in range(30)])
    assert store.segment_events(NOON + DAY, tmp_path).moved == 30
    (path,) = tmp_path.rglob("*.parquet")
    frame = pl.read_parquet(path)
    assert frame["event_id"].to_list() == [str(n) for n in range(30)]
    assert frame["c1"].to_list() == [n if 10 <= n < 20 else None for n in range(30)]
    assert pq.read_schema(path).field("event_id").nullable is False


def test_old_counts_are_added_up(store: Store, tmp_path: Path) -> None:
    store.put_items([item("1001")])
    store.append_events([event("a"), event("a2", timestamp=NOON + DAY), event("b", timestamp=NOON + 32 * DAY)])
    assert store.check().rows["counts"] == 3
    store.segment_events(NOON + 32 * DAY, tmp_path)
    assert store.check().rows["counts"] == 2
    assert store.popular_items("", now=NOON + 32 * DAY) == ["1001"]


def test_kinds_that_training_does_not_know_are_kept_apart(store: Store, tmp_path: Path) -> None:
    store.append_events([event("1"), event("2", event="위시리스트"), event("3", event="login", item_id="")])
    report = store.segment_events(NOON + 2 * DAY, tmp_path)
    assert [(day.moved, day.interactions, day.other_events) for day in report.days] == [(3, 1, 2)]
    path = tmp_path / "interactions" / f"{_day(NOON)}.parquet"
    assert validate_table("interactions", pl.scan_parquet(path), Origin(str(path))) == 1
    others = pl.read_parquet(tmp_path / "other_events" / f"{_day(NOON)}.parquet")
    assert others["event"].to_list() == ["위시리스트", "login"]


def test_a_folder_that_can_t_be_made_is_reported(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=r"Not a directory.*Remedy"):
        store.segment_events(NOON, tmp_path / "file")
    with pytest.raises(InvalidError, match="unix seconds"):
        store.segment_events(-1, tmp_path)


def test_a_damaged_file_is_reported(store: Store, tmp_path: Path) -> None:
    store.append_events([event("a")])
    store.segment_events(NOON + DAY, tmp_path)
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(b"no Parquet")
    store.append_events([event("b")])
    for call in (lambda: store.segment_events(NOON + DAY, tmp_path), lambda: store.delete_user("ana")):
        with pytest.raises(SegmentError, match=r"damaged.*restore"):
            call()
    assert _left(store) == ["b"]


def test_a_full_disk_loses_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.append_events([event("a")])
    for name in ("write_part", "_sync"):
        with monkeypatch.context() as patched:
            patched.setattr(f"serving.service.store.segment_files.{name}", full)
            with pytest.raises(UnavailableError, match=r"No space left.*Remedy"):
                store.segment_events(NOON + DAY, tmp_path)
        assert _left(store) == ["a"]
    assert store.segment_events(NOON + DAY, tmp_path).moved == 1
