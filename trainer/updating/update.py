"""One update, from the store's events to a new version of the served model, or to the reasons against it."""

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from serving.service.store import Store
from trainer.data.dataset import Dataset
from trainer.data.split import positives
from trainer.data.stored_items import present_catalogue
from trainer.export.export import export
from trainer.files import write_text
from trainer.locks import writing_alone
from trainer.runs import Run
from trainer.updating.gate import compare
from trainer.updating.learning import learn_on
from trainer.updating.report import write_report
from trainer.updating.settings import UpdateConfig
from trainer.updating.snapshot import Snapshot, take_snapshot
from trainer.updating.verdict import GATE_FILE, Verdict, load_verdict, save_verdict

_LOG = logging.getLogger(__name__)
_BEGUN: Final = "begun.json"
_STATE: Final = "update.json"
_CHAMPION: Final = "champion.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an update.

    Attributes:
        folder: Its directory; None: there was too little to learn from.
        verdict: Of the gate; None likewise.
        version: Version directory of the challenger; None: it was refused.
        new: Positives that were new to the champion.
    """

    folder: Path | None
    verdict: Verdict | None
    version: Path | None
    new: int


class Updates:
    """The updates of a run: directories ``updates/0001``, ``0002``, ... in its own.

    Each has ``snapshot.json`` and ``dataset``, the challenger's ``run``, ``gate.json`` with its report, and
    ``update.json`` once it is over. Every part appears by a rename when it is complete, so that an update that was
    killed anywhere continues with what is missing.

    Args:
        run: The first champion.
    """

    def __init__(self, run: Run) -> None:
        self._first = run
        self.folder = run.path / "updates"

    @property
    def champion(self) -> Run:
        """The newest run that was promoted and not rolled back since; the first one if none was."""
        file = self.folder / _CHAMPION
        if not file.exists():
            return self._first
        return Run.open(self.folder / json.loads(file.read_text(encoding="utf-8"))["update"] / "run")

    def promote(self, folder: Path) -> None:
        """Makes the challenger of an update the champion."""
        write_text(self.folder / _CHAMPION, json.dumps({"update": folder.name}) + "\n")

    def open_one(self) -> Path:
        """The directory of the update that was begun and is not over, or of a new one."""
        numbers = sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdecimal())
        if numbers and not (last := self.folder / f"{numbers[-1]:04}").joinpath(_STATE).exists():
            return last
        return self.folder / f"{(numbers[-1] if numbers else 0) + 1:04}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes from updating the same run meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with writing_alone(self.folder):
            yield


def update(
    store: Store, run: Run, model_dir: Path, settings: UpdateConfig, *, gate: bool = True, promote: bool = True
) -> Outcome:
    """Learns on from a store, judges, and exports what is better; continues an update that was killed.

    Args:
        store: Of the service.
        run: The first champion's run; see `Updates`.
        model_dir: Base path of the served model.
        settings: How.
        gate: False exports the challenger whatever the gate says, which is recorded all the same.
        promote: Whether an exported challenger is the champion of the next update at once; False: `Updates.promote`
            is called when it has proved itself (`trainer.updating.loop`).

    Raises:
        BabelrecError: the run is not finished, or another process updates it.
    """
    updates = Updates(run)
    with updates.alone():
        champion, folder = updates.champion, updates.open_one()
        settings = _begun_with(folder, champion, settings)
        before, mark = champion.dataset(), _mark(champion)
        dataset, snapshot = take_snapshot(store, before, mark, folder, days=settings.days)
        since = _learned_until(champion, snapshot)
        new = _count_new(dataset, since, champion)
        kept = min(settings.gate.positives, int(settings.gate.share * new))
        if kept < settings.gate.least:
            _LOG.info("%d new positives are too few to learn from and to judge by.", new)
            shutil.rmtree(folder)
            return Outcome(None, None, None, new)
        challenger = learn_on(champion, dataset, folder / "run", settings, kept=kept, since=since)
        verdict = _judged(folder, champion, challenger, dataset, settings)
        version = None
        if verdict.promoted or not gate:
            version = _exported(store, challenger, model_dir)
            if promote:
                updates.promote(folder)
        record: dict[str, Any] = {
            "promoted": verdict.promoted,
            "version": None if version is None else int(version.name),
            "reason": verdict.sentence,
        }
        write_text(folder / _STATE, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
    _LOG.info("%s", verdict.sentence)
    return Outcome(folder, verdict, version, new)


def _begun_with(folder: Path, champion: Run, settings: UpdateConfig) -> UpdateConfig:
    """The settings that an update was begun with; one of another champion is begun anew."""
    file = folder / _BEGUN
    if file.exists():
        begun = json.loads(file.read_text(encoding="utf-8"))
        if begun["champion"] == str(champion.path.absolute()):
            return UpdateConfig.model_validate(begun["settings"])
        _LOG.info("%s was begun from another champion; it begins again.", folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    begun = {"champion": str(champion.path.absolute()), "settings": settings.model_dump(mode="json")}
    write_text(file, json.dumps(begun, indent=2) + "\n")
    return settings


def _mark(champion: Run) -> str:
    """Of the feed, up to which the champion's data goes; empty: it was made without the store."""
    snapshot = Snapshot.read(champion.path.parent)
    return "" if snapshot is None else snapshot.mark


def _learned_until(champion: Run, snapshot: Snapshot) -> int:
    """Unix seconds from which on nothing was learned by the champion: its gate's events are in its data."""
    folder = champion.path.parent
    return load_verdict(folder).since if (folder / GATE_FILE).exists() else snapshot.since


def _count_new(dataset: Dataset, since: int, champion: Run) -> int:
    found = positives(dataset, champion.config.data.positives)
    return found.filter(pl.col("timestamp") >= since).height


def _judged(folder: Path, champion: Run, challenger: Run, dataset: Dataset, settings: UpdateConfig) -> Verdict:
    if (folder / GATE_FILE).exists():
        return load_verdict(folder)
    verdict = compare(champion, challenger, dataset, settings.gate)
    write_report(verdict, folder)
    save_verdict(verdict, folder)
    return verdict


def _exported(store: Store, challenger: Run, model_dir: Path) -> Path:
    """The challenger's version; a killed update may have written it already."""
    weights = challenger.weights_digest()
    for version in model_dir.glob("*"):
        card = version / "assets.extra" / "model_card.json"
        if version.name.isdecimal() and card.exists() and json.loads(card.read_text("utf-8"))["weights"] == weights:
            return version
    with tempfile.TemporaryDirectory() as folder:
        present = present_catalogue(store, challenger.dataset(), Path(folder) / "items")
        return export(challenger, model_dir, present)
