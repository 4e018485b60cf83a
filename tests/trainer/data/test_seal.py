"""Seals: tables are read again when, and only when, something about them may be different."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.trainer.data import builders
from trainer.data import dataset as reading
from trainer.data import seal
from trainer.data.dataset import Dataset, write_dataset


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Directories whose tables were read and checked. Files are settled at once, and the cache is empty."""
    found: list[Path] = []
    real = reading._validate

    def counted(path: Path, *arguments: object) -> object:
        found.append(path)
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "_validate", counted)
    monkeypatch.setattr(seal, "_SETTLED_SECONDS", -1.0)
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    return found


def _written(path: Path, reads: list[Path]) -> Dataset:
    made = builders.write(path, users=builders.users())
    reads.clear()
    return made


def test_what_did_not_change_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    made = _written(tmp_path / "데이터", reads)
    assert [Dataset.load(made.path) for _ in range(3)] == [made] * 3
    assert reads == [made.path]


@pytest.mark.parametrize("table", ["interactions", "items", "users"])
def test_any_changed_table_is_read_again(tmp_path: Path, reads: list[Path], table: str) -> None:
    made = _written(tmp_path / "d", reads)
    Dataset.load(made.path)
    file = made.path / f"{table}.parquet"
    before = file.stat()
    # As somebody would who wants it to pass for the old one: same size, same time of modification.
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Dataset.load(made.path) == made
    assert len(reads) == 2


def test_a_directory_in_the_place_of_another_is_read(tmp_path: Path, reads: list[Path]) -> None:
    made = _written(tmp_path / "d", reads)
    Dataset.load(made.path)
    made.path.rename(tmp_path / "old")
    other = write_dataset(
        made.path,
        name="other",
        description="",
        licence="",
        homepage="",
        interactions=builders.interactions().head(2),
        items=builders.items(),
    )
    assert Dataset.load(made.path) == other


def test_files_just_changed_are_not_sealed(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made = _written(tmp_path / "d", reads)
    monkeypatch.setattr(seal, "_SETTLED_SECONDS", 3600.0)
    for _ in range(2):
        Dataset.load(made.path)
    assert len(reads) == 2
    assert not (tmp_path / "cache" / "seals").exists()


def test_files_changed_while_they_are_read_are_not_sealed(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _written(tmp_path / "d", reads)
    real = reading._validate

    def slow(path: Path, *arguments: object) -> object:
        found = real(path, *arguments)  # type: ignore[arg-type]
        os.utime(made.path / "items.parquet", (time.time(), time.time()))
        return found

    monkeypatch.setattr(reading, "_validate", slow)
    Dataset.load(made.path)
    Dataset.load(made.path)
    assert len(reads) == 2


def test_other_rules_or_a_damaged_seal_are_no_seal(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _written(tmp_path / "d", reads)
    Dataset.load(made.path)
    (kept,) = (tmp_path / "cache" / "seals").iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"rules": "others"}))
    Dataset.load(made.path)
    kept.write_text("{")
    Dataset.load(made.path)
    assert len(reads) == 3
    Dataset.load(made.path)
    assert len(reads) == 3


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _written(tmp_path / "d", reads)
    (tmp_path / "file").touch()
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "file" / "cache"))
    assert Dataset.load(made.path) == made
    assert Dataset.load(made.path) == made
    assert len(reads) == 2
