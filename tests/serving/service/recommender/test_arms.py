"""Two versions at once, with models in NumPy behind labels."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import numpy as np
import pytest

from serving.client import AsyncRecommenderClient
from serving.client.errors import ModelNotFoundError
from serving.client.types import ModelMetadata, VersionStatus
from serving.service.outcomes import OutcomeSettings
from serving.service.recommendation import RecommendationRequest, RecommendationResponse
from serving.service.recommender.model import ModelServer
from serving.service.recommender.recommender import LiveRecommender
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.trying import Rollouts
from serving.service.rollout.controller import outcome_settings
from serving.service.rollout.deciding import Observed
from serving.service.rollout.observing import observe
from serving.service.rollout.settings import RolloutSettings
from serving.service.store import Rollout, RolloutState, Store
from serving.service.types import Item, ItemChange
from tests.serving.service.recommender.fake_model import FakeClient, Version
from tests.serving.service.recommender.waiting import until

_MODEL = "추천"
_INDEX = [Item(item_id=f"m{number}", language="th", title=f"เรื่อง {number}") for number in range(40)]
_PEOPLE = [f"사람 {number} 🙂" for number in range(60)]
_SETTINGS = RecommenderSettings(poll=0.01, model_poll=0.02)


@dataclass
class _Server:
    """A model server: versions by number, and labels."""

    versions: dict[int, FakeClient]
    labels: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str | None, int | None]] = field(default_factory=list)

    def connect(self, label: str | None = None, version: int | None = None) -> AsyncRecommenderClient:
        return cast(AsyncRecommenderClient, _Client(self, label, version))


@dataclass
class _Client:
    server: _Server
    label: str | None
    version: int | None

    def _served(self) -> FakeClient:
        self.server.asked.append((self.label, self.version))
        versions = self.server.versions
        number = self.version or max(versions)
        if self.label is not None:
            number = self.server.labels.get(self.label, 0)
        if number not in versions:
            raise ModelNotFoundError("no such version", grpc.StatusCode.NOT_FOUND)
        return versions[number]

    async def status(self, *, timeout: float) -> list[VersionStatus]:
        return await self._served().status(timeout=timeout)

    async def metadata(self, *, timeout: float) -> ModelMetadata:
        return await self._served().metadata(timeout=timeout)

    async def predict_with_version(self, *arguments: Any, **options: Any) -> Any:
        return await self._served().predict_with_version(*arguments, **options)

    async def close(self) -> None:
        pass


def _version(number: int) -> FakeClient:
    return FakeClient(Version(number, _INDEX))


@contextlib.asynccontextmanager
async def _running(store: Store, server: _Server, **settings: Any) -> AsyncIterator[LiveRecommender]:
    how = RolloutSettings(**settings)

    async def observe_here(rollout: Rollout, now: float) -> Observed:
        return await asyncio.to_thread(observe, store, rollout, now, outcome_settings(how, OutcomeSettings()))

    rollouts = Rollouts(_MODEL, server.connect, how, observe_here)
    async with LiveRecommender(store, ModelServer(server.connect()), _SETTINGS, rollouts) as live:
        yield live


async def _ask_all(live: LiveRecommender, **fields: Any) -> dict[str, RecommendationResponse]:
    requests = [RecommendationRequest(user_id=each, k=5, **fields) for each in _PEOPLE]
    return dict(zip(_PEOPLE, await asyncio.gather(*map(live.recommend, requests)), strict=True))


def _kinds(answers: dict[str, RecommendationResponse]) -> set[tuple[str, int]]:
    return {(each.variant, each.model_version) for each in answers.values()}


async def _until_kinds(live: LiveRecommender, *kinds: tuple[str, int]) -> dict[str, RecommendationResponse]:
    found: dict[str, RecommendationResponse] = {}

    async def holds() -> bool:
        found.update(await _ask_all(live))
        return _kinds(found) == set(kinds)

    await until(holds)
    return found


def _start(store: Store) -> Rollout:
    return store.start_rollout(_MODEL, 1, 2, "job")


def _run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_the_whole_way(store: Store) -> None:
    """Newest, then stable while the new version comes, both, the canary for all, and newest again: no gap between."""
    server = _Server({1: _version(1)})

    async def run() -> None:
        async with _running(store, server, shares=(0.5,)) as live:
            assert _kinds(await _ask_all(live)) == {("", 1)}
            assert set(server.asked) == {(None, None)}
            _start(store)
            # No label exists yet, so that the version's number is asked for.
            await until(lambda: (None, 1) in server.asked)
            server.versions[2] = _version(2)
            assert _kinds(await _ask_all(live)) == {("", 1)}
            server.labels |= {"stable": 1, "canary": 2}
            answers = await _until_kinds(live, ("stable", 1), ("canary", 2))
            # Nobody changes the version, and requests of nobody count for none.
            assert {who: each.variant for who, each in (await _ask_all(live)).items()} == {
                who: each.variant for who, each in answers.items()
            }
            nobody = await live.recommend(RecommendationRequest(k=3))
            assert (nobody.variant, nobody.model_version) == ("", 1)
            store.change_rollout(store.rollout(1), RolloutState.PROMOTED, "ana", "좋다")
            await _until_kinds(live, ("", 2))
            server.labels |= {"stable": 2}
            await until(lambda: live.model_version == 2)
            del server.labels["canary"]
            assert _kinds(await _ask_all(live)) == {("", 2)}
            del server.versions[1]
            store.end_rollout(1, "job")
            server.asked.clear()
            await until(lambda: (None, None) in server.asked)
            assert _kinds(await _ask_all(live)) == {("", 2)}

    _run(run)


def test_a_roll_back_ends_it_for_everybody(store: Store) -> None:
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})

    async def run() -> None:
        async with _running(store, server, shares=(0.5,)) as live:
            _start(store)
            await _until_kinds(live, ("stable", 1), ("canary", 2))
            store.change_rollout(store.rollout(1), RolloutState.ROLLED_BACK, "ana", "새벽 세 시")
            await _until_kinds(live, ("", 1))
            calls = len(server.versions[2].calls)
            # The newest version is still the bad one: it is not asked before the job has taken it away.
            assert _kinds(await _ask_all(live)) == {("", 1)}
            assert len(server.versions[2].calls) == calls
            del server.versions[2], server.labels["canary"]
            store.end_rollout(1, "job")
            server.asked.clear()
            await until(lambda: (None, None) in server.asked)
            assert _kinds(await _ask_all(live)) == {("", 1)}

    _run(run)


@pytest.mark.parametrize("fault", ["is_down", "hangs", "unloaded", "label moved", "refuses"])
def test_a_canary_that_fails_costs_no_answer(store: Store, fault: str) -> None:
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})

    async def run() -> None:
        async with _running(store, server, shares=(0.5,)) as live:
            _start(store)
            await _until_kinds(live, ("stable", 1), ("canary", 2))
            canary = server.versions[2]
            if fault == "unloaded":
                del server.versions[2]
            elif fault == "label moved":
                server.labels["canary"] = 1
            elif fault == "refuses":
                canary.most_k = 1
            else:
                setattr(canary, fault, True)
            answers = await _ask_all(live)
            # Those of the canary are still measured as its, and it is not popular items that they get.
            assert _kinds(answers) == {("stable", 1), ("canary", 1)}
            assert not any(each.degraded for each in answers.values())
            # The label is there or is back: so is the canary.
            server.versions[2], canary.most_k = canary, 1_000
            canary.is_down = canary.hangs = False
            server.labels["canary"] = 2
            await _until_kinds(live, ("stable", 1), ("canary", 2))

    _run(run)


def test_fresh_and_deleted_items_in_both_arms(store: Store) -> None:
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})
    new = Item(item_id="n1", language="ar", title="منارة على حافة الفضاء")

    async def run() -> None:
        async with _running(store, server, shares=(0.5,)) as live:
            store.put_items([new])
            _start(store)
            await _until_kinds(live, ("stable", 1), ("canary", 2))

            async def shows(item_id: str, *, holds: bool) -> bool:
                answers = await _ask_all(live, query=new.title)
                firsts = {each.variant: each.items[0].item_id for each in answers.values()}
                return all((first == item_id) is holds for first in firsts.values()) and len(firsts) == 2

            await until(lambda: shows("n1", holds=True))
            later = Item(item_id="n2", language="ar", title=new.title + " 🚀")
            revision = store.put_items([later])["n2"]
            live.items_changed([ItemChange(item_id="n2", revision=revision, item=later)])

            async def both_show_later() -> bool:
                answers = await _ask_all(live, query=later.title)
                return all(each.items[0].item_id == "n2" for each in answers.values())

            await until(both_show_later)
            # A score is that of the version that gave it: those of both differ.
            scores = {e.variant: e.items[0].score for e in (await _ask_all(live, query=new.title)).values()}
            assert len(scores) == 2
            store.delete_items(["n1"])
            await until(lambda: shows("n1", holds=False))

    _run(run)


def test_vectors_of_both_versions_stay_in_the_store(store: Store) -> None:
    """A promoted version's items are not encoded again."""
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})

    async def run() -> None:
        store.put_items([Item(item_id=f"n{n}", language="ko", title=f"새것 {n}") for n in range(5)])
        async with _running(store, server, shares=(0.5,)) as live:
            _start(store)
            await _until_kinds(live, ("stable", 1), ("canary", 2))
            encoded = list(server.versions[2].embedded)
            assert sorted(encoded) == [f"n{n}" for n in range(5)]
            store.change_rollout(store.rollout(1), RolloutState.PROMOTED, "ana", "…")
            server.labels["stable"] = 2
            await until(lambda: live.model_version == 2 and not live.waiting_items)
            store.end_rollout(1, "job")
            server.asked.clear()
            await until(lambda: (None, None) in server.asked)
            assert server.versions[2].embedded == encoded

    _run(run)


