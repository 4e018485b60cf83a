"""Writing leaves the old or the new, never a half."""

from pathlib import Path

import pytest

from trainer.files import atomic_directory, atomic_file, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old 한국어")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old 한국어"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        (temporary / "x").write_text("1")
        assert not path.exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_directory(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "x").write_text("1")
    assert (path / "sub" / "x").read_text() == "1"


def test_the_first_directory_stays(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with pytest.raises(FileExistsError), atomic_directory(path) as temporary:
        path.mkdir()
        (path / "first").touch()
        (temporary / "second").touch()
    assert [file.name for file in path.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [path]
