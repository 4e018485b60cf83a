"""Unwritable locations: one line with the path and the remedy, from every library and every verb."""

import contextlib
import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.config.settings import dump_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import training_part
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.files import atomic_directory, atomic_file, write_text
from trainer.models.assembly import fit_statistics
from trainer.runs import Run
from trainer.storage import explain
from trainer.task import main
from trainer.text.tuning import serving_encoder

_NUMBERS = np.random.default_rng(0).normal(size=100_000)
_FULL = Path("/dev/full")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limits files to ``size`` bytes: the closest to a full disk that works on every machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def explained(write: Callable[[], object]) -> str:
    with pytest.raises(BaseException) as error:  # noqa: PT011  whatever the library makes of it
        write()
    said = explain(error.value)
    assert said is not None, repr(error.value)
    assert "\n" not in said
    return said


def _write_atomically(path: Path) -> None:
    with atomic_file(path) as temporary:
        pl.DataFrame({"a": _NUMBERS}).write_parquet(temporary)


def _save(path: Path) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, _NUMBERS)


def _save_checkpoint(path: Path) -> None:
    with atomic_directory(path) as temporary:
        tf.train.Checkpoint(v=tf.Variable(_NUMBERS)).write(str(temporary / "ckpt-1"))


@pytest.mark.parametrize("write", [_write_atomically, _save, _save_checkpoint])
def test_a_file_that_cannot_grow_is_named_by_its_final_path(tmp_path: Path, write: Callable[[Path], None]) -> None:
    target = tmp_path / "größe; 大小"
    with largest_file(50_000):
        said = explained(lambda: write(target))
    # NumPy doesn't say why it could not write.
    assert re.match(re.escape(str(target)) + ".*: the (file would exceed the size limit|disk is full)", said)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_named_by_its_directory(tmp_path: Path) -> None:
    with largest_file(50_000):
        said = explained(lambda: tf.train.Checkpoint(v=tf.Variable(_NUMBERS)).write(str(tmp_path / "ckpt-1")))
    assert said == f"{tmp_path}: the file would exceed the size limit. Raise the limit (ulimit -f), or choose " + (
        "another disk."
    )


@pytest.mark.skipif(not _FULL.exists(), reason="no /dev/full")
def test_a_full_disk_is_reported() -> None:
    said = explained(lambda: pl.DataFrame({"a": _NUMBERS}).write_parquet(_FULL))
    assert said == "The output: the disk is full. Free space there, or choose a directory on another disk."
    assert "the disk is full" in explained(lambda: _FULL.write_text("x"))


@pytest.mark.parametrize("library", ["python", "polars", "tensorflow", "events"])
def test_a_directory_that_is_missing_is_reported(library: str, tmp_path: Path) -> None:
    place = tmp_path / "nowhere" / "file"
    (tmp_path / "nowhere").write_text("")
    said = explained(
        {
            "python": lambda: place.write_text(""),
            "polars": lambda: pl.DataFrame({"a": _NUMBERS}).write_parquet(place),
            "tensorflow": lambda: tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(place)),
            "events": lambda: tf.summary.create_file_writer(str(place)),
        }[library]
    )
    assert said.startswith(f"{tmp_path / 'nowhere'}")
    assert "not a directory" in said or "something with that name" in said


