"""One writer per directory, across processes."""

import logging
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.errors import BabelrecError
from trainer.locks import LOCK_FILE, writing_alone

_HOLDER = """
import sys
from pathlib import Path
from trainer.locks import writing_alone
with writing_alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(directory: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_holder_is_named_by_pid_and_host(tmp_path: Path) -> None:
    directory = tmp_path / "运行"
    holder = _holder(directory)
    try:
        with pytest.raises(BabelrecError) as error, writing_alone(directory):
            pytest.fail("two writers at once")
    finally:
        holder.communicate("")
    assert str(directory) in str(error.value)
    assert f"(pid {holder.pid} on {socket.gethostname()}, since 20" in str(error.value)
    assert "\n" not in str(error.value)
    with writing_alone(directory):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with writing_alone(tmp_path):
        pass


@pytest.mark.parametrize("signed", ["", "{", "[]", '{"pid": 3}', "\0" * 10])
def test_a_holder_that_has_not_signed_is_refused_too(tmp_path: Path, signed: str) -> None:
    with writing_alone(tmp_path):
        (tmp_path / LOCK_FILE).write_text(signed)
        with pytest.raises(BabelrecError, match="just started"), writing_alone(tmp_path):
            pytest.fail("two writers at once")


def test_a_program_that_the_holder_started_does_not_keep_the_lock(tmp_path: Path) -> None:
    with writing_alone(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with writing_alone(tmp_path):
            pass
    finally:
        child.communicate(b"")


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), writing_alone(tmp_path):
        raise ValueError("inside")
    with writing_alone(tmp_path):
        pass


@pytest.mark.parametrize("place", ["file", "/proc/self"])
def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=place), writing_alone(tmp_path / place):
        pytest.fail("there is no file to lock")


def test_a_waiting_process_comes_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = _holder(tmp_path / "d")

    class Release(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The kernel releases the lock when the holder exits; waiting may start before or after that.
            holder.communicate("")

    caplog.set_level(logging.INFO, "trainer.locks")
    handler = Release()
    logging.getLogger("trainer.locks").addHandler(handler)
    try:
        with writing_alone(tmp_path / "d", wait=True) as locked:
            assert locked
            assert holder.poll() == 0
    finally:
        logging.getLogger("trainer.locks").removeHandler(handler)
    assert f"(pid {holder.pid} on " in caplog.text
    assert "Waiting for it to finish" in caplog.text
