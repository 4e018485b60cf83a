"""Visitors of a live service, with a recommender that reads its store."""

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import polars as pl
import pytest

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.driver import run, standard_errors
from benchmarks.simulation.events import interactions
from benchmarks.simulation.lists import EMPTY, Shown
from benchmarks.simulation.settings import Behaviour, Items, Logit, People, WorldSettings
from benchmarks.simulation.visitors import ServicePolicy
from benchmarks.simulation.world import Requests, World
from serving.service.api.access.keys import add_key
from serving.service.store import Store, open_store
from serving.service.types import Event
from tests.serving.service.api.live import Live
from trainer.errors import BabelrecError

_KEPT = (
    *("user_id", "item_id", "timestamp", "event", "value", "recommendation_id", "propensity", "language", "country"),
    "position",
)


@pytest.fixture(scope="module")
def world() -> World:
    # Clicks are frequent, so that few visits show them.
    behaviour = Behaviour(attraction=Logit(base=0.0, taste=3.0, quality=0.3, clickbait=1.0))
    settings = WorldSettings(
        days=3,
        people=People(count=25, visits_a_day=1.0),
        items=Items(count=20, fresh_days=2),
        behaviour=behaviour,
    )
    return World(settings, 2)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Store]]:
    path = tmp_path_factory.mktemp("visitors") / "store.db"
    with open_store(f"sqlite:///{path}") as store:
        key = add_key(store, "admin", "admin")
        options = ["--key_limit", "1000000/minute"]
        with Live(f"sqlite:///{path}", *options, module="tests.serving.service.console.fake_server") as live:
            yield f"http://127.0.0.1:{live.port}", key, store


def test_what_visitors_do_is_acknowledged_and_stored(world: World, service: tuple[str, str, Store]) -> None:
    url, key, store = service
    heard: list[tuple[Requests, Shown, Outcome]] = []
    with ServicePolicy(world, url, key, places=5, clients=4) as policy:
        done = run(world, policy, range(3), listeners=[lambda *each: heard.append(each)])
        counts = policy.counts
        assert len(policy.latencies) == counts["recommendations"] == len(done)
    rows = [interactions(world, *each) for each in heard]
    assert counts["accepted"] == sum(map(len, rows))
    assert counts["duplicate"] == counts["rejected"] == counts["unknown_items"] == counts["degraded"] == 0
    # The catalogue has followed the world's.
    assert {each.item_id for each in store.find_items("", 1_000)} == {world.items.ids[i] for i in world.catalogue(2)}
    assert counts["items"] == (world.items.arrives <= 2).sum()
    # The recommender shows nothing again that it has heard of: the events have come in time for the next visit.
    clicked: set[tuple[int, int]] = set()
    for requests, shown, outcome in heard:
        for person, items, clicks in zip(requests.people.tolist(), shown.lists.tolist(), outcome.clicked, strict=True):
            assert not clicked & {(person, item) for item in items}
            clicked |= {(person, item) for item, click in zip(items, clicks, strict=True) if click}
    assert len(clicked) == done.observed[:, 0].sum() > 20
    # Whole events are kept, also with a place or a value of 1.
    stored: list[Event] = []
    mark = ""
    while len(stored) < counts["accepted"]:
        found, mark = store.events_after(mark)
        stored += found
    sent = [(*row[:-1], row[-1] - 1) for row in pl.concat(rows).select(_KEPT).iter_rows()]
    assert sorted(map(repr, sent)) == sorted(repr(tuple(getattr(each, name) for name in _KEPT)) for each in stored)
    assert abs(standard_errors([done])) < 3.5
    assert (done.expected[:, 0] <= done.best * (1 + 1e-12)).all()


