"""Old answers move to files: none is lost or doubled wherever a run stops, and erasure finds them there."""

import datetime
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from serving.service.store import Store, UnavailableError, __main__, segments
from serving.service.types import ShownItem, ShownRecommendation
from tests.serving.service.databases import execute
from tests.serving.service.store.samples import DAY, IDS, NOON, event
from tests.serving.service.store.stopping import STEPS, KillAt, Killed
from trainer.data.faults import Origin
from trainer.data.validation import validate_table

_PERSON = "عائشة"


def _day(timestamp: float) -> str:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).date().isoformat()


def _shown(recommendation_id: str, count: int = 3, **fields: Any) -> ShownRecommendation:
    items = [ShownItem(item_id=f"i{place}", score=1.0 / (place + 1), propensity=0.5) for place in range(count)]
    values: dict[str, Any] = {"timestamp": NOON, "items": items}
    return ShownRecommendation(recommendation_id=recommendation_id, **(values | fields))


def _three_days() -> list[ShownRecommendation]:
    """For each of three days an answer to each person, one of them without items, and one to nobody."""
    return [
        _shown(f"{days}/{each}", count=place, user_id=each, timestamp=NOON + days * DAY + 0.5, query="茶")
        for days in range(3)
        for place, each in enumerate([*IDS, ""])
    ]


def _moved(folder: Path) -> list[tuple[str, str]]:
    """Answer and item of all rows, as the trainer reads a folder: without names that begin with a dot."""
    frames = [pl.read_parquet(path) for path in sorted(folder.rglob("[!.]*.parquet"))]
    return [row for frame in frames for row in frame.select("recommendation_id", "item_id").rows()]


def _rows(answers: list[ShownRecommendation]) -> list[tuple[str, str]]:
    return [
        (each.recommendation_id, item_id)
        for each in answers
        for item_id in ([item.item_id for item in each.items] or [""])
    ]


def _left(url: str) -> set[object]:
    return {row[0] for row in execute(url, "SELECT recommendation_id FROM recommendations")}


def test_whole_days_move(url: str, store: Store, tmp_path: Path) -> None:
    answers = _three_days()
    store.log_recommendations(answers)
    store.append_events([event("e")])
    report = store.segment_recommendations(NOON + 2 * DAY + 3600, tmp_path)
    people = len(IDS) + 1
    assert (report.before, report.moved, report.after, report.appended) == (3 * people, 2 * people, people, 0)
    items = sum(range(people))
    assert [(each.day, each.moved, each.recommendations) for each in report.days] == [
        (_day(NOON), people, items),
        (_day(NOON + DAY), people, items),
    ]
    assert Counter(_moved(tmp_path)) == Counter(_rows(answers[: 2 * people]))
    assert _left(url) == {each.recommendation_id for each in answers[2 * people :]}
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")) == [
        f"{kind}/{_day(NOON + day * DAY)}.parquet"
        for kind in ("other_recommendations", "recommendations")
        for day in (0, 1)
    ]
    assert len(store.events_after("")[0]) == 1
    assert store.segment_recommendations(NOON + 2 * DAY + 3600, tmp_path).moved == 0


