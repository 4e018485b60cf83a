"""Two processes of the service on one store: what one is told, the other knows."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from serving.service.store import open_store
from tests.serving.service.api.conftest import MakeStore
from tests.serving.service.api.inside import EmptyStore, event
from tests.serving.service.api.live import Live
from tests.serving.service.databases import BOTH, execute

pytestmark = BOTH
_SECONDS = 60.0
_ITEMS = [f"품목{number}" for number in range(6)]


class _Replica:
    """A service without a model server: it answers with all items that may be shown, popular ones first."""

    def __init__(self, live: Live, keys: dict[str, str]) -> None:
        self.live = live
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{live.port}", trust_env=False, timeout=_SECONDS)
        self._key = keys["admin"]

    def call(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        """The answer of a request that succeeds."""
        headers = {"Authorization": f"Bearer {key or self._key}"}
        response = self._client.request(method, path, json=body, headers=headers)
        assert response.is_success, response.text
        return response.json()

    def shown(self, key: str = "", **fields: object) -> set[str]:
        """Ids of an answer's items."""
        answer = self.call("POST", "/v1/recommendations", {"k": 50} | fields, key)
        return {each["item_id"] for each in answer["items"]}

    def send(self, *events: dict[str, object]) -> int:
        """How many of the events are new."""
        accepted: int = self.call("POST", "/v1/events", list(events))["accepted"]
        return accepted


@contextlib.contextmanager
def _replica(store: EmptyStore) -> Iterator[_Replica]:
    # Nobody listens on port 1. Time enough, so that histories are read on a busy machine too.
    options = ("--model_server", "127.0.0.1:1", "--deadline_ms", "30000")
    with Live(store.url, *options, module="serving.service") as live:
        yield _Replica(live, store.keys)


@pytest.fixture(scope="module")
def shared_store(stores: MakeStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmptyStore]:
    """The store of `replicas`."""
    with stores(tmp_path_factory.mktemp("replicas")) as store:
        yield store


@pytest.fixture(scope="module")
def replicas(shared_store: EmptyStore) -> Iterator[tuple[_Replica, _Replica]]:
    """Two, and items in their store; tests name people and sessions of their own."""
    with _replica(shared_store) as one, _replica(shared_store) as two:
        one.call("PUT", "/v1/items", {"items": [{"item_id": each, "language": "ko"} for each in _ITEMS]})
        _until(lambda: two.shown() >= set(_ITEMS))
        yield one, two


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_an_event_counts_at_the_other(replicas: tuple[_Replica, _Replica]) -> None:
    one, two = replicas
    # Both have the history in memory.
    assert all(each.shown(user_id="大輔") >= set(_ITEMS) for each in replicas)
    assert one.send(event("c1", user_id="大輔", item_id=_ITEMS[0])) == 1
    assert _ITEMS[0] not in one.shown(user_id="大輔")
    _until(lambda: _ITEMS[0] not in two.shown(user_id="大輔"))
    # It is known to both, and counts for nobody else.
    assert two.send(event("c1", user_id="大輔", item_id=_ITEMS[1])) == 0
    assert all(each.shown(user_id="다른") >= set(_ITEMS) for each in replicas)


def test_a_log_in_counts_at_the_other(replicas: tuple[_Replica, _Replica]) -> None:
    one, two = replicas
    assert one.send(event("l1", session_id="방문", item_id=_ITEMS[1])) == 1
    assert _ITEMS[1] in two.shown(user_id="สมชาย")
    one.call("POST", "/v1/sessions/%EB%B0%A9%EB%AC%B8/user", {"user_id": "สมชาย"})
    _until(lambda: _ITEMS[1] not in two.shown(user_id="สมชาย"))
    # What the session does later, at either, is the person's too.
    two.send(event("l2", session_id="방문", user_id="สมชาย", item_id=_ITEMS[2]))
    _until(lambda: _ITEMS[2] not in one.shown(user_id="สมชาย"))


def test_an_item_that_is_deleted_at_one_is_gone_at_the_other(replicas: tuple[_Replica, _Replica]) -> None:
    one, two = replicas
    for item_id in ("ฝาก", "retired"):
        two.call("PUT", f"/v1/items/{item_id}", {"language": "th"})
    _until(lambda: {"ฝาก", "retired"} <= one.shown())
    one.call("DELETE", "/v1/items/retired")
    two.call("PATCH", "/v1/items/ฝาก", {"available": False})
    for each in replicas:
        _until(lambda each=each: not {"ฝาก", "retired"} & each.shown())  # type: ignore[misc]
    # A put of the other brings it back everywhere.
    two.call("PUT", "/v1/items/retired", {"language": "th"})
    _until(lambda: "retired" in one.shown())


