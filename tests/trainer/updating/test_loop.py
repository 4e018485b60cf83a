"""The loop: updates, trials, labels, and what is left when it is killed in between."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.labels import ModelVersions
from serving.service.store import Rollout, RolloutState, Store, open_store
from tests.trainer.tiny import tiny_config
from trainer.errors import BabelrecError
from trainer.runs import Run
from trainer.updating.loop import Loop, LoopSettings
from trainer.updating.update import STATE_FILE, Updates
from trainer.updating.verdict import Check, Verdict, save_verdict

_DAY = 86_400.0


class _World:
    """A run, a model with versions, a store; updates are made up and always exported, unless they are refused."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        run = Run.create(folder / "run", tiny_config(folder / "data"))
        self.updates = Updates(run)
        self.model = folder / "models" / "shop"
        (self.model / "1").mkdir(parents=True)
        self.config = folder / "models.config"
        self.available: set[int] | None = {1}
        self.made = 0
        self.refused = False
        self.now = 1_000_000.0
        settings = LoopSettings(
            run=run,
            model_dir=self.model,
            base_path=self.model,
            config=self.config,
            model_server="127.0.0.1:1",
            store_url="",
            every=_DAY,
        )
        self.loop = Loop(store, settings, self.update, lambda: self.available)

    def update(self) -> None:
        """An update."""
        self.updates.folder.mkdir(exist_ok=True)
        self.updates.begin(self.now)
        self.made += 1
        folder = self.updates.open_one()
        folder.mkdir()
        Run.create(folder / "run", tiny_config(folder / "data"))
        check = Check("quality", "all people", "ndcg@10", 0.1, 0.2, 0.05, not self.refused, 90, 0.1, 0.05, 0.15)
        verdict = Verdict(not self.refused, "champion", "challenger", 0, 90, 100, [check])
        save_verdict(verdict, folder)
        version = None if self.refused else 1 + max(int(path.name) for path in self.model.iterdir())
        if version is not None:
            (self.model / f"{version}").mkdir()
        (folder / STATE_FILE).write_text(json.dumps({"promoted": True, "version": version, "reason": ""}))
        self.updates.end(verdict.sentence)

    def step(self) -> str:
        return self.loop.step(self.now)

    @property
    def labels(self) -> tuple[set[int], dict[str, int]]:
        found = ModelVersions.read(self.config, "shop")
        return set(found.versions), dict(found.labels)

    @property
    def rollout(self) -> Rollout:
        found = self.store.current_rollout("shop")
        assert found is not None
        return found

    def decide(self, state: RolloutState) -> None:
        running = self.store.change_rollout(self.rollout, RolloutState.RUNNING, "test", "ready", share=0.05)
        self.store.change_rollout(running, state, "test", "decided")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[_World]:
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        yield _World(tmp_path, store)


def test_a_better_version_is_tried_and_then_serves_everybody(world: _World) -> None:
    assert world.step().startswith("Version 2 is to be tried: Promoted on 100 newest positives of 90 people")
    # Services that do not know of the roll-out yet would all be answered by it.
    assert world.labels == ({1}, {"stable": 1})
    assert world.rollout.report["update"] == "0001"
    assert world.rollout.report["gate"].keys() == {"promoted", "since", "people", "positives", "checks"}
    assert world.step() == "Version 2 is waiting."
    # A label of a version that is not loaded would be refused, and the version never loaded.
    assert world.labels == ({1, 2}, {"stable": 1})
    world.available = {1, 2}
    world.step()
    assert world.labels == ({1, 2}, {"stable": 1, "canary": 2})
    world.decide(RolloutState.PROMOTED)
    assert world.updates.champion.path == world.updates.folder.parent
    assert world.step() == "Version 2 is to serve everybody; the model server still has version 1."
    assert world.labels == ({2}, {"stable": 2})
    world.available = None  # it is away
    assert world.step().endswith("the model server still has version 1.")
    world.available = {2}
    assert world.step() == "Version 2 serves everybody: decided"
    assert world.updates.champion.path == world.updates.folder / "0001" / "run"
    assert world.store.current_rollout("shop") is None
    assert world.step() == "The next update begins in 86400 s."
    assert world.made == 1
    world.now += _DAY
    assert world.step().startswith("Version 3 is to be tried")
    world.step()
    assert world.labels == ({2, 3}, {"stable": 2})


def test_a_version_that_was_rolled_back_serves_nobody(world: _World) -> None:
    world.step()
    world.available = {1, 2}
    world.step()
    world.decide(RolloutState.ROLLED_BACK)
    world.available = {1}
    assert world.step() == "Version 1 serves everybody: decided"
    assert world.labels == ({1}, {"stable": 1})
    assert world.updates.champion.path == world.updates.folder.parent
    # It is not tried again.
    assert world.step().startswith("The next update begins in")


def test_a_refused_update_is_not_tried(world: _World) -> None:
    world.refused = True
    assert world.step().startswith("Refused on 100 newest positives")
    assert world.store.current_rollout("shop") is None
    assert world.labels == ({1}, {"stable": 1})


@pytest.mark.parametrize("lost", ["start_rollout", "end_rollout"])
def test_a_killed_loop_goes_on(world: _World, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    if lost == "start_rollout":
        with monkeypatch.context() as patch:
            patch.setattr(world.store, lost, killed)
            with pytest.raises(KeyboardInterrupt):
                world.step()
        assert world.step().startswith("Version 2 is to be tried")
        assert world.made == 1
        return
    world.step()
    world.decide(RolloutState.PROMOTED)
    world.available = {2}
    with monkeypatch.context() as patch:
        patch.setattr(world.store, lost, killed)
        with pytest.raises(KeyboardInterrupt):
            world.step()
    assert world.step() == "Version 2 serves everybody: decided"
    assert world.labels == ({2}, {"stable": 2})
    assert world.store.current_rollout("shop") is None


def test_without_a_version_there_is_nothing_to_begin_with(world: _World) -> None:
    (world.model / "1").rmdir()
    with pytest.raises(BabelrecError, match="has no version yet"):
        world.step()
