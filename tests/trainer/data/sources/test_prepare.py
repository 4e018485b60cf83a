"""The cache of prepared datasets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.data import builders
from trainer.config import DatasetSource, KmrdSource, TabularSource
from trainer.data import sources
from trainer.data.dataset import HEADER, Dataset
from trainer.data.faults import DatasetError
from trainer.data.sources import prepare
from trainer.files import cache_root


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TabularSource:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,event\nu,1,5,view\n")
    (tmp_path / "items.csv").write_text("item_id,title,language\n1,x,en\n")
    return TabularSource(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv")


def entries() -> list[str]:
    return sorted(path.name for path in (cache_root() / "datasets").iterdir())


def state(path: Path) -> list[tuple[str, int]]:
    return sorted((file.name, file.stat().st_mtime_ns) for file in path.iterdir())


def test_it_is_made_once(source: TabularSource) -> None:
    first = prepare(source)
    before = state(first.path)
    assert prepare(source) == first
    assert state(first.path) == before
    assert entries() == [first.path.name]


def test_changed_input_makes_another(source: TabularSource) -> None:
    first = prepare(source)
    source.interactions.write_text("user_id,item_id,timestamp,event\nu,1,6,view\n")
    os.utime(source.interactions, ns=(1, 1))
    second = prepare(source)
    assert second.path != first.path
    assert second.interactions().collect()["timestamp"].to_list() == [6]


def test_changed_settings_make_another(source: TabularSource) -> None:
    other = source.model_copy(update={"default_event": "click"})
    assert prepare(other).path != prepare(source).path


def test_a_new_version_of_the_adapter_makes_another(source: TabularSource, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(source)
    adapter = sources._ADAPTERS["tabular"]
    newer = sources._Adapter(adapter.inputs, adapter.write, adapter.version + 1)
    monkeypatch.setitem(sources._ADAPTERS, "tabular", newer)
    assert prepare(source).path != first.path


@pytest.mark.parametrize("damage", ["header gone", "table truncated", "table changed", "header broken"])
def test_a_damaged_entry_is_made_anew(source: TabularSource, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = prepare(source)
    table = first.path / "items.parquet"
    if damage == "header gone":
        (first.path / HEADER).unlink()
    elif damage == "table truncated":
        table.write_bytes(table.read_bytes()[:50])
    elif damage == "table changed":
        builders.items(item_id=["1", "2", "3"]).write_parquet(table)
    else:
        (first.path / HEADER).write_text("schema: [")
    again = prepare(source)
    assert again == first
    assert Dataset.load(first.path) == first
    assert "made anew" in caplog.text
    assert entries() == [first.path.name]


def test_a_killed_run_leaves_no_entry(source: TabularSource, tmp_path: Path) -> None:
    """Killed while the tables are written: no directory of the final name, and the next run makes it."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import trainer.data.dataset as module\n"
        "from trainer.config import TabularSource\n"
        "from trainer.data.sources import prepare\n"
        "module.fingerprint = lambda tables: os._exit(9)\n"
        "prepare(TabularSource(interactions=Path(sys.argv[1]), items=Path(sys.argv[2])))\n"
    )
    command = [sys.executable, "-c", script, str(source.interactions), str(source.items)]
    assert subprocess.run(command, check=False).returncode == 9
    assert all(name.startswith(".") for name in entries())
    dataset = prepare(source)
    assert Dataset.load(dataset.path) == dataset


@pytest.mark.parametrize("when", ["before writing", "while writing"])
def test_when_another_process_was_faster_its_result_is_taken(
    source: TabularSource, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    adapter = sources._ADAPTERS["tabular"]

    def slow(settings: TabularSource, path: Path) -> Dataset:
        adapter.write(settings, path)
        if when == "before writing":
            return adapter.write(settings, path)
        raise FileExistsError(path)

    monkeypatch.setitem(sources._ADAPTERS, "tabular", sources._Adapter(adapter.inputs, slow, adapter.version))
    assert prepare(source).rows == {"interactions": 1, "items": 1}


def test_a_dataset_is_its_own_source(tmp_path: Path) -> None:
    dataset = builders.write(tmp_path / "d")
    assert prepare(DatasetSource(path=dataset.path)) == dataset
    with pytest.raises(DatasetError, match="no dataset"):
        prepare(DatasetSource(path=tmp_path))


def test_an_error_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DatasetError):
        prepare(KmrdSource(path=tmp_path))
    assert not (tmp_path / "cache" / "datasets").exists()


def test_data_preparation_needs_no_tensorflow() -> None:
    script = (
        "import sys, trainer.data.sources, trainer.data.split, trainer.data.languages\n"
        "heavy = {'tensorflow', 'tf_keras', 'lingua'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
