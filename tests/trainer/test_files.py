"""Writing leaves the old or the new file, never a partial one."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trainer.files import atomic_directory, atomic_file, staging, write_text


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


_WRITER = """
import sys
from pathlib import Path
from trainer.files import atomic_directory, atomic_file
directory = Path(sys.argv[1])
with atomic_file(directory / "a.txt") as file, atomic_directory(directory / "d") as folder:
    file.write_text("half")
    (folder / "x").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def _writer(directory: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("write", ["file", "directory"])
def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path: Path, write: str) -> None:
    writer = _writer(tmp_path)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert sorted(path.name.split(".")[1] for path in tmp_path.iterdir()) == ["a", "d"]
    if write == "file":
        write_text(tmp_path / "other", "")
    else:
        with atomic_directory(tmp_path / "other"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_a_live_process_writes_is_left_alone(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    write_text(tmp_path / "other", "")
    with atomic_directory(tmp_path / "another"):
        pass
    writer.communicate("")
    assert writer.returncode == 0
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "d" / "x").read_text() == "half"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "another", "d", "other"]


def test_what_others_named_alike_is_left_alone(tmp_path: Path) -> None:
    for name in (".7.tmp", ".copy.abcdefgh.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / ".notes.tmp").write_text("")
    write_text(tmp_path / "other", "")
    assert len(list(tmp_path.iterdir())) == 4
    # Leftovers of earlier versions are recognised by name, and as abandoned by age.
    os.utime(tmp_path / ".copy.abcdefgh.tmp", (0, 0))
    write_text(tmp_path / "other", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".7.tmp", ".notes.tmp", "other"]


def test_many_writers_of_one_place_do_not_disturb_each_other(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from trainer.files import write_text
for number in range(150):
    write_text(Path(sys.argv[1]) / "a.txt", "x" * 1000)
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_second_builder_of_a_directory_finds_it_built(tmp_path: Path) -> None:
    path = tmp_path / "d"
    seen = []

    def second() -> None:
        with staging(path):
            seen.append(path.exists())

    thread = threading.Thread(target=second)
    with staging(path) as folder:
        thread.start()
        (folder / "made").mkdir()
        (folder / "made").rename(path)
    thread.join()
    assert seen == [True]
    assert list(tmp_path.iterdir()) == [path]


def test_a_removed_folder_takes_its_lock_along(tmp_path: Path) -> None:
    """A process that waited for the lock of a removed folder recreates the folder and is alone in it."""
    program = """
import sys
from pathlib import Path
from trainer.files import staging
for _ in range(200):
    with staging(Path(sys.argv[1])) as own:
        (own.parent / "mine").touch(exist_ok=False)
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "d")]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_an_error_without_a_file_says_which_one_was_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full") as error, atomic_file(tmp_path / "a"):
        raise OSError(28, "full")
    assert error.value.writing == tmp_path / "a"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="x") as other, staging(tmp_path / "d"), atomic_file(tmp_path / "a"):
        raise ValueError("x")
    assert other.value.writing == tmp_path / "a"  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())
