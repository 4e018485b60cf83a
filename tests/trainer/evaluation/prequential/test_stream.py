"""Requests of a window and their answers: nothing later than a request's moment is known to it."""

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from tests.trainer.evaluation.prequential import streams
from tests.trainer.evaluation.prequential.streams import RULES, Event
from trainer.data.requests import Requests
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.prequential.stream import Questions, Stream
from trainer.evaluation.prequential.windows import Window, cut
from trainer.evaluation.settings import PrequentialConfig
from trainer.models.ranker import CatalogueRanker

_K = 4


class _InOrder:
    """Recommends the allowed items outside the history, last rows first."""

    def __init__(self, allowed: npt.NDArray[np.bool_] | None = None) -> None:
        self._allowed = allowed

    def restricted(self, allowed: npt.NDArray[np.bool_]) -> "_InOrder":
        return _InOrder(allowed)

    def rank(self, requests: Requests, k: int) -> npt.NDArray[np.int64]:
        assert self._allowed is not None
        answers = np.full((len(requests), k), -1, np.int64)
        for place in range(len(requests)):
            history = set(requests.histories.of_user(place).tolist())
            found = [row for row in np.flatnonzero(self._allowed)[::-1].tolist() if row not in history][:k]
            answers[place, : len(found)] = found
        return answers


def _vocabulary() -> Vocabulary:
    return Vocabulary(
        users=["사용자1", "사용자4"],
        items=[],
        categories=[],
        query_values={"language": [], "country": ["KR", "US"]},
        numeric={},
        embeddings={},
        events=[],
    )


def _answers(stream: Stream, questions: Questions) -> npt.NDArray[np.int64]:
    return stream.rank(cast(CatalogueRanker, _InOrder()), questions, _vocabulary(), _K)


@pytest.fixture
def events() -> list[Event]:
    return streams.events_of(3)


@pytest.fixture
def stream(events: list[Event], tmp_path: Path) -> Stream:
    return Stream(streams.write(tmp_path / "data", events), RULES)


@pytest.fixture
def windows(events: list[Event], tmp_path: Path) -> list[Window]:
    return cut(streams.write(tmp_path / "again", events), PrequentialConfig(windows=4))


def test_every_first_positive_is_asked_with_what_was_known(
    events: list[Event], stream: Stream, windows: list[Window]
) -> None:
    items = stream.catalogue.item_ids
    for window in windows:
        questions = stream.questions(window, None, 0)
        expected = [each for each in streams.positives_in_order(events) if window.begin <= each.moment < window.end]
        asked = list(zip(questions.events["user_id"], questions.events["item_id"], questions.moments, strict=True))
        assert asked == [(each.user, each.item, each.moment) for each in expected]
        assert [items[row] for row in questions.targets] == [each.item for each in expected]
        assert [stream.user_ids[user] for user in questions.users] == [each.user for each in expected]
        answers = _answers(stream, questions)
        for place, each in enumerate(expected):
            before = streams.history(events, each.user, each.moment)
            found = questions.histories.of_user(place)
            assert {items[row] for row in found} == before
            assert len(found) == len(before)
            assert each.item not in before
            there = sorted(streams.known(events, each.moment) - before, reverse=True)[:_K]
            assert [items[row] for row in answers[place] if row >= 0] == there


def test_histories_are_in_the_order_of_time(events: list[Event], stream: Stream, windows: list[Window]) -> None:
    moments = {(each.user, each.item): each.moment for each in streams.positives_in_order(events)}
    questions = stream.questions(windows[-1], None, 0)
    for place, user in enumerate(questions.events["user_id"]):
        times = [moments[user, stream.catalogue.item_ids[row]] for row in questions.histories.of_user(place)]
        assert times == sorted(times)


