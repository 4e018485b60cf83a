"""The cache of prepared datasets."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.data import builders
from trainer.data import sources
from trainer.data.dataset import HEADER, Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import DatasetSource, KmrdSource, MindSource, MovieLens100kSource, TabularSource
from trainer.data.sources import prepare
from trainer.data.sources.contents import contents
from trainer.files import cache_root


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TabularSource:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,event\nu,1,1700000005,view\n")
    (tmp_path / "items.csv").write_text("item_id,title,language\n1,x,en\n")
    return TabularSource(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv")


def entries() -> list[str]:
    return sorted(path.name for path in (cache_root() / "datasets").iterdir())


def state(path: Path) -> list[tuple[str, int]]:
    return sorted((file.name, file.stat().st_mtime_ns) for file in path.iterdir())


def test_it_is_built_once(source: TabularSource) -> None:
    first = prepare(source)
    before = state(first.path)
    assert prepare(source) == first
    assert state(first.path) == before
    assert entries() == [first.path.name]


def test_changed_input_makes_another(source: TabularSource) -> None:
    first = prepare(source)
    source.interactions.write_text("user_id,item_id,timestamp,event\nu,1,1700000006,view\n")
    os.utime(source.interactions, ns=(1, 1))
    second = prepare(source)
    assert second.path != first.path
    assert second.interactions().collect()["timestamp"].to_list() == [1_700_000_006]


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
def test_a_damaged_entry_is_rebuilt(source: TabularSource, damage: str, caplog: pytest.LogCaptureFixture) -> None:
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
    assert "rebuilt" in caplog.text
    assert entries() == [first.path.name]


def test_a_killed_run_leaves_no_entry(source: TabularSource, tmp_path: Path) -> None:
    """Killed while the tables are written: no directory of the final name, and the next run creates it."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import trainer.data.dataset as module\n"
        "from trainer.data.settings import TabularSource\n"
        "from trainer.data.sources import prepare\n"
        "module.fingerprint = lambda tables: os._exit(9)\n"
        "prepare(TabularSource(interactions=Path(sys.argv[1]), items=Path(sys.argv[2])))\n"
    )
    command = [sys.executable, "-c", script, str(source.interactions), str(source.items)]
    assert subprocess.run(command, check=False).returncode == 9
    assert all(name.startswith(".") for name in entries())
    dataset = prepare(source)
    assert Dataset.load(dataset.path) == dataset
    assert entries() == [dataset.path.name]


