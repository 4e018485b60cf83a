"""A PostgreSQL server that lives as long as a measurement or the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_STARTS_WITHIN = 120.0  # Seconds, on a busy machine too.


def postgresql_programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``: that of the path, or Debian's newest; None without PostgreSQL."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


@contextlib.contextmanager
def postgresql_server(programs: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Starts a server with the databases that PostgreSQL makes; it listens on a socket in its own folder only.

    Args:
        programs: From `postgresql_programs`.
        settings: Of ``postgresql.conf``.

    Yields:
        The URL of its database ``postgres``.

    Raises:
        RuntimeError: It can't be set up or doesn't start; the message has what it printed.
    """
    # The server refuses to run as root, and a folder of pytest's can't be entered by others.
    user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    data, log = folder / "data", folder / "log"
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        output = cleanup.enter_context(log.open("w"))
        process: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process |= user
        initdb = [f"{programs / 'initdb'}", f"--pgdata={data}", "--username=postgres", "--auth=trust"]
        done = subprocess.run([*initdb, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"], check=False, **process)
        if done.returncode:
            raise RuntimeError(f"initdb ended with {done.returncode}: {log.read_text()}")
        options = {"listen_addresses": "", "unix_socket_directories": str(folder), **(settings or {})}
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        for again in (True, False):
            server = subprocess.Popen([programs / "postgres", "-D", data], **process)
            cleanup.callback(_stop, server)
            try:
                _wait_until_ready(server, data, log)
                break
            except RuntimeError as error:
                # Happened once on a machine of CI, without a word, and hundreds of tests had no database.
                if not again:
                    raise
                warnings.warn(f"Tried once more: {error}", stacklevel=1)
        yield f"postgresql://postgres@/postgres?host={folder}"


def _wait_until_ready(server: "subprocess.Popen[bytes]", data: Path, log: Path) -> None:
    """Until the eighth line of ``postmaster.pid``, which is what ``pg_ctl`` waits for, says that clients may come."""
    last = time.monotonic() + _STARTS_WITHIN
    while True:
        with contextlib.suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            if lines[7:8] and lines[7].strip() == "ready":
                return
        if server.poll() is not None:
            raise RuntimeError(f"postgres ended with {server.returncode}: {log.read_text()}")
        if time.monotonic() > last:
            raise RuntimeError(f"postgres isn't ready after {_STARTS_WITHIN} s: {log.read_text()}")
        time.sleep(0.02)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Ends it at once: what it has stored is about to be deleted."""
    server.send_signal(signal.SIGQUIT)  # Nothing happens if it has ended.
    server.wait()
