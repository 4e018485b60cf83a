"""Roll-outs: one at a time, and one decision however many replicas look."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.service.store import (
    ConflictError,
    InvalidError,
    NotFoundError,
    Rollout,
    RolloutState,
    Store,
    StoreError,
    open_store,
)

_MODEL = "추천 🎬"


def _started(store: Store) -> Rollout:
    return store.start_rollout(_MODEL, 3, 4, "일꾼", {"gate": {"ctr": 0.05, "이유": "좋음"}})


def test_the_way_of_a_roll_out(url: str) -> None:
    with open_store(url) as store:
        before = time.time()
        assert store.current_rollout(_MODEL) is None
        rollout = _started(store)
        assert (rollout.number, rollout.stable, rollout.canary) == (1, 3, 4)
        assert (rollout.state, rollout.share) == (RolloutState.WAITING, 0.0)
        assert rollout.report == {"gate": {"ctr": 0.05, "이유": "좋음"}}
        assert before <= rollout.begun <= time.time()
        for share in (0.05, 0.5):
            rollout = store.change_rollout(rollout, RolloutState.RUNNING, "service", "ready", share=share)
            assert rollout.share == share
        store.put_rollout_figures(rollout, {"ctr": 0.01})
        rollout = store.change_rollout(rollout, RolloutState.PROMOTED, "service", "더 좋다", figures={"ctr": 0.02})
        assert (rollout.share, rollout.reason, rollout.figures) == (1.0, "더 좋다", {"ctr": 0.02})
        assert store.current_rollout(_MODEL) == store.rollout(1) == rollout
        ended = store.end_rollout(1, "일꾼")
        assert (ended.state, ended.share, ended.reason) == (RolloutState.ENDED, 0.0, "더 좋다")
        assert store.end_rollout(1, "일꾼") == ended
        assert [stage.share for stage in ended.stages] == [0.05, 0.5]
        assert store.current_rollout(_MODEL) is None
        assert store.start_rollout(_MODEL, 4, 5, "일꾼").number == 2
        assert [each.number for each in store.rollouts()] == [2, 1]
        log = store.audit_log()
        assert [(each.actor, each.action, each.target) for each in log[-2:]] == [
            ("service", "change rollout", "1"),
            ("일꾼", "start rollout", "1"),
        ]
        assert "50.0%" in log[-3].detail


def test_a_model_has_one_at_a_time(url: str) -> None:
    with open_store(url) as one, open_store(url) as two, ThreadPoolExecutor(4) as pool:

        def start(number: int) -> bool:
            try:
                _started((one, two)[number % 2])
            except ConflictError:
                return False
            return True

        assert sum(pool.map(start, range(8))) == 1
        assert one.start_rollout("other", 1, 2, "job").number == 2


def test_replicas_decide_once(url: str) -> None:
    with open_store(url) as one, open_store(url) as two, ThreadPoolExecutor(4) as pool:
        rollout = one.change_rollout(_started(one), RolloutState.RUNNING, "service", "ready", share=0.05)

        def decide(number: int) -> bool:
            state = (RolloutState.PROMOTED, RolloutState.ROLLED_BACK)[number % 2]
            try:
                (one, two)[number % 2].change_rollout(rollout, state, f"replica {number}", "…")
            except ConflictError:
                return False
            return True

        decided = list(pool.map(decide, range(8)))
        assert sum(decided) == 1
        winner = decided.index(True)
        assert two.rollout(1).state == (RolloutState.PROMOTED, RolloutState.ROLLED_BACK)[winner % 2]
        assert [each.actor for each in one.audit_log() if "…" in each.detail] == [f"replica {winner}"]


def test_one_replica_looks_at_a_time(url: str) -> None:
    with open_store(url) as one, open_store(url) as two, ThreadPoolExecutor(4) as pool:
        rollout = _started(one)
        assert sum(pool.map(lambda n: (one, two)[n % 2].claim_rollout(rollout, 10.0 + n), range(8))) == 1
        assert one.claim_rollout(two.rollout(1), 20.0)
        # A look is no change: what was decided on the state before still holds.
        assert one.change_rollout(rollout, RolloutState.RUNNING, "s", "r", share=0.1).looked == 20.0


def test_figures_of_a_state_that_is_over_are_dropped(store: Store) -> None:
    rollout = _started(store)
    store.change_rollout(rollout, RolloutState.ROLLED_BACK, "ana", "3 am", figures={"a": 1})
    store.put_rollout_figures(rollout, {"a": 2})
    assert store.rollout(1).figures == {"a": 1}


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ([], RolloutState.ENDED),
        ([RolloutState.ROLLED_BACK], RolloutState.PROMOTED),
        ([RolloutState.PROMOTED, RolloutState.ENDED], RolloutState.ROLLED_BACK),
        ([RolloutState.PROMOTED], RolloutState.WAITING),
    ],
)
def test_ways_that_there_are_not(store: Store, path: list[RolloutState], state: RolloutState) -> None:
    rollout = _started(store)
    for each in path:
        rollout = store.change_rollout(rollout, each, "ana", "")
    with pytest.raises(ConflictError, match="can't become"):
        store.change_rollout(rollout, state, "ana", "")


def test_mistakes(store: Store) -> None:
    mistakes: list[tuple[type[StoreError], str, tuple[str, int, int, str, dict[str, object]]]] = [
        (InvalidError, "`model` is empty", ("", 1, 2, "a", {})),
        (InvalidError, "`actor` is empty", ("m", 1, 2, "", {})),
        (InvalidError, "`canary` is 0", ("m", 1, 0, "a", {})),
        (InvalidError, "`stable` is", ("m", 2**63, 1, "a", {})),
        (InvalidError, "both 2", ("m", 2, 2, "a", {})),
        (InvalidError, "as JSON", ("m", 1, 2, "a", {"x": object()})),
        (InvalidError, "as JSON", ("m", 1, 2, "a", {"x": "\ud800"})),
        (InvalidError, "`report`", ("m", 1, 2, "a", {"x": "가" * 400_000})),
    ]
    for kind, message, arguments in mistakes:
        with pytest.raises(kind, match=message):
            store.start_rollout(*arguments)
    for number in (1, 0, 2**63):
        with pytest.raises(NotFoundError, match="no roll-out"):
            store.rollout(number)
    rollout = _started(store)
    for state, share in ((RolloutState.RUNNING, None), (RolloutState.RUNNING, 1.5), (RolloutState.PROMOTED, 0.5)):
        with pytest.raises(InvalidError, match="`share`"):
            store.change_rollout(rollout, state, "a", "", share=share)
    with pytest.raises(InvalidError, match="`limit`"):
        store.rollouts(0)