def test_too_many_open_files_are_reported(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd")) + 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened, hard))
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        said = explained(lambda: (tmp_path / "a").write_text(""))
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert said.startswith(f"{tmp_path / 'a'}: too many files are open. Raise the limit (ulimit -n")


def test_other_errors_are_not_explained() -> None:
    for error in (
        ValueError("x; No space left on device"),
        OSError("x"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[3]"),
    ):
        assert explain(error) is None


def test_the_cause_is_explained() -> None:
    error = ValueError("outer")
    error.__cause__ = OSError(errno.EROFS, "read-only", "/x/.a.abcdefgh.tmp")
    assert explain(error) == "/x/a: the file system is read-only. Choose a writable directory."


def _ended(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The single output line of a failing verb."""
    assert main([str(argument) for argument in arguments]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0]


def _files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.name != ".lock"}


@pytest.fixture
def settings(tiny: Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    write_text(path, dump_config(tiny_config(tiny.path, training={"epochs": 1, "batch_size": 64, "refit": False})))
    return path


def test_fit_without_room(settings: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with largest_file(30_000):
        said = _ended(capsys, "fit", "--config", settings, "--run-dir", run)
    # Whichever grows first: the checkpoint, or TensorBoard's events.
    assert said.startswith(f"error: {run}/")
    assert "the file would exceed the size limit" in said
    assert not Run.open(run).finished
    # With space again, the same command resumes.
    assert main(["fit", "--config", str(settings), "--run-dir", str(run)]) == 0
    assert not [path for path in _files(run) if path.name.endswith(("_temp", ".tmp"))]


@pytest.mark.parametrize("place", ["file/run", "/proc/run"])
def test_fit_where_nothing_can_be_made(
    settings: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = _ended(capsys, "fit", "--config", settings, "--run-dir", tmp_path / place)
    assert re.match(rf"error: ({tmp_path}/file|/proc)/run: (a part of the path|there is no such)", said)


def test_evaluate_without_room(tiny_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    # The baselines' texts go to the cache, which would be full first.
    evaluate_collaborative(tiny_run)
    before = _files(tiny_run.path)
    with largest_file(1_000):
        said = _ended(capsys, "evaluate", "--run-dir", tiny_run.path)
    assert said.startswith(f"error: {tiny_run.path}/evaluation")
    assert "exceed the size limit" in said
    assert _files(tiny_run.path) == before


def test_export_without_room(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models"
    # What the first export stores in the cache and in the run is larger.
    serving_encoder(tiny_run.config.text, None, table=tiny_run.config.export.text_table)
    dataset = tiny_run.dataset()
    fit_statistics(tiny_run, Catalogue.from_dataset(dataset), training_part(dataset, tiny_run.config))
    with largest_file(30_000):
        said = _ended(capsys, "export", "--run-dir", tiny_run.path, "--model-dir", models)
    assert said.startswith(f"error: {models}/1")
    assert "exceed the size limit" in said
    assert _files(models) == set()


def test_data_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    rows = "".join(f"u{row % 97},i{row % 89},{1_700_000_000 + row * 7919 % 99_991},view\n" for row in range(20_000))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,event\n" + rows)
    titles = "".join(f"i{item},title {item},en\n" for item in range(89))
    (tmp_path / "items.csv").write_text("item_id,title,language\n" + titles)
    settings = tmp_path / "shop.yaml"
    source = f"{{name: tabular, interactions: {tmp_path}/log.csv, items: {tmp_path}/items.csv}}"
    settings.write_text(f"name: shop\ndata:\n  source: {source}\n")
    with largest_file(20_000):
        said = _ended(capsys, "data", "--config", settings)
    assert said.startswith(f"error: {tmp_path}/cache/datasets/tabular-")
    assert "exceed the size limit" in said
    assert _files(tmp_path / "cache" / "datasets") == set()


def test_compare_without_room(tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (tiny_run.path / "evaluation.json").exists():
        assert main(["evaluate", "--run-dir", str(tiny_run.path)]) == 0
    capsys.readouterr()
    shutil.copytree(tiny_run.path, tmp_path / "other")
    with largest_file(1_000):
        said = _ended(capsys, "compare", tiny_run.path, tmp_path / "other", "--output", tmp_path / "comparison")
    assert said.startswith(f"error: {tmp_path}/comparison/")
    assert _files(tmp_path / "comparison") == set()


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.task.load_config", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["data", "--config", "x"])


@pytest.mark.skipif(not _FULL.exists(), reason="no /dev/full")
def test_output_that_goes_nowhere() -> None:
    with _FULL.open("w") as full:
        command = [sys.executable, "-m", "trainer.task", "settings"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: The output: the disk is full.")


@pytest.mark.parametrize("options", ["size=64k", "size=64k,ro"])
def test_a_file_system_that_is_full_or_read_only(settings: Path, tmp_path: Path, options: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"', "sh"]
    mount += [options, str(disk)]
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    command = [sys.executable, "-m", "trainer.task", "fit", "--config", str(settings), "--run-dir", str(disk / "run")]
    done = subprocess.run([*mount, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    wanted = "the file system is read-only" if options.endswith("ro") else "the disk is full"
    assert re.search(rf"^error: {disk}/run\S*: {wanted}\. \S.*\n\Z", done.stderr, re.MULTILINE)


def test_a_user_error_is_not_a_storage_error() -> None:
    assert explain(BabelrecError("x")) is None