def test_a_second_run_s_events_are_new_and_its_rate_is_kept(world: World, service: tuple[str, str, Store]) -> None:
    url, key, _ = service
    requests = next(iter(world.visits(0).rounds())).some(np.arange(5))
    with ServicePolicy(world, url, key, places=3, rate=50.0) as policy:
        policy.begin(0)
        started = time.monotonic()
        shown = policy.show(requests, np.random.default_rng(0))
        outcome = world.respond(requests, shown.lists, np.random.default_rng(0))
        policy.heard(requests, shown, outcome)
        # Each request at least 20 ms after the one before: a bound that no slow machine breaks.
        requests_sent = 5 + int((shown.lists != EMPTY).any(axis=1).sum())
        assert requests_sent > 5
        assert time.monotonic() - started >= (requests_sent - 1) * 0.02
        assert policy.counts["accepted"] > 0
        assert policy.counts["duplicate"] == 0
        # The same events again.
        policy.heard(requests, shown, outcome)
        assert policy.counts["duplicate"] == policy.counts["accepted"]


def test_what_the_world_does_not_have_leaves_its_place_empty(world: World, service: tuple[str, str, Store]) -> None:
    url, key, store = service
    # Somebody to whom the visits of the other tests have shown nothing yet.
    new = set(range(len(world.people))).difference(*(world.visits(day).people.tolist() for day in range(3)))
    requests = replace(world.visits(0).some(np.arange(1)), people=np.array([min(new)]))
    with ServicePolicy(world, url, key, places=30) as policy:
        policy.begin(0)
        # Of another application, or of a day that the service has not been sent.
        policy.begin(2)
        shown = policy.show(requests, np.random.default_rng(0))
        late = set(world.catalogue(2).tolist()) - set(world.catalogue(0).tolist())
        assert policy.counts["unknown_items"] > 0
        assert not late & set(shown.lists.ravel().tolist())
        assert (shown.lists == EMPTY).any()
        policy.begin(0)
    assert store.count_items()


def test_a_wrong_key_or_address_is_explained(world: World, service: tuple[str, str, Store]) -> None:
    with (
        ServicePolicy(world, service[0], "nobody") as policy,
        pytest.raises(BabelrecError, match=r"PUT .*401.*Remedy: .*administrator"),
    ):
        policy.begin(0)


def _answering(answers: Iterator[httpx.Response | None]) -> httpx.MockTransport:
    """These answers in the place of a service's; None: the connection breaks."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(answers)
        if found is None:
            raise httpx.ReadError("broken", request=request)
        return found

    return httpx.MockTransport(answer)


def test_what_is_refused_for_now_is_sent_again(world: World) -> None:
    requests = next(iter(world.visits(0).rounds())).some(np.arange(1))
    item = {"item_id": world.items.ids[3], "propensity": 0.5}
    answers = iter(
        [
            httpx.Response(503, headers={"Retry-After": "0"}),
            None,
            httpx.Response(429, headers={"Retry-After": "0"}),
            httpx.Response(200, json={"recommendation_id": "r", "degraded": True, "items": [item]}),
        ]
    )
    with ServicePolicy(world, "http://service", "key", places=2, transport=_answering(answers)) as policy:
        shown = policy.show(requests, np.random.default_rng(0))
        assert shown.lists.tolist() == [[3, EMPTY]]
        assert (shown.propensities[0, 0], shown.ids) == (0.5, ["r"])
        assert (policy.counts["repeated"], policy.counts["degraded"]) == (3, 1)


def test_a_service_that_stays_away_ends_the_run(world: World) -> None:
    requests = next(iter(world.visits(0).rounds())).some(np.arange(1))
    refused = (httpx.Response(503, headers={"Retry-After": "0"}, text="full") for _ in range(6))
    with ServicePolicy(world, "http://service", "key", transport=_answering(refused)) as policy:
        with pytest.raises(BabelrecError, match=r"POST http://service/v1/recommendations failed: 503: full\. Remedy"):
            policy.show(requests, np.random.default_rng(0))
        assert policy.counts["repeated"] == 5
