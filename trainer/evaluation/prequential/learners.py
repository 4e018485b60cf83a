"""The models of a prequential evaluation: trained one by one in processes of their own, and kept.

Processes keep this one's memory from growing with each model, and give the processor seconds that each takes.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer import child
from trainer.config.settings import Config, dump_config
from trainer.data.dataset import Dataset
from trainer.data.settings import DatasetSource
from trainer.errors import BabelrecError
from trainer.evaluation.prequential.windows import Window, state_before
from trainer.files import write_text
from trainer.runs import Run, learned_by

_RECORD: Final = "learned.json"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A model as of a window's beginning.

    Attributes:
        run: The finished run.
        seconds: Processor seconds, user and system, of the process that trained it and of its children.
    """

    run: Run
    seconds: float


class Learners:
    """Trains the models of each window, or finds those that an earlier evaluation has finished.

    An unfinished one is started again, so that its processor seconds are those of the whole training.

    Args:
        config: Settings of the models; its data is replaced by what was known.
        dataset: The complete dataset.
        folder: Directory of everything that is written.
    """

    def __init__(self, config: Config, dataset: Dataset, folder: Path) -> None:
        self._dataset = dataset
        self._folder = folder
        split = config.data.split.model_copy(update={"test_fraction": 0.0, "cold_items": 0.0})
        # Nobody watches these runs.
        unseen = {"loggers": [], "histograms": False, "projector_items": 0}
        self._config = config.model_copy(
            update={
                "data": config.data.model_copy(update={"split": split}),
                "training": config.training.model_copy(update=unseen),
            }
        )

    def retrained(self, window: Window) -> Learned:
        """A model trained from scratch (or as the config says) on what was known at the window's beginning."""
        state = self._state(window)
        source = DatasetSource(path=state.path)
        config = self._config.model_copy(update={"data": self._config.data.model_copy(update={"source": source})})
        job = {"data": state.fingerprint, "config": learned_by(config)}
        return self._learn(window, "retrained", job, config, ["trainer.task", "fit"])

    def updated(self, window: Window, champion: Run) -> Learned:
        """The update of a model (`trainer.updating`), learned up to the window before, by what has happened since."""
        state = self._state(window)
        given = {"from": str(champion.path), "data": str(state.path), "since": str(window.previous)}
        digests = {"champion": champion.weights_digest(), "fingerprint": state.fingerprint}
        job = {**given, **digests, "update": self._config.update.model_dump(mode="json", exclude={"gate"})}
        arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
        return self._learn(window, "updated", job, self._config, ["trainer.update_once", *arguments])

    def _place(self, window: Window) -> Path:
        return self._folder / f"before-{window.begin}"

    def _state(self, window: Window) -> Dataset:
        return state_before(self._dataset, window.begin, self._place(window) / "data")

    def _learn(self, window: Window, name: str, job: dict[str, Any], config: Config, command: list[str]) -> Learned:
        run_dir = self._place(window) / name
        digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
        if (run_dir / _RECORD).exists():
            run = Run.open(run_dir)
            record = run.read(_RECORD)
            if record["job"] == digest and run.finished:
                return Learned(run, float(record["processor_seconds"]))
        if run_dir.exists():
            shutil.rmtree(run_dir)
        settings = run_dir.with_suffix(".yaml")
        write_text(settings, dump_config(config))
        seconds = _run([*command, "--config", str(settings), "--run-dir", str(run_dir)], run_dir.with_suffix(".log"))
        run = Run.open(run_dir)
        run.write(_RECORD, {"job": digest, "processor_seconds": seconds})
        return Learned(run, seconds)


def _run(arguments: Sequence[str], log: Path) -> float:
    """Runs a module of this Python to its end; returns the processor seconds of the process and its children.

    Raises:
        BabelrecError: it failed.
    """
    before = os.times()
    with log.open("wb") as output:
        done = subprocess.run(
            child.command_of(arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    after = os.times()
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        raise BabelrecError(f"Training a model of the evaluation failed; its log {log} ends with: {last[:500]}")
    return after.children_user + after.children_system - before.children_user - before.children_system
