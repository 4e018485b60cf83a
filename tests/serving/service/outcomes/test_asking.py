"""One question at a time, in a process of its own, and in the background."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.service.api.gauges import OutcomeGauges
from serving.service.errors import InvalidRequestError, UnavailableError
from serving.service.outcomes import Apart, Computation, Outcomes, OutcomeSettings, Report, Watcher
from serving.service.store import Store, StoreError, open_store
from tests.serving.service.outcomes.samples import DAY, START, answer, event
from tests.serving.service.recommender.waiting import until

SETTINGS = OutcomeSettings()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        opened.log_recommendations([answer(f"r{number}", number, ["茶壺", "🫖"]) for number in range(3)])
        opened.append_events([event("1", "click", 5, "🫖", "r1")])
        yield opened


@pytest.fixture
def apart(store: Store, url: str) -> Iterator[Apart]:
    made = Apart(url, OutcomeSettings(most_answers=5))
    yield made
    made.close()


def ask(outcomes: Outcomes, days: int = 1, *by: str) -> Report:
    return outcomes.report(START, START + days * DAY, by)


def test_one_question_is_answered_at_a_time(store: Store) -> None:
    reads = 0
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        """The store, which waits as it is read."""

        def heard_between(self, *arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            entered.set()
            assert go_on.wait(60)
            return store.heard_between(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    outcomes = Outcomes(Computation(Slow(), SETTINGS), SETTINGS, wait_seconds=0.01)
    thread = threading.Thread(target=ask, args=(outcomes,))
    thread.start()
    assert entered.wait(60)
    with pytest.raises(UnavailableError, match="Remedy"):
        ask(outcomes)
    go_on.set()
    thread.join()
    # The same question, and another one about the same period, read nothing.
    assert ask(outcomes) is ask(outcomes)
    assert len(ask(outcomes, 1, "language").slices) == 1
    assert reads == 1
    ask(outcomes, 2)
    assert reads == 2


def test_another_process_computes_the_same(store: Store, apart: Apart) -> None:
    here = ask(Outcomes(Computation(store, SETTINGS), SETTINGS), 1, "language")
    outcomes = Outcomes(apart, SETTINGS)
    there = ask(outcomes, 1, "language")
    assert there.now >= here.now
    assert (there.all, there.slices, there.uncounted) == (here.all, here.slices, here.uncounted)
    assert there.all.metrics["ctr"].value == 1 / 6
    first = apart.process_id
    assert {each.name for each in outcomes.drift(START, START + 1, START + 1, START + 2).changes} >= {"language"}
    assert apart.process_id == first != os.getpid()
    # What it refuses is an answer.
    store.log_recommendations([answer(f"more{number}", number, []) for number in range(3)])
    with pytest.raises(InvalidRequestError, match="over 5 answers"):
        ask(outcomes, 2)
    assert apart.process_id == first


def test_a_process_that_dies_is_replaced(apart: Apart) -> None:
    outcomes = Outcomes(apart, SETTINGS, kept_seconds=0.0)
    ask(outcomes)
    first = apart.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    # The question meets it or comes after it.
    try:
        ask(outcomes)
    except UnavailableError as error:
        assert "Remedy" in str(error)  # noqa: PT017
    assert ask(outcomes).all.answers == 3
    assert apart.process_id not in (first, None)
    # Ctrl+C is not for it.
    os.kill(apart.process_id or 0, signal.SIGINT)
    assert ask(outcomes).all.answers == 3
    apart.close()
    assert apart.process_id is None
    with pytest.raises(UnavailableError, match="about to stop"):
        ask(outcomes)


def test_a_process_that_takes_too_long_is_ended(store: Store, url: str) -> None:
    apart = Apart(url, SETTINGS, most_seconds=0.0)
    with pytest.raises(UnavailableError, match="can't be computed now"):
        ask(Outcomes(apart, SETTINGS))
    assert apart.process_id is None


def test_a_store_that_is_out_of_reach(tmp_path: Path) -> None:
    apart = Apart(f"sqlite:///{tmp_path / 'none' / 'store.db'}", SETTINGS)
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="none"):
                ask(Outcomes(apart, SETTINGS))
    finally:
        apart.close()


def test_old_figures_disappear(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """When they can't be computed any more; they come back with the next ones."""
    computation, away = Computation(store, SETTINGS), threading.Event()

    def report(question: Any) -> Report:
        if away.is_set():
            raise StoreError("The store is away.")
        return computation.report(question)

    computer = mock.Mock(report=report)
    watcher = Watcher(Outcomes(computer, SETTINGS, kept_seconds=0.0), hours=1.0, seconds=0.001)
    registry = CollectorRegistry()
    registry.register(OutcomeGauges(watcher))

    async def watch() -> None:
        task = asyncio.create_task(watcher.run_forever())
        await until(lambda: b"babelrec_service_outcome_made_seconds 1" in generate_latest(registry))
        away.set()
        await until(lambda: watcher.report is None)
        away.clear()
        await until(lambda: watcher.report is not None)
        task.cancel()

    asyncio.run(watch())
    assert "There are no figures of outcomes: The store is away." in caplog.text
    watcher.report = None
    assert not [line for line in generate_latest(registry).splitlines() if not line.startswith(b"#")]
