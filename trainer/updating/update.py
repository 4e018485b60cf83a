"""One update, from the store's events to a new version of the served model, or to the reasons against it."""

import contextlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serving.service.store import Store
from trainer.data.stored_items import present_catalogue
from trainer.errors import BabelrecError
from trainer.export.export import export
from trainer.files import write_text
from trainer.locks import writing_alone
from trainer.runs import Run
from trainer.updating.challenge import challenge, new_positives
from trainer.updating.settings import UpdateConfig
from trainer.updating.snapshot import Snapshot, take_snapshot
from trainer.updating.verdict import GATE_FILE, Verdict, load_verdict

_LOG = logging.getLogger(__name__)
_BEGUN: Final = "begun.json"
STATE_FILE: Final = "update.json"
_CHAMPION: Final = "champion.json"
_LAST: Final = "last.json"


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

    def last_over(self) -> Path | None:
        """The directory of the newest update that is over; None: there is none."""
        over = [path.parent for path in self.folder.glob(f"[0-9]*/{STATE_FILE}")]
        return max(over, key=lambda path: int(path.name), default=None)

    def of_version(self, version: int) -> Path:
        """The directory of the update that was exported as a version.

        Raises:
            BabelrecError: there is none.
        """
        for path in self.folder.glob(f"[0-9]*/{STATE_FILE}"):
            if json.loads(path.read_text(encoding="utf-8"))["version"] == version:
                return path.parent
        raise BabelrecError(f"No update below {self.folder} was exported as version {version}.")

    def begin(self, now: float) -> None:
        """Notes that an update has begun."""
        write_text(self.folder / _LAST, json.dumps({"begun": now, "sentence": "It has not ended."}) + "\n")

    def end(self, sentence: str) -> None:
        """Notes what became of the update that was begun."""
        last = {"begun": self.last_begun(), "sentence": sentence}
        write_text(self.folder / _LAST, json.dumps(last, ensure_ascii=False) + "\n")

    def last_begun(self) -> float:
        """When the newest update was begun, unix seconds; 0: none was."""
        return float(self._last()["begun"])

    def last_sentence(self) -> str:
        """What became of it."""
        return str(self._last()["sentence"])

    def _last(self) -> dict[str, Any]:
        file = self.folder / _LAST
        found: dict[str, Any] = {"begun": 0.0, "sentence": ""}
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else found

    def open_one(self) -> Path:
        """The directory of the update that was begun and is not over, or of a new one."""
        numbers = sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdecimal())
        if numbers and not (last := self.folder / f"{numbers[-1]:04}").joinpath(STATE_FILE).exists():
            return last
        return self.folder / f"{(numbers[-1] if numbers else 0) + 1:04}"

    def prune(self, folder: Path) -> None:
        """Removes data and runs of updates that are over, but for the champion's and one more; reports stay."""
        kept = {folder, self.champion.path.parent}
        for path in self.folder.glob(f"[0-9]*/{STATE_FILE}"):
            if path.parent not in kept:
                for part in ("dataset", "run"):
                    shutil.rmtree(path.parent / part, ignore_errors=True)

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
        folder = updates.open_one()
        updates.begin(time.time())
        champion, settings = _begun_with(folder, updates.champion, settings)
        before, mark = champion.dataset(), _mark(champion)
        dataset, snapshot = take_snapshot(store, before, mark, folder, days=settings.days)
        since = _learned_until(champion, snapshot)
        new = new_positives(dataset, champion.config.data.positives, since).height
        kept = settings.gate.kept(new)
        # What the last gate has kept is new to the champion, but has been there before.
        if kept < settings.gate.least or not snapshot.rows["new"]:
            updates.end(f"{new:,} new positives are too few to learn from and to judge by.")
            shutil.rmtree(folder)
            return Outcome(None, None, None, new)
        challenger, verdict = challenge(folder, champion, dataset, settings, kept=kept, since=since)
        version = None
        if challenger is not None and (verdict.promoted or not gate):
            version = _exported(store, challenger, model_dir)
            if promote:
                updates.promote(folder)
        record: dict[str, Any] = {
            "promoted": verdict.promoted,
            "version": None if version is None else int(version.name),
            "reason": verdict.sentence,
        }
        write_text(folder / STATE_FILE, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
        updates.end(verdict.sentence)
        updates.prune(folder)
    return Outcome(folder, verdict, version, new)


def _begun_with(folder: Path, champion: Run, settings: UpdateConfig) -> tuple[Run, UpdateConfig]:
    """What an update was begun with; one whose champion is the champion no longer is begun anew."""
    file = folder / _BEGUN
    if file.exists():
        begun = json.loads(file.read_text(encoding="utf-8"))
        # It may have been killed right after its challenger had become the champion.
        if champion.path.absolute() in (Path(begun["champion"]), (folder / "run").absolute()):
            return Run.open(Path(begun["champion"])), UpdateConfig.model_validate(begun["settings"])
        _LOG.info("%s was begun from another champion; it begins again.", folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    begun = {"champion": str(champion.path.absolute()), "settings": settings.model_dump(mode="json")}
    write_text(file, json.dumps(begun, indent=2) + "\n")
    return champion, settings


def _mark(champion: Run) -> str:
    """Of the feed, up to which the champion's data goes; empty: it was made without the store."""
    snapshot = Snapshot.read(champion.path.parent)
    return "" if snapshot is None else snapshot.mark


def _learned_until(champion: Run, snapshot: Snapshot) -> int:
    """Unix seconds from which on nothing was learned by the champion: its gate's events are in its data."""
    folder = champion.path.parent
    return load_verdict(folder).since if (folder / GATE_FILE).exists() else snapshot.since


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
