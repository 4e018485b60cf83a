"""Which events count for which answer: by hand, and against a naive program."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.service.errors import InvalidRequestError
from serving.service.outcomes import Attributed, OutcomeSettings, attribute, read_period
from serving.service.store import COUNTED_EVENTS, HeardEvent, Store, open_store
from serving.service.types import Event, ShownRecommendation
from tests.serving.service.outcomes.samples import DAY, START, answer, event


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def attributed(store: Any, since: float = 0, until: float = 10 * DAY, **changes: Any) -> Attributed:
    options = OutcomeSettings(**changes)
    return attribute(read_period(store, START + since, START + until, START + 20 * DAY, options), options)


def test_what_counts_for_an_answer(store: Store) -> None:
    store.log_recommendations(
        [
            answer("r1", 100.5, ["茶壺", "🫖", "كتاب"], placement="home"),
            answer(
                "r2", 200.0, ["หนังสือ"], user_id="", session_id="방문", language="ko", degraded=True, model_version=0
            ),
            answer("r0", -100, ["茶壺"]),
        ]
    )
    store.append_events(
        [
            # The answer's own second is not before it.
            event("1", "click", 100, "茶壺", "r1"),
            event("2", "click", 150, "茶壺", "r1"),
            event("3", "click", 100 + DAY, "🫖", "r1"),
            event("4", "click", 101 + DAY, "كتاب", "r1"),
            event("5", "purchase", 100 + 7 * DAY, "🫖", "r1", value=12.5),
            event("6", "purchase", 101 + 7 * DAY, "茶壺", "r1"),
            event("7", "rating", 300, "茶壺", "r1", value=2.0),
            event("8", "rating", 400, "茶壺", "r1", value=4.0),
            event("9", "view", 500, "茶壺", "r1", value=30.0),
            event("10", "view", 600, "茶壺", "r1", value=12.5),
            event("11", "hide", 601, "كتاب", "r1"),
            event("12", "click", 99, "茶壺", "r1"),
            event("13", "click", 210, "茶壺", "r2"),
            event("14", "like", 210, "หนังสือ", "r2"),
            event("15", "click", 50, "茶壺", "r0"),
            event("16", "click", 50, "茶壺", "nobody's"),
            event("17", "purchase", 60, "茶壺", ""),
            event("18", "search", 60, "", "r1"),
            event("19", "skip", 700, "", "r1"),
        ]
    )
    found = attributed(store)
    answers = found.period.answers
    assert list(answers.shown) == [3, 1]
    expected = {"click": [2, 0], "purchase": [1, 0], "rating": [1, 0], "view": [1, 0], "hide": [1, 0], "like": [0, 1]}
    assert {kind: list(counts) for kind, counts in found.counts.items()} == {
        kind: expected.get(kind, [0, 0]) for kind in found.counts
    }
    assert list(found.conversions) == [1, 0]
    # The last rating, (4 - 1) / 4, and the hidden item.
    assert list(found.satisfaction) == [0.75, 1.0]
    assert list(found.opinions) == [2, 1]
    assert list(found.dwell) == [42.5, 0]
    assert list(found.dwelled) == [1, 0]
    assert found.counted == 8
    assert found.uncounted == {
        "no_answer": 1,
        "unknown_answer": 1,
        "other_answer": 1,
        "not_shown": 2,
        "early": 1,
        "late": 2,
        "repeated": 2,
    }
    labels = {name: [each.texts[code] for code in each.codes] for name, each in answers.labels.items()}
    assert labels == {
        "version": ["3", "0"],
        "variant": ["", ""],
        "placement": ["home", ""],
        "language": ["ja", "ko"],
        "country": ["JP", "JP"],
        # Of the first one's person there is a purchase without an answer from before.
        "history": ["warm", "cold"],
        "day": ["2024-10-04", "2024-10-04"],
    }
    assert list(answers.degraded) == [False, True]
    assert [answers.people[place] for place in answers.person] == ["大輔", "session:방문"]


def test_a_session_is_its_user_s(store: Store) -> None:
    store.log_recommendations(
        [
            answer("r1", 10, ["a"], user_id="", session_id="大輔"),
            answer("r2", 20, ["a"], user_id="민수", session_id="other"),
            answer("r3", 30, ["a"], user_id="", session_id="nobody's"),
            answer("r4", 40, ["a"], user_id="", session_id=""),
            answer("r5", 50, ["a"], user_id="", session_id=""),
            answer("r6", 60, ["a"], user_id="大輔"),
        ]
    )
    store.link_session("大輔", "민수")
    store.append_events(
        [
            event("1", "view", 5, "a", "", user_id="", session_id="大輔"),
            event("2", "impression", 5, "a", "", user_id="", session_id="nobody's"),
            event("3", "search", 5, "", "", user_id="大輔"),
        ]
    )
    answers = attributed(store).period.answers
    people = [answers.people[place] for place in answers.person]
    assert people[:3] == ["민수", "민수", "session:nobody's"]
    assert len({*people[3:]}) == 3
    assert people[5] == "大輔"
    history = answers.labels["history"]
    # A user is no session of the same name, and being shown something is no history.
    assert [history.texts[code] for code in history.codes] == ["warm", "warm", "cold", "cold", "cold", "cold"]


def test_pages_end_where_times_are_equal(store: Store) -> None:
    store.log_recommendations([answer(f"r{number:04}", 5.0, ["a"]) for number in range(25)])
    store.append_events([event(str(number), "click", 5, "a", f"r{number:04}") for number in range(25)])
    shown: list[str] = []
    after = None
    while page := store.answers_between(START, START + 9, after, 10):
        shown += [each.recommendation_id for each in page]
        after = (page[-1].timestamp, page[-1].recommendation_id)
    assert shown == [f"r{number:04}" for number in range(25)]
    heard: list[HeardEvent] = []
    place = None
    while found := store.heard_between(["click"], START, START + 9, place, 10):
        heard += found
        place = (found[-1].timestamp, found[-1].number)
    assert {each.recommendation_id for each in heard} == set(shown)
    assert len(heard) == 25
    assert store.answers_between(START + 6, START + 9) == []
    assert store.answers_between(START, START + 5) == []
    assert [store.count_answers(START, START + 9, most) for most in (7, 99)] == [7, 25]


def test_bounds(store: Store) -> None:
    store.log_recommendations([answer(str(number), number, ["a"]) for number in range(3)])
    store.append_events([event(str(number), "view", number, "a", "") for number in range(3)])
    for changes, problem in (
        ({"most_answers": 2}, "over 2 answers"),
        ({"most_events": 2}, "over 2 events"),
        ({"most_days": 9.0}, "has 10.0 days; at most 9"),
    ):
        with pytest.raises(InvalidRequestError, match=problem):
            attributed(store, **changes)
    with pytest.raises(InvalidRequestError, match="not before"):
        attributed(store, since=2, until=2)
    with pytest.raises(ValueError, match="scale"):
        OutcomeSettings(lowest_rating=5.0)


def test_an_empty_period(store: Store) -> None:
    store.append_events([event("1", "click", 5, "a", "r")])
    found = attributed(store)
    assert len(found.period.answers) == 0
    assert found.counted == 0
    assert found.uncounted["unknown_answer"] == 1


class _Memory:
    """A store of lists."""

    def __init__(self, answers: Sequence[ShownRecommendation], events: Sequence[Event]) -> None:
        self.answers = sorted(answers, key=lambda each: (each.timestamp, each.recommendation_id))
        self.events = events

    def answers_between(
        self, since: float, until: float, after: object = None, limit: int = 0
    ) -> list[ShownRecommendation]:
        return [each for each in self.answers if since <= each.timestamp < until]

    def heard_between(
        self, kinds: Sequence[str], since: float, until: float, after: object = None, limit: int = 0
    ) -> list[HeardEvent]:
        names = HeardEvent._fields[1:]
        rows = [
            HeardEvent(number, *(getattr(each, name) for name in names))
            for number, each in enumerate(self.events)
            if each.event in kinds and since <= each.timestamp < until
        ]
        return sorted(rows, key=lambda each: (each.timestamp, each.number))

    def count_answers(self, since: float, until: float, most: int) -> int:
        return min(len(self.answers_between(since, until)), most)

    def answer_times(self, ids: Sequence[str]) -> dict[str, float]:
        return {each.recommendation_id: each.timestamp for each in self.answers if each.recommendation_id in ids}

    def linked_users(self, session_ids: Sequence[str]) -> dict[str, str]:
        return {}

    def first_heard(self, user_ids: Sequence[str] = (), session_ids: Sequence[str] = ()) -> dict[str, int]:
        found: dict[str, int] = {}
        for each in self.events:
            if each.event in COUNTED_EVENTS and each.item_id and each.user_id in user_ids:
                found[each.user_id] = min(each.timestamp, found.get(each.user_id, each.timestamp))
        return found


def naive(memory: _Memory, since: float, until: float) -> dict[str, dict[str, Any]]:
    """Answer -> figures, one answer and one event at a time."""
    rows: dict[str, dict[str, Any]] = {}
    for shown in memory.answers:
        if not since <= shown.timestamp < until:
            continue
        seen: dict[str, set[str]] = {}
        said: dict[tuple[str, str], float] = {}
        seconds = 0.0
        reasons = Counter[str]()
        for each in sorted(memory.events, key=lambda given: given.timestamp):
            is_read = since <= each.timestamp < until + 7 * DAY
            if each.recommendation_id != shown.recommendation_id or not is_read:
                continue
            days = {"click": 1, "view": 1}.get(each.event, 7)
            if each.item_id not in {item.item_id for item in shown.items}:
                reasons["not_shown"] += 1
            elif each.timestamp < int(shown.timestamp):
                reasons["early"] += 1
            elif each.timestamp > int(shown.timestamp) + days * DAY:
                reasons["late"] += 1
            else:
                repeated = each.item_id in seen.get(each.event, set())
                reasons["repeated"] += repeated and each.event != "view"
                seen.setdefault(each.event, set()).add(each.item_id)
                if each.event == "view":
                    seconds += each.value or 0.0
                if each.event == "rating":
                    said.pop((each.item_id, "rating"), None)
                    if each.value is not None:
                        said[each.item_id, "rating"] = min(max((each.value - 1) / 4, 0), 1)
                if each.event in ("like", "hide"):
                    said[each.item_id, each.event] = float(each.event == "like")
        rows[shown.recommendation_id] = {
            "counts": {kind: len(items) for kind, items in seen.items()},
            "conversions": len(seen.get("click", set()) & seen.get("purchase", set())),
            "said": (len(said), sum(said.values())),
            "seconds": seconds,
            "reasons": reasons,
            "warm": any(
                each.event in COUNTED_EVENTS and each.user_id == shown.user_id and each.timestamp < int(shown.timestamp)
                for each in memory.events
            ),
        }
    return rows


_ITEMS = ["茶壺", "🫖", "c", "د"]
_ANSWERS = st.lists(
    st.tuples(st.integers(0, 4 * DAY), st.lists(st.sampled_from(_ITEMS), unique=True), st.sampled_from("uv")),
    max_size=6,
)
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["click", "purchase", "view", "rating", "like", "hide"]),
        st.one_of(st.integers(0, 12 * DAY), st.sampled_from([0, DAY, 7 * DAY])),
        st.sampled_from(_ITEMS),
        st.integers(0, 7),
        st.sampled_from([None, 0.5, 1.0, 3.0, 5.0]),
        st.sampled_from("uv"),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(_ANSWERS, _EVENTS)
def test_against_a_naive_program(answers: list[Any], events: list[Any]) -> None:
    memory = _Memory(
        [answer(f"r{place}", time + 0.5, items, user_id=user) for place, (time, items, user) in enumerate(answers)],
        [
            event(str(place), kind, time, item, f"r{number}", value=value, user_id=user)
            for place, (kind, time, item, number, value, user) in enumerate(events)
        ],
    )
    found = attributed(memory, since=DAY, until=3 * DAY)
    within = [each for each in memory.answers if START + DAY <= each.timestamp < START + 3 * DAY]
    expected = naive(memory, START + DAY, START + 3 * DAY)
    reasons = Counter[str]()
    for row, shown in enumerate(within):
        wanted = expected[shown.recommendation_id]
        counts = {kind: int(values[row]) for kind, values in found.counts.items() if values[row]}
        assert counts == wanted["counts"]
        assert found.conversions[row] == wanted["conversions"]
        assert found.opinions[row] == wanted["said"][0]
        np.testing.assert_allclose(found.satisfaction[row], wanted["said"][1])
        np.testing.assert_allclose(found.dwell[row], wanted["seconds"])
        assert found.period.answers.labels["history"].codes[row] == wanted["warm"]
        reasons += wanted["reasons"]
    assert {name: found.uncounted[name] for name in ("not_shown", "early", "late", "repeated")} == {
        name: reasons[name] for name in ("not_shown", "early", "late", "repeated")
    }
    during = [each for each in memory.events if START + DAY <= each.timestamp < START + 3 * DAY]
    known = {each.recommendation_id for each in memory.answers}
    named = Counter(
        "unknown_answer" if each.recommendation_id not in known else "other_answer"
        for each in during
        if each.recommendation_id not in expected
    )
    assert {name: found.uncounted[name] for name in ("unknown_answer", "other_answer")} == {
        name: named[name] for name in ("unknown_answer", "other_answer")
    }