def test_the_second_of_two_processes_waits_for_the_entry(
    source: TabularSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = sources._ADAPTERS["tabular"]
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from trainer.data.settings import TabularSource\n"
        "from trainer.data import sources\n"
        "from trainer.data.sources import tabular\n"
        "def write(source, path):\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    return tabular.write(source, path)\n"
        "sources._ADAPTERS['tabular'] = sources._Adapter(tabular.inputs, write, tabular.VERSION)\n"
        "sources.prepare(TabularSource(interactions=Path(sys.argv[1]), items=Path(sys.argv[2])))\n"
    )
    command = [sys.executable, "-c", script, str(source.interactions), str(source.items)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "writing\n"

    class Release(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert first.stdin is not None
            first.stdin.write("\n")
            first.stdin.flush()

    monkeypatch.setattr(logging.getLogger("trainer.locks"), "handlers", [Release()])
    caplog.set_level(logging.INFO, "trainer.locks")
    refusing = sources._Adapter(adapter.inputs, lambda *_: pytest.fail("made twice"), adapter.version)
    monkeypatch.setitem(sources._ADAPTERS, "tabular", refusing)
    dataset = prepare(source)
    first.communicate()
    assert first.returncode == 0
    assert entries() == [dataset.path.name]


def test_when_another_process_was_faster_its_result_is_taken(
    source: TabularSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = sources._ADAPTERS["tabular"]
    final = prepare(source).path
    shutil.move(final, final.with_name("elsewhere"))
    made = []

    def slow(settings: TabularSource, path: Path) -> Dataset:
        dataset = adapter.write(settings, path)
        shutil.move(final.with_name("elsewhere"), final)
        made.append((final / HEADER).stat().st_ino)
        return dataset

    monkeypatch.setitem(sources._ADAPTERS, "tabular", sources._Adapter(adapter.inputs, slow, adapter.version))
    dataset = prepare(source)
    assert dataset.path == final
    assert [(dataset.path / HEADER).stat().st_ino] == made
    assert entries() == [final.name]


def test_a_change_while_the_files_are_read_leaves_no_entry(
    source: TabularSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = sources._ADAPTERS["tabular"]

    def meanwhile(settings: TabularSource, path: Path) -> Dataset:
        dataset = adapter.write(settings, path)
        settings.interactions.write_text("user_id,item_id,timestamp,event\nu,1,1700000006,view\n")
        return dataset

    monkeypatch.setitem(sources._ADAPTERS, "tabular", sources._Adapter(adapter.inputs, meanwhile, adapter.version))
    with pytest.raises(DatasetError, match="`tabular` changed while being read"):
        prepare(source)
    assert entries() == []


def forged(file: Path, content: bytes) -> None:
    """Replaces the bytes, keeping size, inode and modification time."""
    before = file.stat()
    assert len(content) == before.st_size
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def test_an_edit_of_the_same_size_and_time_is_noticed(source: TabularSource) -> None:
    first = prepare(source)
    forged(source.interactions, b"user_id,item_id,timestamp,event\nu,1,1700000007,view\n")
    assert prepare(source).interactions().collect()["timestamp"].to_list() == [1_700_000_007]
    forged(source.interactions, b"user_id,item_id,timestamp,event\nu,1,1700000005,view\n")
    assert prepare(source).path == first.path


@pytest.mark.parametrize("change", ["edited", "added", "removed", "renamed", "below", "swapped"])
def test_every_file_of_a_directory_counts(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "parts"
    (folder / "year=2024").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "year=2024/c.csv", "سنة.csv"):
        (folder / name).write_text(f"{name}\n")
    before = contents([folder])
    assert contents([folder]) == before
    if change == "edited":
        forged(folder / "b.csv", b"c.csv\n")
    elif change == "added":
        (folder / "d.csv").write_text("")
    elif change == "removed":
        (folder / "a.csv").unlink()
    elif change == "renamed":
        (folder / "a.csv").rename(folder / "z.csv")
    elif change == "below":
        forged(folder / "year=2024" / "c.csv", b"year=2025/c.csv\n")
    else:
        (folder / "a.csv").write_text("b.csv\n")
        (folder / "b.csv").write_text("a.csv\n")
    assert contents([folder]) != before


def test_what_is_in_which_file_counts_and_where_the_files_are_does_not(tmp_path: Path) -> None:
    for name, content in (("a", b"xy"), ("b", b""), ("c", b"x"), ("d", b"y"), ("e", b"xy")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert len({contents(files) for files in ([a, b], [b, a], [c, d], [d, c], [a], [])}) == 6
    assert contents([a]) == contents([e])


def test_a_directory_may_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    before = contents([tmp_path])
    (tmp_path / "a.csv").write_text("y")
    assert contents([tmp_path]) != before


def test_what_is_not_a_file_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="pipe is not a regular file"):
        contents([tmp_path / "pipe"])
    with pytest.raises(DatasetError, match=r"missing\.csv can't be read: No such file"):
        contents([tmp_path / "missing.csv"])
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(DatasetError, match="dangling can't be read"):
        contents([tmp_path / "dangling"])


@pytest.mark.parametrize("name", ["kmrd", "mind", "movielens-100k"])
def test_the_published_sources_notice_an_edit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    files = {
        "kmrd": ("kmrd-small", ("rates.csv", "movies.txt", "genres.csv", "countries.csv")),
        "mind": ("mind-sample", ("behaviors.tsv", "news.tsv", "xMINDsmall_dev.cmn.zip")),
        "movielens-100k": ("ml-100k", ("u.data", "u.item", "u.user")),
    }
    monkeypatch.setenv("BABELREC_DATA_MIRROR", str(tmp_path))
    folder, names = files[name]
    (tmp_path / folder).mkdir()
    for each in names:
        (tmp_path / folder / each).write_text("12345")
    source = {"kmrd": KmrdSource(), "mind": MindSource(), "movielens-100k": MovieLens100kSource()}[name]
    adapter = sources._ADAPTERS[name]
    keys = {sources._key(source, adapter)}
    for each in names:
        forged(tmp_path / folder / each, b"12346")
        keys.add(sources._key(source, adapter))
    assert len(keys) == 1 + len(names)


def test_a_dataset_is_its_own_source(tmp_path: Path) -> None:
    dataset = builders.write(tmp_path / "d")
    assert prepare(DatasetSource(path=dataset.path)) == dataset
    with pytest.raises(DatasetError, match="is not a dataset"):
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
