"""The controller on real stores: what it reads, when it decides, and that it does so once."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from serving.service.outcomes import OutcomeSettings
from serving.service.rollout.assignment import CANARY, STABLE, place
from serving.service.rollout.controller import Controller, outcome_settings
from serving.service.rollout.deciding import Observed
from serving.service.rollout.observing import observe
from serving.service.rollout.settings import RolloutSettings
from serving.service.store import Rollout, RolloutState, Store, open_store
from serving.service.types import Event, ShownItem, ShownRecommendation

_MODEL = "추천"
_SETTINGS = RolloutSettings(shares=(0.2, 0.3), least_people=30, look_seconds=0.0)
_ITEMS = [ShownItem(item_id=f"p{n}", score=1.0) for n in range(10)]


def _running(store: Store, share: float = 0.2) -> Rollout:
    rollout = store.start_rollout(_MODEL, 1, 2, "job")
    return store.change_rollout(rollout, RolloutState.RUNNING, "service", "", share=share)


def _answer(number: int, user: str, variant: str, **fields: object) -> ShownRecommendation:
    version = {CANARY: 2, STABLE: 1, "": 1}[variant]
    values = {"timestamp": time.time(), "model_version": version, "variant": variant, "degraded": False}
    values |= {"session_id": f"s {user}", "placement": "home", "language": "ko", "country": "KR", "query": ""}
    values |= {"items": _ITEMS} | fields
    return ShownRecommendation(recommendation_id=f"r{number}", user_id=user, **values)  # type: ignore[arg-type]


def _event(answer: ShownRecommendation, kind: str, item: int, value: float | None = None) -> Event:
    return Event(
        event_id=f"{answer.recommendation_id} {kind} {item}",
        event=kind,
        timestamp=int(time.time()) + 1,
        user_id=answer.user_id,
        session_id=answer.session_id,
        item_id=f"p{item}",
        value=value,
        recommendation_id=answer.recommendation_id,
    )


def _traffic(store: Store, rollout: Rollout, people: int, clicks: tuple[float, float], *, fails: bool = False) -> None:
    """Two answers for each person, with as many clicks as drawn for the stable version and for the canary."""
    random = np.random.default_rng(1)
    answers, events = [], []
    for number in range(people):
        user = f"사람 {number}"
        where = place(f"{_MODEL}\0{rollout.number}", user, "")
        assert where is not None
        is_canary = where < rollout.share
        for each in (2 * number, 2 * number + 1):
            version = {"model_version": 1} if fails and is_canary else {}
            answers.append(_answer(each, user, CANARY if is_canary else STABLE, **version))
            clicked = random.random(10) < clicks[is_canary]
            events += [_event(answers[-1], "click", int(item)) for item in np.flatnonzero(clicked)]
    store.log_recommendations(answers)
    store.append_events(events)


def _look(controllers: Sequence[Controller]) -> None:
    async def run() -> None:
        await asyncio.gather(*(each.look() for each in controllers))

    asyncio.run(run())


def _controller(store: Store, settings: RolloutSettings = _SETTINGS, *, ready: bool = True) -> Controller:
    async def observe_here(rollout: Rollout, now: float) -> Observed:
        return await asyncio.to_thread(observe, store, rollout, now, outcome_settings(settings, OutcomeSettings()))

    return Controller(store, _MODEL, settings, observe_here, lambda: ready)


def test_sums_are_those_of_people_in_their_arms(url: str) -> None:
    with open_store(url) as store:
        rollout = _running(store)
        shown = [
            _answer(0, "안나", CANARY),
            _answer(1, "안나", CANARY, model_version=1),
            _answer(2, "버나드", STABLE),
            _answer(3, "버나드", STABLE, items=_ITEMS[:5]),
            _answer(4, "", ""),
            _answer(5, "차차", CANARY, model_version=0, degraded=True),
        ]
        store.log_recommendations(shown)
        store.append_events(
            [
                _event(shown[0], "click", 3),
                _event(shown[0], "purchase", 3),
                _event(shown[1], "click", 4),
                _event(shown[2], "like", 1),
                _event(shown[2], "hide", 2),
                _event(shown[4], "click", 1),
            ]
        )
        found = observe(store, rollout, time.time() + 5, OutcomeSettings())
    rows = {
        (bool(canary), *(float(values[row]) for pair in found.sums.values() for values in pair))
        for row, canary in enumerate(found.arms.is_canary)
    }
    # clicks / shown, purchases / answers, satisfaction / opinions
    assert rows == {(True, 2, 20, 1, 2, 0, 0), (False, 0, 15, 0, 2, 1, 2), (True, 0, 10, 0, 1, 0, 0)}
    # The one by popular items is nobody's fault: the stable version was away as well.
    assert (found.answers, found.canary_answers, found.failures) == (5, 3, 1)
    assert not found.arms.stage.any()


def test_answers_belong_to_the_stage_of_their_time(url: str) -> None:
    with open_store(url) as store:
        rollout = _running(store)
        store.log_recommendations([_answer(0, "안나", STABLE)])
        rollout = store.change_rollout(rollout, RolloutState.RUNNING, "service", "", share=0.5)
        store.log_recommendations([_answer(1, "안나", CANARY), _answer(2, "안나", CANARY)])
        found = observe(store, rollout, time.time() + 5, OutcomeSettings())
    rows = zip(found.arms.stage.tolist(), found.arms.is_canary.tolist(), found.sums["purchases"][1], strict=True)
    assert set(rows) == {(0, False, 1.0), (1, True, 2.0)}
    assert len(set(found.arms.person.tolist())) == 1


def test_it_begins_when_the_canary_is_ready(store: Store) -> None:
    store.start_rollout(_MODEL, 1, 2, "job")
    _look([_controller(store, ready=False)])
    assert store.rollout(1).state is RolloutState.WAITING
    _look([_controller(store)])
    assert (store.rollout(1).state, store.rollout(1).share) == (RolloutState.RUNNING, 0.2)


@pytest.mark.parametrize(
    ("clicks", "fails", "state", "share", "reason"),
    [
        ((0.2, 0.05), False, RolloutState.ROLLED_BACK, 0.0, "is worse: ctr"),
        ((0.05, 0.2), False, RolloutState.PROMOTED, 1.0, "is better: ctr"),
        ((0.2, 0.2), False, RolloutState.RUNNING, 0.3, "no great loss"),
        ((0.2, 0.2), True, RolloutState.ROLLED_BACK, 0.0, "failed in"),
    ],
)
def test_what_is_decided(
    url: str, clicks: tuple[float, float], fails: bool, state: RolloutState, share: float, reason: str
) -> None:
    with open_store(url) as one, open_store(url) as two:
        rollout = _running(one)
        _traffic(one, rollout, 400, clicks, fails=fails)
        # Both look at once: one decides.
        _look([_controller(one), _controller(two)])
        found = two.rollout(1)
        assert (found.state, found.share) == (state, share)
        assert reason in found.reason
        assert found.figures["people"]["canary"] + found.figures["people"]["stable"] == 400
        assert found.figures["answers"] == 800
        assert found.looked > 0.0
        changes = [each for each in one.audit_log() if each.action == "change rollout"]
        assert len(changes) == 2


def test_too_few_people_decide_nothing(store: Store) -> None:
    rollout = _running(store)
    _traffic(store, rollout, 50, (0.5, 0.0))
    _look([_controller(store)])
    found = store.rollout(1)
    assert (found.state, found.share, found.figures["lift"]) == (RolloutState.RUNNING, 0.2, {})


def test_the_end_of_the_trial(store: Store) -> None:
    rollout = _running(store)
    _traffic(store, rollout, 300, (0.2, 0.19))
    settings = RolloutSettings(shares=(0.2,), least_people=30, look_seconds=0.0, most_answers=600)
    _look([_controller(store, settings)])
    assert store.rollout(1).state is RolloutState.ROLLED_BACK
    assert "may be worse by 2.0% or more" in store.rollout(1).reason


def test_more_than_can_be_read_ends_it(store: Store) -> None:
    rollout = _running(store)
    _traffic(store, rollout, 100, (0.2, 0.2))
    _look([_controller(store, RolloutSettings(shares=(0.2,), look_seconds=0.0, most_answers=10))])
    found = store.rollout(1)
    assert found.state is RolloutState.ROLLED_BACK
    assert "can't be measured" in found.reason


def test_looks_keep_their_distance(store: Store) -> None:
    _running(store)
    settings = RolloutSettings(shares=(0.2,), look_seconds=3_600.0)
    controller = _controller(store, settings)
    _look([controller])
    looked = store.rollout(1).looked
    assert looked > 0.0
    _look([controller, _controller(store, settings)])
    assert store.rollout(1).looked == looked
