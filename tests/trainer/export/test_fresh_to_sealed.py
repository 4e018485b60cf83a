"""An item that joins later: found at once, ranked by the model, and in the index after the next export of the store."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.client import AsyncRecommenderClient
from serving.service.importing import import_dataset
from serving.service.recommendation import RecommendationRequest, RecommendationResponse
from serving.service.recommender import LiveRecommender, ModelServer, RecommenderSettings
from serving.service.store import Store, open_store
from serving.service.types import Event, Item
from tests.serving.live import START_SECONDS, LiveServer
from trainer.export.export import export
from trainer.runs import Run
from trainer.task import main as trainer

pytestmark = pytest.mark.usefixtures("cache")
_NEW = Item(
    item_id="새 우주선",
    language="ko",
    title="우주선의 귀환",
    categories=["Sci-Fi"],
    numbers={"year": 2001.0, "runtime": 95.0},
    embeddings={"image": [0.5, -0.5, 1.0, 0.0]},
)
_SEARCH = RecommendationRequest(query="우주선의 귀환", language="ko", k=5)
_LISTED = RecommendationRequest(user_id="u0", k=61)
Holds = Callable[[RecommendationResponse], bool]


@pytest.fixture(scope="module")
def models(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1, with the signatures for the service; every item is a candidate."""
    folder = tmp_path_factory.mktemp("models") / "recommender"
    export(Run.open(tiny_run.path, ["export.fresh_items=true", "export.candidates=100"]), folder)
    return folder


async def _until(recommender: LiveRecommender, request: RecommendationRequest, holds: Holds) -> RecommendationResponse:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        response = await recommender.recommend(request)
        if holds(response):
            return response
        await asyncio.sleep(0.05)
    raise AssertionError(f"never came about: {response}")


def _scores(response: RecommendationResponse) -> dict[str, float]:
    return {item.item_id: item.score for item in response.items}


async def _live(tiny_run: Run, models: Path, store: Store, url: str, server: LiveServer) -> None:
    client = AsyncRecommenderClient(server.address, "recommender", retry=None)
    settings = RecommenderSettings(deadline=30.0, model_poll=0.1)
    async with LiveRecommender(store, ModelServer(client), settings) as recommender:
        before = await _until(recommender, _LISTED, lambda response: response.model_version == 1)
        assert len(before.items) > 40
        assert {item.source for item in before.items} == {"model"}

        store.put_items([_NEW])
        found = await _until(recommender, _SEARCH, lambda r: bool(r.items) and r.items[0].item_id == _NEW.item_id)
        assert found.items[0].source == "fresh"
        assert found.items[0].title == _NEW.title
        with_new = await recommender.recommend(_LISTED)
        assert _scores(with_new).keys() == {*_scores(before), _NEW.item_id}
        heads = next(item.heads for item in with_new.items if item.item_id == _NEW.item_id)
        assert heads.keys() == {"probability_like", "predicted_rating"}

        # A click on the new item: it is history, and moves the rest.
        event = Event(event_id="1", event="click", timestamp=int(time.time()), user_id="u1", item_id=_NEW.item_id)
        other = RecommendationRequest(user_id="u1", k=20)
        unmoved = await recommender.recommend(other)
        assert store.append_events([event]) == [True]
        recommender.heard([event])
        moved = await recommender.recommend(other)
        assert _NEW.item_id not in _scores(moved)
        assert _scores(moved) != {i: s for i, s in _scores(unmoved).items() if i != _NEW.item_id}

        # The present catalogue under the same weights.
        arguments = ["--run-dir", str(tiny_run.path), "--model-dir", str(models), "--catalogue", f"store:{url}"]
        overrides = ["--set", "export.fresh_items=true", "--set", "export.candidates=100"]
        assert await asyncio.to_thread(trainer, ["export", *arguments, *overrides]) == 0
        sealed = await _until(
            recommender,
            _SEARCH,
            lambda r: r.model_version == 2 and not r.degraded and r.items[0].source == "model",
        )
        assert sealed.items[0].item_id == _NEW.item_id
        listed = await _until(recommender, _LISTED, lambda r: all(item.source == "model" for item in r.items))
        assert _scores(listed) == pytest.approx(_scores(with_new), abs=1e-4)
        after = await recommender.recommend(other)
        assert _scores(after) == pytest.approx(_scores(moved), abs=1e-4)

        store.delete_items([_NEW.item_id])
        gone = await _until(recommender, _SEARCH, lambda r: _NEW.item_id not in _scores(r))
        assert not gone.degraded


def test_a_new_item_moves_from_the_fresh_tier_into_the_index(tiny_run: Run, models: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as store:
        import_dataset(tiny_run.dataset().path, store)
        with LiveServer(models, "--file_system_poll_wait_seconds=1") as server:
            server.wait_for_state(1, "AVAILABLE")
            asyncio.run(_live(tiny_run, models, store, url, server))
