"""Reads a period from the store."""

import datetime
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np

from serving.service.errors import InvalidRequestError
from serving.service.outcomes.columns import (
    KINDS,
    NO_ANSWER,
    OTHER_PERIOD,
    UNKNOWN,
    Answers,
    Coder,
    Codes,
    Floats,
    Heard,
    Labels,
)
from serving.service.outcomes.settings import DAY_SECONDS, OutcomeSettings
from serving.service.store import HeardEvent
from serving.service.types import ShownRecommendation

_ANSWERS: Final = 1_000
_EVENTS: Final = 10_000
_SESSION: Final = "session:"
_Row = TypeVar("_Row")
_Key = TypeVar("_Key")


class OutcomeStore(Protocol):
    """Where answers and events are; `serving.service.store.Store` documents the methods."""

    def answers_between(
        self, since: float, until: float, after: tuple[float, str] | None = None, limit: int = 1_000
    ) -> list[ShownRecommendation]:
        """A page of answers."""
        ...

    def count_answers(self, since: float, until: float, most: int) -> int:
        """Their number, if it is less than ``most``."""
        ...

    def heard_between(
        self,
        kinds: Sequence[str],
        since: float,
        until: float,
        after: tuple[int, int] | None = None,
        limit: int = 10_000,
    ) -> list[HeardEvent]:
        """A page of events."""
        ...

    def answer_times(self, recommendation_ids: Sequence[str]) -> dict[str, float]:
        """Times of answers that are there."""
        ...

    def linked_users(self, session_ids: Sequence[str]) -> dict[str, str]:
        """Users of sessions."""
        ...

    def first_heard(self, user_ids: Sequence[str] = (), session_ids: Sequence[str] = ()) -> dict[str, int]:
        """When histories begin."""
        ...

    def item_languages(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Languages of items in the catalogue."""
        ...

    def count_items(self) -> int:
        """Size of the catalogue."""
        ...


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Period:
    """What the store has of a period.

    Attributes:
        since, until: Unix seconds: the answers are those of ``since <= timestamp < until``.
        now: When it was read: what is later has not happened yet.
        answers: The answers.
        heard: Events from ``since`` until the last answer's windows have ended.
    """

    since: float
    until: float
    now: float
    answers: Answers
    heard: Heard


def read_period(store: OutcomeStore, since: float, until: float, now: float, settings: OutcomeSettings) -> Period:
    """Reads answers and the events after them, page by page.

    Raises:
        InvalidRequestError: the period is empty, too long, or has more answers or events than the settings allow.
        StoreError: the store can't.
    """
    check_period(since, until, settings)
    if store.count_answers(since, until, settings.most_answers + 1) > settings.most_answers:
        raise _too_many("answers", settings.most_answers)
    reader = _Reader(store)
    reader.read_answers(since, until)
    reader.read_events(since, until, settings)
    answers, heard = reader.columns()
    return Period(since=since, until=until, now=now, answers=answers, heard=heard)


def check_period(since: float, until: float, settings: OutcomeSettings) -> None:
    """Refuses a period that is empty or too long."""
    if not since < until:
        raise InvalidRequestError(f"`since` ({since:.0f}) is not before `until` ({until:.0f}). Remedy: exchange them.")
    if until - since > settings.most_days * DAY_SECONDS:
        raise InvalidRequestError(
            f"The period has {(until - since) / DAY_SECONDS:.1f} days; at most {settings.most_days:g}. "
            "Remedy: ask for a shorter one."
        )


class _Reader:
    """Collects columns while pages come."""

    def __init__(self, store: OutcomeStore) -> None:
        self._store = store
        self._rows: dict[str, int] = {}
        self._people, self._items = Coder(), Coder()
        self._person, self._item, self._score = array("i"), array("i"), array("f")
        self._timestamp, self._shown, self._degraded = array("d"), array("i"), array("b")
        self._labels = {name: (Coder(), array("i")) for name in ("version", "variant", "placement")}
        self._labels |= {name: (Coder(), array("i")) for name in ("language", "country", "day")}
        self._events: dict[str, array[int] | array[float]] = {
            name: array("q") for name in ("kind", "timestamp", "person", "item", "answer")
        }
        self._value = array("d")
        self._places = {name: (Coder(), array("i")) for name in ("language", "country")}
        self._others: dict[str, list[int]] = {}

    def read_answers(self, since: float, until: float) -> None:
        """All pages of answers."""
        for page in _pages(
            lambda after: self._store.answers_between(since, until, after, _ANSWERS),
            lambda last: (last.timestamp, last.recommendation_id),
            _ANSWERS,
        ):
            for each in page:
                self._add(each)

    def _add(self, answer: ShownRecommendation) -> None:
        self._rows[answer.recommendation_id] = len(self._rows)
        self._timestamp.append(answer.timestamp)
        # Without both ids nobody can come back: each such answer is somebody else's. No session's id has the zero.
        session = answer.session_id or f"\0{answer.recommendation_id}"
        self._person.append(self._people.code(answer.user_id or f"{_SESSION}{session}"))
        self._degraded.append(answer.degraded)
        texts = {
            "version": str(answer.model_version),
            "variant": answer.variant,
            "placement": answer.placement,
            "language": answer.language,
            "country": answer.country,
            "day": datetime.datetime.fromtimestamp(answer.timestamp, datetime.UTC).date().isoformat(),
        }
        for name, text in texts.items():
            coder, codes = self._labels[name]
            codes.append(coder.code(text))
        self._shown.append(len(answer.items))
        for item in answer.items:
            self._item.append(self._items.code(item.item_id))
            self._score.append(item.score)

    def read_events(self, since: float, until: float, settings: OutcomeSettings) -> None:
        """All pages of events, and which of the answers that they name there are."""
        end = until + settings.longest_window
        for page in _pages(
            lambda after: self._store.heard_between(KINDS, since, end, after, _EVENTS),
            lambda last: (last.timestamp, last.number),
            _EVENTS,
        ):
            for each in page:
                self._hear(each, until)
            if len(self._value) > settings.most_events:
                raise _too_many("events", settings.most_events)
        known = self._store.answer_times(sorted(self._others))
        answer = self._events["answer"]
        for recommendation_id, places in self._others.items():
            if recommendation_id not in known:
                for place in places:
                    answer[place] = UNKNOWN

    def _hear(self, event: HeardEvent, until: float) -> None:
        named = event.recommendation_id
        row = self._rows.get(named, OTHER_PERIOD) if named else NO_ANSWER
        if row == OTHER_PERIOD and event.timestamp < until:
            self._others.setdefault(named, []).append(len(self._value))
        columns = self._events
        columns["kind"].append(KINDS.index(event.event))
        columns["timestamp"].append(event.timestamp)
        columns["person"].append(self._people.code(event.user_id or f"{_SESSION}{event.session_id}"))
        columns["item"].append(self._items.code(event.item_id) if event.item_id else -1)
        columns["answer"].append(row)
        self._value.append(np.nan if event.value is None else event.value)
        for name, text in (("language", event.language), ("country", event.country)):
            coder, codes = self._places[name]
            codes.append(coder.code(text))

    def columns(self) -> tuple[Answers, Heard]:
        """What was read; sessions that somebody has logged in with are that user's."""
        people, place = self._merged()
        person = place[np.array(self._person, np.int32)]
        timestamp = np.array(self._timestamp, np.float64)
        labels = {name: Labels(np.array(codes, np.int32), coder.texts) for name, (coder, codes) in self._labels.items()}
        first = self._first_heard(people, person)
        # Events have whole seconds: one of the answer's own is taken for a later one, as a click at once is.
        labels["history"] = Labels((first[person] < np.floor(timestamp)).astype(np.int32), ("cold", "warm"))
        answers = Answers(
            timestamp=timestamp,
            person=person,
            labels=labels,
            degraded=np.array(self._degraded, np.bool_),
            start=np.concatenate([[0], np.cumsum(np.array(self._shown, np.int64))]),
            item=np.array(self._item, np.int32),
            score=np.array(self._score, np.float32),
            people=people,
            items=self._items.texts,
        )
        heard = Heard(
            kind=np.array(self._events["kind"], np.int8),
            timestamp=np.array(self._events["timestamp"], np.int64),
            person=place[np.array(self._events["person"], np.int32)],
            item=np.array(self._events["item"], np.int32),
            answer=np.array(self._events["answer"], np.int32),
            value=np.array(self._value, np.float64),
            **{name: Labels(np.array(codes, np.int32), coder.texts) for name, (coder, codes) in self._places.items()},
        )
        return answers, heard

    def _merged(self) -> tuple[list[str], Codes]:
        """People, and the place of each one that was read among them."""
        sessions = [each.removeprefix(_SESSION) for each in self._people.texts if _is_session(each)]
        users = {f"{_SESSION}{session}": user for session, user in self._store.linked_users(sessions).items()}
        merged = Coder()
        places = [merged.code(users.get(each, each)) for each in self._people.texts]
        return merged.texts, np.array(places, np.int32)

    def _first_heard(self, people: Sequence[str], person: Codes) -> Floats:
        """When each person's history begins; infinite: those without one, or without answers."""
        asked = [people[place] for place in np.unique(person)]
        sessions = [each.removeprefix(_SESSION) for each in asked if _is_session(each)]
        times: Mapping[str, int] = self._store.first_heard([each for each in asked if not each.startswith(_SESSION)])
        anonymous = self._store.first_heard(session_ids=sessions)
        times = {**times, **{f"{_SESSION}{each}": time for each, time in anonymous.items()}}
        return np.array([times.get(each, np.inf) for each in people], np.float64)


def _is_session(person: str) -> bool:
    return person.startswith(_SESSION) and not person.startswith(f"{_SESSION}\0")


def _pages(read: Callable[[_Key | None], list[_Row]], key: Callable[[_Row], _Key], size: int) -> Iterator[list[_Row]]:
    after: _Key | None = None
    while page := read(after):
        yield page
        if len(page) < size:
            return
        after = key(page[-1])


def _too_many(what: str, most: int) -> InvalidRequestError:
    return InvalidRequestError(f"The period has over {most:,} {what}. Remedy: ask for a shorter one.")