def test_files_have_the_dataset_format(store: Store, tmp_path: Path) -> None:
    trap = 'a"items":[]'
    store.log_recommendations(
        [
            ShownRecommendation(
                recommendation_id="r1",
                timestamp=NOON + 0.25,
                user_id="大輔",
                session_id="ช่วงเวลา",
                placement="home",
                language="zh-Hant",
                country="TW",
                query=trap,
                model_version=3,
                variant="b",
                items=[
                    ShownItem(item_id="1001", score=0.5, propensity=0.25, source="explored"),
                    ShownItem(item_id="急須", score=-1.5),
                ],
            ),
            _shown("r2", 1, timestamp=NOON + 1, session_id="linked"),
            _shown("r3", 1, timestamp=NOON + 2, session_id="s"),
            _shown("r4", 1, timestamp=NOON + 3),
            _shown("r5", 0, timestamp=NOON + 4, session_id="s", query=trap, degraded=True),
        ]
    )
    store.link_session("linked", "ben")
    store.segment_recommendations(NOON + DAY, tmp_path)
    path = tmp_path / "recommendations" / f"{_day(NOON)}.parquet"
    frame = pl.read_parquet(path)
    assert validate_table("interactions", frame.lazy(), Origin(str(path))) == 5
    first = {
        "user_id": "大輔",
        "item_id": "1001",
        "timestamp": NOON,
        "event": "impression",
        "value": None,
        "event_id": "r1:1",
        "recommendation_id": "r1",
        "session_id": "ช่วงเวลา",
        "position": 1,
        "propensity": 0.25,
        "language": "zh-Hant",
        "country": "TW",
        "placement": "home",
        "query": trap,
        "degraded": False,
        "model_version": 3,
        "score": 0.5,
        "shown_at": NOON + 0.25,
        "source": "explored",
        "variant": "b",
    }
    second = first | {"item_id": "急須", "event_id": "r1:2", "position": 2, "propensity": 1.0}
    assert frame.rows(named=True)[:2] == [first, second | {"score": -1.5, "source": "model"}]
    assert frame["user_id"].to_list() == ["大輔", "大輔", "ben", "session:s", "session:r4"]
    assert frame["variant"].to_list() == ["b", "b", None, None, None]
    (other,) = pl.read_parquet(tmp_path / "other_recommendations" / f"{_day(NOON)}.parquet").rows(named=True)
    assert {name: value for name, value in other.items() if value is not None} == {
        "user_id": "session:s",
        "item_id": "",
        "timestamp": NOON + 4,
        "event": "impression",
        "event_id": "r5",
        "recommendation_id": "r5",
        "session_id": "s",
        "query": trap,
        "degraded": True,
        "model_version": 0,
        "shown_at": NOON + 4.0,
    }


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_stops_anywhere_is_completed(
    url: str, store: Store, tmp_path: Path, kill_at: KillAt, step: str
) -> None:
    answers = _three_days()
    ids = {each.recommendation_id for each in answers}
    store.log_recommendations(answers)
    for place in (1, 2):
        kill_at(step, place)
        with pytest.raises(Killed):
            store.segment_recommendations(NOON + 2 * DAY, tmp_path)
        # Every answer is somewhere whole, and in no file twice.
        moved = Counter(_moved(tmp_path))
        assert max(moved.values(), default=1) == 1
        left = _left(url)
        assert {name for name, _ in moved} | left == ids
        whole = set(_rows([each for each in answers if each.recommendation_id not in left]))
        assert whole <= set(moved)
        # Also then, all that was shown to a person is found, once.
        exported: dict[str, Any] = store.export_user("민수")
        found = [(each["recommendation_id"], len(each["items"])) for each in exported["recommendations"]]
        found += Counter(each["recommendation_id"] for each in exported["moved_recommendations"]).items()
        assert sorted(found) == [(f"{days}/민수", IDS.index("민수")) for days in range(3)]
        assert exported["moved_events"] == []
    kill_at(step, 0)
    report = store.segment_recommendations(NOON + 2 * DAY, tmp_path)
    assert report.after == len(_left(url)) == len(IDS) + 1
    assert Counter(_moved(tmp_path)) == Counter(_rows([each for each in answers if each.timestamp < NOON + 1.5 * DAY]))
    assert not list(tmp_path.rglob(".*"))
    assert store.check().problems == []


