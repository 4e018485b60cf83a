"""Reading in a process of its own: the same as here, and no error is lost."""

import asyncio
import multiprocessing
import os
import time

import numpy as np
import pytest

from serving.service.errors import InvalidRequestError
from serving.service.outcomes import OutcomeSettings
from serving.service.rollout.apart import Apart
from serving.service.rollout.observing import observe
from serving.service.store import Rollout, RolloutState, StoreError, open_store
from serving.service.types import ShownItem, ShownRecommendation


def _filled(url: str) -> Rollout:
    with open_store(url) as store:
        rollout = store.start_rollout("모델", 1, 2, "job")
        rollout = store.change_rollout(rollout, RolloutState.RUNNING, "service", "", share=0.5)
        store.log_recommendations(
            [
                ShownRecommendation(
                    recommendation_id=f"r{number}",
                    timestamp=time.time(),
                    user_id=f"👩 {number % 7}",
                    session_id="",
                    placement="",
                    language="ar",
                    country="",
                    query="",
                    model_version=1 + number % 2,
                    variant=("stable", "canary")[number % 2],
                    degraded=False,
                    items=[ShownItem(item_id="p", score=1.0)],
                )
                for number in range(40)
            ]
        )
    return rollout


def test_the_same_as_in_this_process(url: str) -> None:
    rollout, now = _filled(url), time.time() + 5
    found = asyncio.run(Apart(url, OutcomeSettings())(rollout, now))
    with open_store(url) as store:
        expected = observe(store, rollout, now, OutcomeSettings())
    assert (found.answers, found.canary_answers, found.failures) == (40, 20, 0)
    for name, sums in expected.sums.items():
        np.testing.assert_array_equal(found.sums[name], sums)
    np.testing.assert_array_equal(found.arms.person, expected.arms.person)
    assert not multiprocessing.active_children()


def test_errors_come_back(sqlite: str) -> None:
    rollout, now = _filled(sqlite), time.time() + 5
    with pytest.raises(InvalidRequestError, match="over 10 answers"):
        asyncio.run(Apart(sqlite, OutcomeSettings(most_answers=10))(rollout, now))
    with pytest.raises(StoreError):
        asyncio.run(Apart("sqlite:////absent/folder/store.db", OutcomeSettings())(rollout, now))
    with pytest.raises(StoreError, match="within 0 s"):
        asyncio.run(Apart(sqlite, OutcomeSettings(), most_seconds=0.0)(rollout, now))
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_an_error(sqlite: str) -> None:
    rollout = _filled(sqlite)

    async def run() -> None:
        task = asyncio.create_task(Apart(sqlite, OutcomeSettings())(rollout, time.time()))
        while not multiprocessing.active_children():
            await asyncio.sleep(0.001)
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, 9)
        with pytest.raises(StoreError, match="has died"):
            await task

    asyncio.run(run())


def test_a_service_that_stops_does_not_wait(sqlite: str) -> None:
    rollout = _filled(sqlite)

    async def run() -> None:
        task = asyncio.create_task(Apart(sqlite, OutcomeSettings())(rollout, time.time()))
        while not multiprocessing.active_children():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not multiprocessing.active_children()

    asyncio.run(run())
