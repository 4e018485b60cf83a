"""Answers on their way to a store that fails."""

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.recommender import answer_log
from serving.service.recommender.answer_log import AnswerLog
from serving.service.store import InvalidError, UnavailableError
from serving.service.types import ShownRecommendation
from tests.serving.service.recommender.waiting import until


@dataclass
class _Store:
    """Takes what comes, without repeats; ``is_down`` and ``refused`` are its faults."""

    kept: dict[str, ShownRecommendation] = field(default_factory=dict)
    is_down: bool = False
    refused: set[str] = field(default_factory=set)
    most: int = 1_000
    calls: int = 0
    gate: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)

    def log_recommendations(self, shown: list[ShownRecommendation], erasures: str) -> None:
        self.calls += 1
        assert {each.query for each in shown} <= {erasures}
        if self.gate is not None:
            self.reached.set()
            assert self.gate.wait(20)
        if self.is_down:
            raise UnavailableError("disk full")
        if len(shown) > self.most or self.refused & {each.recommendation_id for each in shown}:
            raise InvalidError("no")
        self.kept |= {each.recommendation_id: each for each in shown}


def _shown(number: int) -> ShownRecommendation:
    return ShownRecommendation(recommendation_id=str(number), timestamp=float(number))


async def _flush(log: AnswerLog) -> None:
    with contextlib.suppress(UnavailableError):
        await log.flush()


@given(
    st.lists(st.integers(1, 9) | st.booleans() | st.none(), max_size=20), st.sets(st.integers(0, 60)), st.integers(1, 9)
)
def test_below_the_bound_nothing_is_lost_and_the_order_is_kept(
    steps: list[int | bool | None], refused: set[int], most: int
) -> None:
    """Steps: True and False switch the store off and on, None writes, a number adds so many answers."""

    async def run() -> None:
        store = _Store(refused={str(number) for number in refused}, most=most)
        log, added = AnswerLog(store, most=1_000), 0
        for step in steps:
            if isinstance(step, bool):
                store.is_down = step
            elif step is None:
                await _flush(log)
            else:
                for number in range(added, added + step):
                    log.add(_shown(number))
                added += step
        store.is_down = False
        await log.flush()
        expected = [number for number in range(added) if number not in refused]
        assert [int(each) for each in store.kept] == expected
        assert log.lost >= added - len(expected)

    asyncio.run(run())


def test_beyond_the_bound_the_newest_are_lost_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        store = _Store(is_down=True)
        log = AnswerLog(store, most=100)
        with caplog.at_level(logging.INFO):
            for number in range(1_000):
                log.add(_shown(number))
                if number % 100 == 0:
                    await _flush(log)
        assert log.lost == 900
        store.is_down = False
        await log.flush()
        assert [int(each) for each in store.kept] == list(range(100))

    asyncio.run(run())
    assert len(caplog.records) == 1


def test_answers_are_written_in_the_background_also_after_faults(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answer_log, "_PAUSE", 0.001)

    async def run() -> None:
        store = _Store(is_down=True)
        log = AnswerLog(store, seconds=0.0)
        task = asyncio.create_task(log.write_forever())
        log.add(_shown(1))
        await until(lambda: store.calls > 20)
        store.is_down = False
        log.add(_shown(2))
        await until(lambda: list(store.kept) == ["1", "2"])
        log.add(_shown(3))
        await until(lambda: "3" in store.kept)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_what_is_being_written_when_the_task_ends_is_written_at_the_end() -> None:
    async def run() -> None:
        store = _Store(gate=threading.Event())
        log = AnswerLog(store, seconds=0.0)
        task = asyncio.create_task(log.write_forever())
        log.add(_shown(1))
        assert await asyncio.to_thread(store.reached.wait, 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert store.gate is not None
        store.gate.set()
        await log.flush()
        assert list(store.kept) == ["1"]

    asyncio.run(run())


def test_answers_are_written_with_the_erasures_that_were_known_when_they_were_asked_for() -> None:
    async def run() -> None:
        store = _Store()
        log = AnswerLog(store)
        marks = ["", *["b"] * 1_500, "c", "b", *["c"] * 3]
        for number, mark in enumerate(marks):
            # The store checks that they fit.
            log.add(replace(_shown(number), query=mark), mark)
        await log.flush()
        assert [int(each) for each in store.kept] == list(range(len(marks)))
        assert store.calls == 6

    asyncio.run(run())
