"""Updates again and again, each tried on a share of the people before it serves everybody.

The loop has no state of its own: what it does next follows from the store's roll-outs, the updates' directories and the
model server's configuration file. So it can be killed anywhere, and may as well be run once an hour by a timer.
"""

import json
import logging
import os
import subprocess
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from serving.client import RecommenderClient
from serving.client.errors import ServingError
from serving.labels import ModelVersions, create_config, write_versions
from serving.service.options import STORE_VARIABLE
from serving.service.store import Rollout, RolloutState, Store
from trainer import child
from trainer.errors import BabelrecError
from trainer.runs import Run
from trainer.steps import newest
from trainer.updating.update import STATE_FILE, Updates
from trainer.updating.verdict import load_verdict

_LOG = logging.getLogger(__name__)
STABLE, CANARY = "stable", "canary"
_ACTOR: Final = "trainer.task loop"
_AVAILABLE: Final = "AVAILABLE"
_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """Where a loop works.

    Attributes:
        run: The first champion.
        model_dir: Base path of the served model; its name is the model's.
        base_path: The same as the model server sees it.
        config: The model server's configuration file; made if there is none.
        model_server: Its gRPC address.
        store_url: Given to updates, which are processes of their own.
        every: Seconds between the beginnings of two updates.
        overrides: ``update.KEY=VALUE``, for these updates.
    """

    run: Run
    model_dir: Path
    base_path: Path
    config: Path
    model_server: str
    store_url: str
    every: float
    overrides: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Its name."""
        return self.base_path.name


class Loop:
    """Brings updates and roll-outs forward, step by step.

    Args:
        store: Of the service.
        settings: Where.
        run_update: Makes one update; None: in a process of its own.
        available: The versions that the model server answers with, or None if it does not say; default: it is asked.
    """

    def __init__(
        self,
        store: Store,
        settings: LoopSettings,
        run_update: Callable[[], None] | None = None,
        available: Callable[[], Collection[int] | None] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._updates = Updates(settings.run)
        self._run_update = run_update or self._update
        self._available = available or self._loaded

    def step(self, now: float) -> str:
        """Does what is to be done now; returns what that was, in one sentence.

        Args:
            now: Unix seconds.

        Raises:
            BabelrecError: an update failed, or there is no version to begin with.
        """
        rollout = self._store.current_rollout(self._settings.model)
        if rollout is not None:
            return self._follow(rollout)
        self._begin_with_stable()
        waiting = self._not_tried()
        if waiting is not None:
            return self._start(*waiting)
        seconds = self._updates.last_begun() + self._settings.every - now
        if seconds > 0.0:
            return f"The next update begins in {seconds:.0f} s."
        self._run_update()
        waiting = self._not_tried()
        return self._updates.last_sentence() if waiting is None else self._start(*waiting)

    def _follow(self, rollout: Rollout) -> str:
        """Lets the model server's configuration follow a roll-out."""
        available = self._available()
        if rollout.state in (RolloutState.WAITING, RolloutState.RUNNING):
            labels = {STABLE: rollout.stable}
            if available is not None and rollout.canary in available:
                labels[CANARY] = rollout.canary
            self._write({rollout.stable, rollout.canary}, labels)
            share = f" for {rollout.stages[-1].share:.0%}" if rollout.stages else ""
            return f"Version {rollout.canary} is {rollout.state.value}{share}."
        promoted = rollout.state is RolloutState.PROMOTED
        served, other = (rollout.canary, rollout.stable) if promoted else (rollout.stable, rollout.canary)
        self._write({served}, {STABLE: served})
        if available is None or other in available:
            # Services that name no label would be answered by the newest version that is loaded.
            return f"Version {served} is to serve everybody; the model server still has version {other}."
        # First in the file, then in the records: killed in between, this comes again.
        if promoted:
            self._updates.promote(self._updates.of_version(rollout.canary))
        self._store.end_rollout(rollout.number, _ACTOR)
        return f"Version {served} serves everybody: {rollout.reason}"

    def _begin_with_stable(self) -> None:
        """Makes the configuration file, with the newest version as the stable one."""
        if self._settings.config.exists():
            return
        version = newest(self._settings.model_dir)
        if version is None:
            raise BabelrecError(f"{self._settings.model_dir} has no version yet. Export one: trainer.task export.")
        create_config(self._settings.config, self._settings.model, str(self._settings.base_path))
        self._write({int(version.name)}, {STABLE: int(version.name)})

    def _not_tried(self) -> tuple[int, Path] | None:
        """The exported version of the newest update, if no roll-out has had it, and the update's directory."""
        folder = self._updates.last_over()
        if folder is None:
            return None
        version = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["version"]
        if version is None or any(each.canary == version for each in self._store.rollouts()):
            return None
        return int(version), folder

    def _start(self, version: int, folder: Path) -> str:
        stable = self._stable()
        verdict = load_verdict(folder)
        # Without the runs' directories, which are nobody's business who may read a roll-out.
        gate = {name: value for name, value in asdict(verdict).items() if name not in ("champion", "challenger")}
        report = {"update": folder.name, "sentence": verdict.sentence, "gate": gate}
        # The configuration follows in the next step, when all services name labels.
        self._store.start_rollout(self._settings.model, stable, version, _ACTOR, report)
        return f"Version {version} is to be tried: {verdict.sentence}"

    def _stable(self) -> int:
        labels = ModelVersions.read(self._settings.config, self._settings.model).labels
        if STABLE not in labels:
            raise BabelrecError(f"{self._settings.config} has no label `{STABLE}`. Remedy: give one to a version.")
        return labels[STABLE]

    def _write(self, versions: set[int], labels: dict[str, int]) -> None:
        now = ModelVersions.read(self._settings.config, self._settings.model)
        if (set(now.versions), dict(now.labels)) != (versions, labels):
            write_versions(self._settings.config, self._settings.model, versions, labels)

    def _loaded(self) -> Collection[int] | None:
        """The versions that the model server answers with; None: it does not say."""
        try:
            with RecommenderClient(self._settings.model_server, model_name=self._settings.model) as client:
                states = client.status(timeout=_TIMEOUT)
        except ServingError as error:
            _LOG.warning("The model server does not say which versions it has: %s", error)
            return None
        return {each.version for each in states if each.state == _AVAILABLE}

    def _update(self) -> None:
        where = ["--run-dir", str(self._settings.run.path), "--model-dir", str(self._settings.model_dir)]
        changes = [part for each in self._settings.overrides for part in ("--set", each)]
        command = child.command_of(["trainer.task", "update", *where, *changes, "--for-trial"])
        # Not an argument: it may have a password.
        environment = {**os.environ, STORE_VARIABLE: self._settings.store_url}
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode:
            raise BabelrecError(f"The update ended with {done.returncode}; see its message above.")
