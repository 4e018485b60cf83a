"""Folders of killed processes are removed, and nobody else's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.server.operations.temporary import temporary_folder

_HOLD = """
import sys
from serving.server.operations.temporary import temporary_folder
with temporary_folder("babelrec-test-") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def holding() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_process_s_folder_is_removed_by_the_next(temporary: Path) -> None:
    killed, left = holding()
    living, kept = holding()
    assert left.parent == kept.parent == temporary
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (left / "more").mkdir()
    other = temporary / "babelrec-other-x"
    other.mkdir()
    os.utime(other, (0, 0))
    with temporary_folder("babelrec-test-") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert set(temporary.iterdir()) == {folder, kept, other}
    living.communicate("")
    assert set(temporary.iterdir()) == {other}


@pytest.mark.parametrize("age", [0, 3600])
def test_a_folder_without_a_lock_is_left_alone_while_it_is_new(temporary: Path, age: int) -> None:
    # Another process may have made it a moment ago, or an earlier version of the server have left it.
    left = temporary / "babelrec-test-x"
    left.mkdir()
    os.utime(left, (time.time() - age,) * 2)
    with temporary_folder("babelrec-test-"):
        assert left.exists() == (age == 0)


def test_a_link_is_no_folder(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").mkdir()
    os.utime(elsewhere, (0, 0))
    (temporary / "babelrec-test-link").symlink_to(elsewhere)
    with temporary_folder("babelrec-test-"):
        pass
    assert (elsewhere / "kept").exists()