def test_rank_is_the_person_s_version_s(store: Store) -> None:
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})

    async def run() -> None:
        async with _running(store, server, shares=(0.5,)) as live:
            _start(store)
            answers = await _until_kinds(live, ("stable", 1), ("canary", 2))
            who = {each.variant: person for person, each in answers.items()}
            found = {}
            for variant, person in who.items():
                request = RecommendationRequest(user_id=person, query="เรื่อง 3")
                found[variant] = [each.score for each in await live.rank(request, ["m1", "m3"])]
            assert not np.allclose(np.array(found["stable"]), np.array(found["canary"]))
            server.versions[2].is_down = True
            request = RecommendationRequest(user_id=who["canary"], query="เรื่อง 3")
            assert [each.score for each in await live.rank(request, ["m1", "m3"])] == found["stable"]

    _run(run)


def test_a_service_that_starts_amid_a_roll_out(store: Store) -> None:
    """Nobody gets the new version for its being the newest, not even the first who asks."""
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})
    store.change_rollout(_start(store), RolloutState.ROLLED_BACK, "ana", "…")

    async def run() -> None:
        async with _running(store, server) as live:
            assert _kinds(await _ask_all(live)) == {("", 1)}
        assert not server.versions[2].calls

    _run(run)


def test_a_model_server_that_is_away_is_no_fault_of_the_canary_s(store: Store) -> None:
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})

    async def run() -> None:
        async with _running(store, server, shares=(0.5,)) as live:
            _start(store)
            await _until_kinds(live, ("stable", 1), ("canary", 2))
            for each in server.versions.values():
                each.is_down = True
            await _until_kinds(live, ("stable", 0), ("canary", 0))
            for each in server.versions.values():
                each.is_down = False
            await _until_kinds(live, ("stable", 1), ("canary", 2))

    _run(run)


def test_a_version_that_never_comes_changes_nothing(store: Store) -> None:
    server = _Server({1: _version(1)}, {"stable": 1})

    async def run() -> None:
        async with _running(store, server, most_waiting_days=1e-5) as live:
            _start(store)
            await until(lambda: store.rollout(1).state is RolloutState.ROLLED_BACK)
            assert "ready within" in store.rollout(1).reason
            assert _kinds(await _ask_all(live)) == {("", 1)}

    _run(run)


def test_without_the_option_nothing_is_followed(store: Store) -> None:
    server = _Server({1: _version(1), 2: _version(2)}, {"stable": 1, "canary": 2})

    async def run() -> None:
        _start(store)
        async with LiveRecommender(store, ModelServer(server.connect()), _SETTINGS) as live:
            assert _kinds(await _ask_all(live)) == {("", 2)}
        assert set(server.asked) == {(None, None)}
        assert store.rollout(1).state is RolloutState.WAITING

    _run(run)
