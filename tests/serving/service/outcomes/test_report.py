"""Figures of a few answers, worked out by hand."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.service.errors import InvalidRequestError
from serving.service.outcomes import METRICS, OutcomeSettings, Report, attribute, read_period, report_of
from serving.service.store import Store, open_store
from tests.serving.service.outcomes.samples import DAY, START, answer, event


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        opened.log_recommendations(
            [
                answer("r1", 100, ["a", "b", "c"], user_id="민수", language="ko", country="KR", variant="new"),
                answer("r2", 200, ["a", "d"], user_id="민수", language="ko", country="KR"),
                answer("r3", 300, ["b"], user_id="سارة", language="ar", country="EG"),
                answer("r4", 2 * DAY, ["b", "e"], user_id="سارة", language="ar", country="EG"),
                answer("r5", 9 * DAY, ["🫖"], user_id="민수", language="ko", country="KR"),
                answer("r6", 9 * DAY + 1, [], user_id="ana", language="es", country="ES"),
            ]
        )
        ko: dict[str, Any] = {"user_id": "민수", "language": "ko", "country": "KR"}
        ar: dict[str, Any] = {"user_id": "سارة", "language": "ar", "country": "EG"}
        opened.append_events(
            [
                event("1", "click", 110, "a", "r1", **ko),
                event("2", "click", 120, "b", "r1", **ko),
                event("3", "purchase", 130, "b", "r1", value=9.5, **ko),
                event("4", "rating", 140, "b", "r1", value=5.0, **ko),
                event("5", "view", 150, "a", "r1", value=20.0, **ko),
                event("6", "view", 160, "b", "r1", value=40.0, **ko),
                event("7", "hide", 210, "d", "r2", **ko),
                event("8", "click", 310, "b", "r3", **ar),
                # Shown to others only, and shown too late.
                event("9", "click", 400, "c", "", **ar),
                event("10", "click", 2 * DAY - 5, "e", "", **ar),
                # Shown to this person before.
                event("11", "purchase", 3 * DAY, "e", "", **ar),
                event("12", "purchase", 4 * DAY, "b", "", **ar),
                event("13", "purchase", 5 * DAY, "c", "", **ko),
            ]
        )
        yield opened


def report(store: Store, *by: str, now: float = 30 * DAY, complete: bool = False, most: int = 100) -> Report:
    options = OutcomeSettings()
    found = attribute(read_period(store, START, START + 10 * DAY, START + now, options), options)
    return report_of(found, by, 10, options, complete=complete, most_slices=most)


def values(metrics: Any) -> dict[str, float | None]:
    return {name: metrics[name].value for name in METRICS}


def test_all_answers(store: Store) -> None:
    found = report(store)
    # Shares of the takes of different people, with one more for each item: a, b (2 people), c (2), d, e, the teapot.
    information = -np.log2(np.array([2, 3, 3, 1, 2, 1]) / 12)
    shown = [*information[[0, 1, 2]], *information[[0, 3]], information[1], *information[[1, 4]], information[5]]
    assert values(found.all.metrics) == {
        "ctr": 3 / 9,
        "clicked_answers": 2 / 5,
        "purchases": 1 / 5,
        "conversion": 1 / 3,
        "satisfaction": 0.5,
        "dwell": 30.0,
        "novelty": pytest.approx(float(np.mean(shown))),
        # 민수 came again on the ninth day after the first, سارة on the second.
        "return": 1 / 2,
        # 민수: a, b, and c, which had been shown; سارة: b; c and e were taken first when they had not been shown.
        "recall": 4 / 6,
        "coverage": 0.6,
    }
    assert (found.all.answers, found.all.people, found.slices) == (6, 3, ())
    assert all(each.low is None and each.why for each in found.all.metrics.values())
    assert found.events == 8
    assert found.uncounted["no_answer"] == 5
    assert set(found.open.values()) == {0.0}


def test_slices(store: Store) -> None:
    found = report(store, "language", "variant")
    labels = [tuple(each.labels.values()) for each in found.slices]
    assert labels == [("ar", ""), ("es", ""), ("ko", ""), ("ko", "new")]
    assert [each.metrics["ctr"].value for each in found.slices] == [1 / 3, None, 0.0, 2 / 3]
    assert [each.metrics["coverage"].value for each in found.slices] == [0.2, 0.0, 0.3, 0.3]
    assert found.slices[0].metrics["recall"].why == "what people take elsewhere has no variant"
    found = report(store, "country")
    assert [each.metrics["recall"].value for each in found.slices] == [1 / 3, None, 1.0]
    assert [each.metrics["return"].value for each in found.slices] == [1.0, None, 0.0]
    found = report(store, "day")
    assert [each.labels["day"] for each in found.slices] == ["2024-10-04", "2024-10-06", "2024-10-13"]
    # 민수 on the fifth day and سارة on the third took things elsewhere, on days without answers.
    assert [each.metrics["recall"].value for each in found.slices] == [3 / 4, None, None]
    found = report(store, "history")
    assert {each.labels["history"]: each.answers for each in found.slices} == {"cold": 3, "warm": 3}


def test_the_smallest_slices_are_one(store: Store) -> None:
    found = report(store, "language", most=1)
    assert [(each.labels, each.rest, each.answers) for each in found.slices] == [
        ({"language": "ko"}, False, 3),
        ({}, True, 3),
    ]
    assert found.slices[1].metrics["ctr"].value == 1 / 3
    assert found.slices[1].metrics["recall"].value == 1 / 3


def test_answers_that_are_not_complete(store: Store) -> None:
    found = report(store, now=2 * DAY + 100, complete=True)
    # Of the first day's three answers all clicks have come, but not all purchases.
    assert found.all.metrics["ctr"].value == 3 / 6
    assert found.all.metrics["purchases"].value is None
    assert found.open == {
        "ctr": 0.5,
        "clicked_answers": 0.5,
        "purchases": 1.0,
        "conversion": 1.0,
        "satisfaction": 1.0,
        "dwell": 0.5,
    }


def test_nothing_at_all(url: str) -> None:
    with open_store(url) as empty:
        found = report(empty, "language")
        assert found.slices == []
        assert {name for name, value in values(found.all.metrics).items() if value is not None} == {"coverage"}


def test_columns_that_are_not_there(store: Store) -> None:
    for by, problem in ((["langage"], "langage"), (["day", "day"], "different"), (["a"] * 4, "Remedy")):
        with pytest.raises(InvalidRequestError, match=problem):
            report(store, *by)
    with pytest.raises(InvalidRequestError, match="up to 3"):
        report(store, "day", "language", "country", "version")