@pytest.mark.parametrize("change", ["removed", "given to others", "of other items"])
def test_no_later_event_is_seen(events: list[Event], stream: Stream, tmp_path: Path, change: str) -> None:
    moment = 1_060
    earlier, later = ([e for e in events if e.moment <= moment], [e for e in events if e.moment > moment])
    if change == "given to others":
        later = [each._replace(user=f"사용자{place % 9}") for place, each in enumerate(later)]
    if change == "of other items":
        later = [each._replace(item="never", event="purchase") for each in later]
    other = Stream(streams.write(tmp_path / "other", earlier + (later if change != "removed" else [])), RULES)
    window = Window(1, 1_020, 1_040, moment + 1)
    ours, theirs = (each.questions(window, None, 0) for each in (stream, other))
    assert ours.events.drop("user").equals(theirs.events.drop("user"))
    assert ours.histories.items.tolist() == theirs.histories.items.tolist()
    assert _answers(stream, ours).tolist() == _answers(other, theirs).tolist()
    popular = [
        each.rank_popular(asked, each.popularity(window), _K).tolist()
        for each, asked in ((stream, ours), (other, theirs))
    ]
    assert popular[0] == popular[1]


@pytest.mark.parametrize("late", [1_040, 1_050])
def test_an_event_moved_before_a_request_is_seen(events: list[Event], tmp_path: Path, late: int) -> None:
    """The test above would fail if one later event were seen: one moved to an earlier moment is."""
    window = Window(1, 1_020, 1_040, 1_061)
    new = Event("사용자1", "never", 1_070, "purchase", None)
    answers = []
    for number, each in enumerate((new, new._replace(moment=late))):
        found = Stream(streams.write(tmp_path / f"{number}", [*events, each]), RULES)
        questions = found.questions(window, None, 0)
        kept = [place for place, item in enumerate(questions.events["item_id"]) if item != "never"]
        answers.append(_answers(found, questions)[kept].tolist())
    assert answers[0] != answers[1]


def test_popularity_is_that_of_the_window_before(events: list[Event], stream: Stream, windows: list[Window]) -> None:
    items = stream.catalogue.item_ids
    for window in windows:
        questions = stream.questions(window, None, 0)
        counts = dict.fromkeys(items, 0)
        for each in streams.positives_in_order(events):
            counts[each.item] += window.previous <= each.moment < window.begin
        answers = stream.rank_popular(questions, stream.popularity(window), _K)
        for place, (user, moment) in enumerate(zip(questions.events["user_id"], questions.moments, strict=True)):
            left = streams.known(events, moment) - streams.history(events, user, moment)
            expected = sorted(left, key=lambda item: (-counts[item], item))[:_K]
            assert [items[row] for row in answers[place] if row >= 0] == expected


def test_models_know_users_and_profiles_by_their_vocabulary(stream: Stream, windows: list[Window]) -> None:
    questions = stream.questions(windows[1], None, 0)
    requests = stream.requests(questions, _vocabulary())
    index = {"사용자1": 1, "사용자4": 2}
    assert requests.users.tolist() == [index.get(user, 0) for user in questions.events["user_id"]]
    assert set(requests.features["country"].tolist()) == {1}
    assert requests.timestamps.tolist() == questions.moments.tolist()


def test_a_sample_is_seeded_and_in_order(stream: Stream, windows: list[Window]) -> None:
    every = stream.questions(windows[2], None, 5)
    some = stream.questions(windows[2], 7, 5)
    assert len(some) == 7
    assert some.moments.tolist() == sorted(some.moments)
    assert some.events.join(every.events, on=["user_id", "item_id", "timestamp"], how="anti").is_empty()
    assert stream.questions(windows[2], 7, 5).events.equals(some.events)
    assert not stream.questions(windows[2], 7, 6).events.equals(some.events)


def test_nothing_to_ask(events: list[Event], stream: Stream, tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"Window 2 from 1970-01-01 has no positive. Use fewer windows"):
        stream.questions(Window(2, 0, 2, 4), None, 0)
    with pytest.raises(BabelrecError, match=r"No event of 흐름 is positive under data\.positives"):
        Stream(streams.write(tmp_path / "none", events), {"click": None})
