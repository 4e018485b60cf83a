"""Roll-outs by hand, and what is shown of them."""

from collections.abc import Iterator

import pytest

from serving.service.store import RolloutState
from tests.serving.service.api.inside import EmptyStore, Inside, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH


@pytest.fixture
def trying(empty_store: EmptyStore) -> Iterator[Inside]:
    """A service that follows roll-outs."""
    with Inside(*empty_store, canary=True, model_name="추천") as inside:
        yield inside


def test_from_start_to_end(trying: Inside) -> None:
    assert trying.call("GET", "/v1/rollouts").json() == []
    started = trying.call("POST", "/v1/rollouts", {"stable": 1, "canary": 2, "report": {"이유": "更好"}})
    assert started.status_code == 201
    body = started.json()
    assert (body["number"], body["model"], body["state"]) == (1, "추천", "waiting")
    assert body["report"] == {"이유": "更好"}
    detail = problem(trying.call("POST", "/v1/rollouts", {"stable": 1, "canary": 3}), 409)
    assert "has not ended" in detail
    problem(trying.call("POST", "/v1/rollouts/1/end"), 409)
    promoted = trying.call("POST", "/v1/rollouts/1/promote", {"reason": "좋다"}).json()
    assert (promoted["state"], promoted["reason"]) == ("promoted", "좋다")
    rolled_back = trying.call("POST", "/v1/rollouts/1/rollback", {"reason": "새벽 세 시"}).json()
    assert rolled_back["state"] == "rolled_back"
    assert trying.call("POST", "/v1/rollouts/1/end").json()["state"] == "ended"
    assert [each["state"] for each in trying.call("GET", "/v1/rollouts", key="read-only").json()] == ["ended"]
    log = trying.call("GET", "/v1/audit").json()
    assert [each["detail"] for each in log[1:3]] == ["rolled_back: 새벽 세 시", "promoted: 좋다"]
    assert {each["actor"] for each in log} == {"admin"}


def test_who_may(trying: Inside) -> None:
    body: dict[str, object] = {"stable": 1, "canary": 2}
    for key in ("app", "read-only", trying.token("ana")):
        problem(trying.call("POST", "/v1/rollouts", body, key=key), 403)
        for verdict in ("promote", "rollback"):
            problem(trying.call("POST", f"/v1/rollouts/1/{verdict}", {"reason": "x"}, key=key), 403)
        problem(trying.call("POST", "/v1/rollouts/1/end", key=key), 403)
    problem(trying.call("GET", "/v1/rollouts", key="app"), 403)
    problem(trying.call("GET", "/v1/rollouts", key=None), 401)


def test_mistakes(trying: Inside) -> None:
    for body in ({}, {"stable": 0, "canary": 1}, {"stable": 1, "canary": 1}, {"stable": 1, "canary": 2**63}):
        problem(trying.call("POST", "/v1/rollouts", body), 422)
    problem(trying.call("POST", "/v1/rollouts/7/promote", {"reason": "x"}), 404)
    problem(trying.call("POST", "/v1/rollouts/0/promote", {"reason": "x"}), 422)
    trying.call("POST", "/v1/rollouts", {"stable": 1, "canary": 2})
    problem(trying.call("POST", "/v1/rollouts/1/rollback", {}), 422)
    trying.call("POST", "/v1/rollouts/1/rollback", {"reason": "x"})
    problem(trying.call("POST", "/v1/rollouts/1/promote", {"reason": "x"}), 409)


def test_the_option_is_needed(service: Inside) -> None:
    assert "--canary" in problem(service.call("POST", "/v1/rollouts", {"stable": 1, "canary": 2}), 409)


def test_gauges_are_there_while_a_roll_out_runs(trying: Inside) -> None:
    def shown() -> dict[str, float]:
        lines = trying.call("GET", "/metrics", key=None).text.splitlines()
        found = [line.rsplit(" ", 1) for line in lines if line.startswith("babelrec_service_rollout")]
        return {name.removeprefix("babelrec_service_rollout_"): float(value) for name, value in found}

    assert shown() == {}
    rollout = trying.store.start_rollout("추천", 1, 2, "job")
    assert shown() == {'share{canary="2",stable="1",state="waiting"}': 0.0}
    figures = {"canary_answers": 200, "failures": 5, "lift": {"ctr": {"value": 0.03, "low": -0.02, "high": 0.08}}}
    trying.store.change_rollout(rollout, RolloutState.RUNNING, "service", "", share=0.1, figures=figures)
    assert shown() == {
        'share{canary="2",stable="1",state="running"}': 0.1,
        'lift{bound="value",measure="ctr"}': 0.03,
        'lift{bound="low",measure="ctr"}': -0.02,
        'lift{bound="high",measure="ctr"}': 0.08,
        'failures{canary="2"}': 0.025,
    }