def test_a_person_who_is_erased_at_one_is_forgotten_at_the_other(replicas: tuple[_Replica, _Replica]) -> None:
    one, two = replicas
    one.send(event("e1", user_id="عائشة", session_id="زيارة", item_id=_ITEMS[3]))
    _until(lambda: all(_ITEMS[3] not in each.shown(user_id="عائشة") for each in replicas))
    assert two.call("DELETE", "/v1/users/عائشة") == {"deleted": True}
    _until(lambda: all(_ITEMS[3] in each.shown(user_id="عائشة") for each in replicas))
    exported = one.call("GET", "/v1/users/عائشة/export")
    assert (exported["profile"], exported["sessions"], exported["events"]) == (None, [], [])


def test_answers_on_their_way_do_not_outlive_their_person(
    replicas: tuple[_Replica, _Replica], shared_store: EmptyStore
) -> None:
    """Answers wait a moment before they are written down, in replicas that have yet to hear of the erasure."""
    one, two = replicas
    for number in range(3):
        name, visit = f"erased{number}", f"visit{number}"
        one.call("POST", f"/v1/sessions/{visit}/user", {"user_id": name})
        for each in (one, two, one, two):
            each.shown(user_id=name, session_id=visit)
            each.shown(session_id=visit)
        one.call("DELETE", f"/v1/users/{name}")
    # Each replica writes its answers in their order: when these are there, the others have been.
    for place, each in enumerate(replicas):
        each.shown(user_id=f"marker{place}")
    query = "SELECT DISTINCT user_id, session_id FROM recommendations"
    _until(lambda: {("marker0", ""), ("marker1", "")} <= set(execute(shared_store.url, query)))
    left = [str(value) for row in execute(shared_store.url, query) for value in row]
    assert not [value for value in left if value.startswith(("erased", "visit"))]


def test_rules_and_tokens_are_those_of_all(replicas: tuple[_Replica, _Replica]) -> None:
    one, two = replicas
    token = one.call("POST", "/v1/tokens", {"user_id": "ben"})["token"]
    assert two.shown(token) >= set(_ITEMS)
    rules = "rules: [{name: 숨김, kind: block, where: {item_id: {equals: 품목5}}}]"
    headers = {"Authorization": f"Bearer {one._key}"}
    put = one._client.put("/v1/rules", content=rules.encode(), headers=headers)
    assert put.status_code == 200, put.text
    _until(lambda: all(_ITEMS[5] not in each.shown() for each in replicas))
    one._client.put("/v1/rules", content=b"rules: []", headers=headers)
    _until(lambda: all(_ITEMS[5] in each.shown() for each in replicas))


def test_a_restart_loses_nothing(empty_store: EmptyStore) -> None:
    """One replica is killed while both take events, and another one is stopped: what was acknowledged is there."""
    sent: list[str] = []

    def send(replica: _Replica, name: str) -> None:
        fields = {"user_id": "민수", "item_id": _ITEMS[0]}
        assert replica.send(event(name, **fields)) == 1
        sent.append(f"e-{name}")

    with _replica(empty_store) as other:
        with _replica(empty_store) as killed:
            killed.call("PUT", "/v1/items", {"items": [{"item_id": each, "language": "ko"} for each in _ITEMS]})
            killed.call("PUT", "/v1/users/erased", {"languages": ["ko"]})
            for number in range(10):
                send(killed, f"k{number}")
                send(other, f"o{number}")
            killed.call("DELETE", f"/v1/items/{_ITEMS[1]}")
            killed.call("DELETE", "/v1/users/erased")
        # Leaving the block kills.
        send(other, "meanwhile")
        with _replica(empty_store) as again:
            # At once: it has read the store before it answers.
            assert again.shown(user_id="민수") == set(_ITEMS[2:])
            assert again.shown() == {_ITEMS[0], *_ITEMS[2:]}
            assert again.send(event("k0", user_id="민수", item_id=_ITEMS[4])) == 0
            send(again, "last")
            again.live.terminate()
            assert again.live.wait() == 0
        _until(lambda: other.shown() == {_ITEMS[0], *_ITEMS[2:]})
    with open_store(empty_store.url) as store:
        assert sorted(each.event_id for each in store.events_after("")[0]) == sorted(sent)
        assert store.user("erased") is None
        shown = store.export_user("민수")["recommendations"]
        # A stop writes down what was answered.
        assert [len(each["items"]) for each in shown] == [len(_ITEMS[2:])]  # type: ignore[attr-defined]