@pytest.mark.parametrize("step", ["", *STEPS])
def test_a_person_is_erased_from_files(
    url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also after a run that stopped; sessions too of which only files know that they are the person's."""
    store.log_recommendations(
        [
            _shown("p1", user_id=_PERSON, session_id="seen", query="سر"),
            _shown("p2", 0, user_id=_PERSON),
            _shown("p3", session_id="seen", timestamp=NOON + DAY),
            _shown("p4", session_id="linked"),
            _shown("o1", user_id="ben", session_id="seen"),
            _shown("o2", session_id="another's"),
            _shown("o3", 0),
        ]
    )
    store.link_session("linked", _PERSON)

    def stop(name: str) -> None:
        if name == step:
            raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(segments, "step", stop)
        if step:
            with pytest.raises(RuntimeError):
                store.segment_recommendations(NOON + DAY, tmp_path)
        else:
            store.segment_recommendations(NOON + DAY, tmp_path)
    exported: dict[str, Any] = store.export_user(_PERSON)
    found = [
        each["recommendation_id"] for part in ("recommendations", "moved_recommendations") for each in exported[part]
    ]
    assert set(found) == {"p1", "p2", "p3", "p4"}
    assert store.delete_user(_PERSON)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(path.name.startswith(".") for path in files)
    assert not any(_PERSON.encode() in path.read_bytes() for path in files)
    store.segment_recommendations(NOON + 2 * DAY, tmp_path)
    assert {name for name, _ in _moved(tmp_path)} == {"o1", "o2", "o3"}
    assert _left(url) == set()
    assert not list(tmp_path.rglob(".*"))
    assert not store.delete_user(_PERSON)


def test_answers_that_come_late_join_their_day(store: Store, tmp_path: Path) -> None:
    store.log_recommendations([_shown("a"), _shown("b")])
    store.segment_recommendations(NOON + DAY, tmp_path)
    # A replica that could not write sends again what was written, and more.
    store.log_recommendations([_shown("b"), _shown("c", 2)])
    report = store.segment_recommendations(NOON + DAY, tmp_path)
    assert [(each.moved, each.recommendations) for each in report.days] == [(2, 8)]
    assert Counter(_moved(tmp_path)) == Counter(_rows([_shown("a"), _shown("b"), _shown("c", 2)]))


def test_large_days_come_in_chunks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_CHUNK", 7)
    monkeypatch.setattr(segments, "_READ", 4)
    monkeypatch.setattr("serving.service.store.statements._PARAMETERS", 10)
    answers = [_shown(f"{n:02}", n % 12, timestamp=NOON + n) for n in range(30)]
    store.log_recommendations(answers)
    assert store.segment_recommendations(NOON + DAY, tmp_path).moved == 30
    frame = pl.read_parquet(tmp_path / "recommendations" / f"{_day(NOON)}.parquet")
    assert frame.select("recommendation_id", "item_id").rows() == [row for row in _rows(answers) if row[1]]


def test_the_command_moves_events_and_answers(
    url: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.log_recommendations([_shown("a", user_id="ana")])
    store.append_events([event("e", recommendation_id="a", item_id="i1", position=1)])
    for moved in (1, 0):
        assert __main__.main(["segment", "--store", url, "--folder", str(tmp_path), "--keep-days", "30"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["before"], printed["after"]) == (moved, 0)
        assert (printed["recommendations"]["before"], printed["recommendations"]["after"]) == (moved, 0)
    # An event finds the place in which its item was shown, with its propensity.
    events = pl.read_parquet(tmp_path / "interactions" / "*.parquet")
    shown = pl.read_parquet(tmp_path / "recommendations" / "*.parquet")
    joined = events.drop("propensity").join(shown, on=["recommendation_id", "item_id", "position", "user_id"])
    assert joined["propensity"].to_list() == [0.5]


def test_a_full_disk_loses_nothing(url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.log_recommendations([_shown("a")])

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("serving.service.store.segment_files._sync", full)
        with pytest.raises(UnavailableError, match=r"No space left.*Remedy"):
            store.segment_recommendations(NOON + DAY, tmp_path)
    assert _left(url) == {"a"}
    assert store.segment_recommendations(NOON + DAY, tmp_path).moved == 1
