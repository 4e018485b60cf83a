"""A roll-out on a live model server whose configuration file changes: no request fails on the way."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.client import RecommenderClient
from serving.labels import write_versions
from serving.service.options import default_options
from serving.service.recommendation import RecommendationRequest
from serving.service.recommender import LiveRecommender, open_recommender
from serving.service.store import RolloutState, Store
from tests.serving.live import LiveServer, wait_for
from tests.serving.models import copy_version
from tests.serving.service.recommender.waiting import until

_MODEL = "recommender"
_PEOPLE = [f"คน {number} 🙂" for number in range(20)]
_SECONDS = 60.0
Seen = Counter[tuple[str, int]]


@contextlib.asynccontextmanager
async def _asking(live: LiveRecommender) -> AsyncIterator[Seen]:
    """People ask all the time, and are never answered without a model; counts answers by variant and version."""
    seen: Seen = Counter()

    async def ask() -> None:
        while True:
            for each in _PEOPLE:
                found = await live.recommend(RecommendationRequest(user_id=each, k=3))
                assert (len(found.items), found.degraded) == (3, False)
                seen[found.variant, found.model_version] += 1
                await asyncio.sleep(0)

    task = asyncio.create_task(ask())
    try:
        yield seen
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until_only(seen: Seen, *kinds: tuple[str, int]) -> None:
    """Waits until everybody was answered like this, twice in a row."""

    async def holds() -> bool:
        seen.clear()
        await until(lambda: seen.total() >= 2 * len(_PEOPLE))
        return set(seen) == set(kinds)

    await until(holds)


def _write(path: Path, versions: list[int], **labels: int) -> None:
    write_versions(path, _MODEL, versions, labels)


def _has(server: LiveServer, version: int, label: str) -> bool:
    with RecommenderClient(server.address, _MODEL, version_label=label) as client:
        return any((each.version, each.state) == (version, "AVAILABLE") for each in client.status())


@pytest.fixture
def base_and_file(tmp_path: Path, exports: dict[int, Path]) -> tuple[Path, Path]:
    base, file = tmp_path / "모델", tmp_path / "models.config"
    base.mkdir()
    copy_version(exports[1], base / "1")
    file.write_text(
        f'model_config_list {{ config {{ name: "{_MODEL}" base_path: "{base}" model_platform: "tensorflow" }} }}',
        "utf-8",
    )
    return base, file


def test_a_roll_out_from_the_file_to_the_people(
    store: Store, sqlite: str, exports: dict[int, Path], base_and_file: tuple[Path, Path]
) -> None:
    base, file = base_and_file
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    _write(file, [1])
    with LiveServer(base, *flags) as server:
        options = default_options(
            store=sqlite, model_server=server.address, canary=True, canary_shares=(0.5,), deadline_ms=20_000
        )
        _write(file, [1], stable=1)

        async def run() -> None:
            async with open_recommender(store, options) as live, _asking(live) as seen:
                await _until_only(seen, ("", 1))
                rollout = store.start_rollout(_MODEL, 1, 2, "job")
                await asyncio.to_thread(wait_for, lambda: _has(server, 1, "stable"), _SECONDS, "the label")
                copy_version(exports[2], base / "2")
                _write(file, [1, 2], stable=1)
                await asyncio.to_thread(server.wait_for_log, "applying the changed")
                # Perhaps it is not loaded yet when it gets its label: then the file is refused, and read again.
                with RecommenderClient(server.address, _MODEL) as client:
                    await asyncio.to_thread(
                        wait_for, lambda: client.status()[0].version == 2, _SECONDS, "version 2 to be listed"
                    )
                _write(file, [1, 2], stable=1, canary=2)
                await _until_only(seen, ("stable", 1), ("canary", 2))
                assert store.rollout(rollout.number).state is RolloutState.RUNNING
                # Somebody unloads it amid the traffic.
                _write(file, [1], stable=1)
                await _until_only(seen, ("stable", 1), ("canary", 1))
                _write(file, [1, 2], stable=1)
                with RecommenderClient(server.address, _MODEL, version=2) as client:
                    await asyncio.to_thread(
                        wait_for, lambda: client.status()[0].state == "AVAILABLE", _SECONDS, "version 2"
                    )
                _write(file, [1, 2], stable=1, canary=2)
                await _until_only(seen, ("stable", 1), ("canary", 2))
                store.change_rollout(store.rollout(1), RolloutState.PROMOTED, "ana", "좋다")
                await _until_only(seen, ("", 2))
                _write(file, [1, 2], stable=2)
                await until(lambda: live.model_version == 2)
                _write(file, [2], stable=2)
                await _until_only(seen, ("", 2))
                store.end_rollout(1, "job")
                await _until_only(seen, ("", 2))

        asyncio.run(run())
