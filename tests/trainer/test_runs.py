"""What a run records about its data, and which changes it detects."""

import json
import shutil
from pathlib import Path

import pytest

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.settings import Config, dump_config
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.runs import Run
from trainer.training.fit import fit

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def names(tmp_path: Path) -> Path:
    file = tmp_path / "names.yaml"
    file.write_text("Romance: {de: [Liebesfilm]}\n", encoding="utf-8")
    return file


@pytest.fixture
def named(tiny_run: Run, tiny: Dataset, names: Path, tmp_path: Path) -> Config:
    """Settings of a finished run in ``tmp_path / "run"``, whose categories have names."""
    path = tmp_path / "run"
    shutil.copytree(tiny_run.path, path, ignore=shutil.ignore_patterns("data.json"))
    data = tiny_run.config.data.model_copy(update={"category_names": names})
    config = tiny_run.config.model_copy(update={"data": data})
    (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    Run.open(path).record_data(tiny)
    return config


def test_changed_names_of_categories_are_noticed(named: Config, names: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    changed = rf"category names in {names} have changed since {path} was trained"
    names.write_text("# Another way of writing the same.\nRomance:\n  de:\n  - Liebesfilm\n", encoding="utf-8")
    assert fit(named, path).finished
    names.write_text("Romance: {de: [Liebesroman]}\n", encoding="utf-8")
    with pytest.raises(BabelrecError, match=changed):
        fit(named, path)
    with pytest.raises(BabelrecError, match=changed):
        evaluate_collaborative(Run.open(path))
    # The same names in another location are not a change.
    names.rename(tmp_path / "moved.yaml").write_text("Romance: {de: [Liebesfilm]}\n", encoding="utf-8")
    assert Run.open(path, [f"data.category_names={tmp_path / 'moved.yaml'}"]).dataset()
    with pytest.raises(BabelrecError, match=r"fingerprint none, then [0-9a-f]{12}"):
        Run.open(path, ["data.category_names=null"]).dataset()


def test_runs_of_former_versions_have_no_note_of_names(named: Config, names: Path, tmp_path: Path) -> None:
    record = tmp_path / "run" / "data.json"
    noted = json.loads(record.read_text())
    record.write_text(json.dumps({name: noted[name] for name in ("name", "fingerprint", "licence")}))
    names.write_text("Romance: {de: [Liebesroman]}\n", encoding="utf-8")
    assert fit(named, tmp_path / "run").finished


def test_changed_pairs_of_texts_are_noticed_by_training_alone(tiny: Dataset, tmp_path: Path) -> None:
    pairs = tiny_dataset(tmp_path / "pairs", items=40, users=20)
    alignment = {"source": {"name": "dataset", "path": str(pairs.path)}}
    config = tiny_config(tiny.path, training={"alignment": alignment | {"weight": 0.1}})
    run = Run.create(tmp_path / "run", config)
    run.record_data(tiny)
    run.record_data(tiny)
    shutil.rmtree(pairs.path)
    tiny_dataset(tmp_path / "pairs", items=42, users=20)
    assert run.dataset().fingerprint == tiny.fingerprint
    for check in (run.check_training_data, lambda: run.record_data(tiny)):
        with pytest.raises(BabelrecError, match=r"data of training\.alignment\.source have changed since"):
            check()
    # Unused pairs are not checked.
    unread = Run.create(tmp_path / "unread", tiny_config(tiny.path, training={"alignment": alignment}))
    unread.record_data(tiny)
    shutil.rmtree(pairs.path)
    unread.check_training_data()
