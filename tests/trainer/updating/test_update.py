"""Updates from a store: learned, judged, exported, and continued where they were killed."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from serving.service.importing import import_dataset
from serving.service.store import Store, open_store
from serving.service.types import Event
from tests.trainer.tiny import GENRES
from trainer.data.dataset import Dataset
from trainer.runs import Run
from trainer.updating import challenge
from trainer.updating import update as module
from trainer.updating.learning import update_config
from trainer.updating.settings import GateConfig, UpdateConfig
from trainer.updating.update import Updates, update
from trainer.updating.verdict import load_verdict

pytestmark = pytest.mark.usefixtures("cache")
_LATER = 1_700_000_000
# Wide, since these tests are not about what so few people and steps come to. All new labels are 1: losses are tiny.
_WIDE = GateConfig(least=20, share=0.5, margin=0.5, slice_margin=1.0, calibration=10.0)
_SETTINGS = UpdateConfig(epochs=4, gate=_WIDE)


@pytest.fixture(scope="module")
def champion(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of its own, below which updates can be written."""
    path = tmp_path_factory.mktemp("updates") / "run"
    shutil.copytree(tiny_run.path, path)
    return Run.open(path)


@pytest.fixture
def store(tiny: Dataset, tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        import_dataset(tiny.path, opened)
        yield opened


@pytest.fixture
def run(champion: Run, tmp_path: Path) -> Run:
    """The champion, without updates."""
    shutil.copytree(champion.path, tmp_path / "run", ignore=shutil.ignore_patterns("updates"))
    return Run.open(tmp_path / "run")


def _evening(tiny: Dataset, *, seed: int = 0, shuffled: bool = False) -> list[Event]:
    """Everybody likes some more of what they liked, or of anything."""
    draws = np.random.default_rng(seed)
    genres = {row["item_id"]: row["categories"][0] for row in tiny.items().collect().iter_rows(named=True)}
    rated = tiny.interactions().collect()
    events = []
    for user in range(80):
        known = set(rated.filter(pl.col("user_id") == f"u{user}")["item_id"])
        wanted = GENRES[user % 2]
        left = [item for item, genre in genres.items() if item not in known and (shuffled or genre == wanted)]
        for place, item in enumerate(draws.choice(left, 4, replace=False)):
            moment = _LATER + 10_000 * seed + int(draws.integers(5_000)) + place
            name = f"{seed}-{user}-{item}"
            values = {"event_id": name, "event": "rating", "value": 5.0, "timestamp": moment}
            events.append(Event(user_id=f"u{user}", item_id=str(item), **values))  # type: ignore[arg-type]
    return events


def test_a_bad_update_is_refused(tiny: Dataset, store: Store, run: Run, tmp_path: Path) -> None:
    store.append_events(_evening(tiny))
    # It forgets, and the gate is strict.
    gate = _SETTINGS.gate.model_copy(update={"margin": 0.0, "coverage": 1.0})
    settings = _SETTINGS.model_copy(update={"rate": 10.0, "gate": gate})
    refused = update(store, run, tmp_path / "model", settings)
    assert refused.folder is not None
    assert refused.verdict is not None
    assert not refused.verdict.promoted
    assert refused.version is None
    assert not (tmp_path / "model").exists()
    assert Updates(run).champion.path == run.path
    assert (refused.folder / "gate.md").read_text(encoding="utf-8").startswith("# Refused")
    assert "Refused on" in json.loads((refused.folder / "update.json").read_text())["reason"]


def test_data_with_a_fault_is_refused_before_anything_is_learned(
    tiny: Dataset, store: Store, run: Run, tmp_path: Path
) -> None:
    store.append_events(_evening(tiny))
    copies = [
        replace(change.item, item_id=f"copy of {change.item_id}")
        for batch in store.all_items()
        for change in batch
        if change.item is not None
    ]
    store.put_items(copies)
    refused = update(store, run, tmp_path / "model", _SETTINGS)
    assert refused.folder is not None
    assert refused.verdict is not None
    assert "Refused before training: share of items with the text of another" in refused.verdict.sentence
    assert refused.version is None
    assert not (refused.folder / "run").exists()


def test_too_little_is_no_update(tiny: Dataset, store: Store, run: Run, tmp_path: Path) -> None:
    store.append_events(_evening(tiny)[:30])
    found = update(store, run, tmp_path / "model", _SETTINGS)
    assert (found.new, found.verdict, found.folder) == (30, None, None)
    assert list((run.path / "updates").glob("0*")) == []


class _Killed(BaseException):
    """As SIGKILL: nothing is cleaned up by the code."""


_STEPS = ("take_snapshot", "learn_on", "compare", "write_report", "save_verdict", "export", "write_text")


def test_an_update_that_is_killed_after_each_step_continues(
    tiny: Dataset, store: Store, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append_events(_evening(tiny))
    for number, step in enumerate(_STEPS):
        # Where the step is called.
        place = module if hasattr(module, step) else challenge
        usual = getattr(place, step)

        def killed(
            *arguments: object, step: str = step, usual: Callable[..., object] = usual, **more: object
        ) -> object:
            found = usual(*arguments, **more)
            if step == "write_text" and "champion.json" not in str(arguments[0]):
                return found
            raise _Killed

        with monkeypatch.context() as patch:
            patch.setattr(place, step, killed)
            with pytest.raises(_Killed):
                update(store, run, tmp_path / "model", _SETTINGS)
        # What comes meanwhile is for the next one.
        store.append_events(_evening(tiny, seed=1)[number * 40 : number * 40 + 40])
    first = update(store, run, tmp_path / "model", _SETTINGS)
    assert first.folder == run.path / "updates" / "0001"
    assert first.verdict is not None
    assert (first.new, first.verdict.positives) == (320, 160)
    assert first.verdict.promoted, first.verdict.sentence
    assert load_verdict(first.folder) == first.verdict
    challenger = Run.open(first.folder / "run")
    assert Updates(run).champion.path == challenger.path
    # One version, of the challenger, and nothing half-made.
    assert [path.name for path in (tmp_path / "model").iterdir() if not path.name.startswith(".")] == ["1"]
    assert first.version == tmp_path / "model" / "1"
    card = json.loads((first.version / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))
    assert card["weights"] == challenger.weights_digest()
    # What the challenger was judged by is newer than all that it has learned from.
    events = challenger.dataset().interactions().collect()
    assert events.filter(pl.col("timestamp") >= first.verdict.since)["event_id"].n_unique() == 160
    assert (first.folder / "gate.md").read_text(encoding="utf-8").startswith("# Promoted")
    assert (first.folder / "gate.png").read_bytes().startswith(b"\x89PNG")
    # The next one starts from it, and continues its feed.
    second = update(store, run, tmp_path / "model", _SETTINGS)
    assert second.folder == run.path / "updates" / "0002"
    assert Run.open(second.folder / "run").config.training.start_from == challenger.path.absolute()
    assert json.loads((second.folder / "snapshot.json").read_text())["rows"]["new"] == 40 * len(_STEPS)
    # What no update can start from any more is gone, but for its report.
    promoted = second.verdict is not None and second.verdict.promoted
    assert challenger.path.exists() != promoted
    assert (first.folder / "gate.md").exists()
    # Nothing has happened since the data that the champion has learned from.
    if promoted:
        assert update(store, run, tmp_path / "model", _SETTINGS).verdict is None


def test_old_positives_are_replayed(tiny: Dataset, tiny_run: Run) -> None:
    from trainer.data.catalogue import Catalogue
    from trainer.data.pipeline import TrainingData
    from trainer.data.split import split
    from trainer.data.vocabulary import Vocabulary

    moments = tiny.interactions().collect()["timestamp"].sort()
    since = int(moments[int(0.9 * len(moments))])
    sizes = {}
    for replay in (None, 0.0, 2.0):
        settings = UpdateConfig(replay=replay)
        config = update_config(tiny_run, tiny, settings, kept=0, since=since)
        parts = split(tiny, config.data)
        catalogue = Catalogue.from_dataset(tiny)
        vocabulary = Vocabulary.from_training(tiny, catalogue, parts, config)
        data = TrainingData(tiny, catalogue, vocabulary, parts, vocabulary.heads(config.data.positives), config)
        new = int((data.positives.timestamp >= since).sum())
        sizes[replay] = len(data.positives), new
        assert data.item_counts.sum() == parts.train.height
        assert len(data.histories.items) == parts.train.height
    new = sizes[0.0][0]
    assert 0 < new == sizes[0.0][1] == sizes[None][1]
    assert sizes[2.0] == (3 * new, new)
    assert sizes[None][0] == parts.train.height
