"""A PostgreSQL server that lives as long as a measurement or the tests."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def postgresql_programs() -> Path | None:
    """The folder with ``initdb`` and ``pg_ctl``: that of the path, or Debian's newest; None without PostgreSQL."""
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
    """
    # The server refuses to run as root, and a folder of pytest's can't be entered by others.
    user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, "-D", data, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **user,
        )
        if done.returncode:
            log = folder / "log"
            raise RuntimeError(f"{program}: {done.stderr}{log.read_text() if log.exists() else ''}")

    try:
        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        options = {"listen_addresses": "", "unix_socket_directories": str(folder), **(settings or {})}
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        # Not a pipe, which the server would keep open.
        run("pg_ctl", "--wait", "--silent", f"--log={folder / 'log'}", "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "--wait", "--silent", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
