"""Download of published files: checksummed, cached, atomic."""

import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from trainer.errors import BabelrecError
from trainer.files import cache_root, staging
from trainer.storage import no_room

_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0
_CHUNK = 1 << 16


class DownloadError(BabelrecError):
    """A file that is unavailable or is not the published one."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file that never changes.

    Attributes:
        url: Where it is.
        sha256: Its checksum, in hexadecimal.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on the package registry that pip is configured for.

    Attributes:
        requirement: Exact version, such as ``recbole==1.2.1``.
        name: File name of the wheel.
        sha256: Its checksum, in hexadecimal.
    """

    requirement: str
    name: str
    sha256: str


def fetch(remote: RemoteFile) -> Path:
    """Downloads a file once; later calls return the cached copy.

    Raises:
        DownloadError: No connection, an HTTP error, or a wrong checksum twice.
    """
    return _cached(remote.name, remote.sha256, remote.url, lambda target: _http(remote.url, target))


def fetch_wheel(wheel: Wheel) -> Path:
    """Downloads a wheel with pip, so that its index, mirror and proxy settings apply; cached like `fetch`.

    Raises:
        DownloadError: pip is missing or fails, or a wrong checksum twice.
    """
    return _cached(wheel.name, wheel.sha256, f"pip, {wheel.requirement}", lambda target: _pip(wheel, target))


def downloads() -> Path:
    """The folder of cached downloads."""
    return cache_root() / "downloads"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cached(name: str, sha256: str, origin: str, get: Callable[[Path], None]) -> Path:
    path = downloads() / name
    if path.is_file():
        if sha256_of(path) == sha256:
            return path
        _LOG.warning("%s is corrupted; it is deleted and downloaded again.", path)
        path.unlink(missing_ok=True)
    for attempt in (1, 2):
        with staging(path) as folder:
            if path.is_file() and sha256_of(path) == sha256:
                # Another process fetched it while this one waited.
                return path
            temporary = folder / name
            get(temporary)
            got = sha256_of(temporary)
            if got == sha256:
                temporary.replace(path)
                return path
        _LOG.warning("Download %d of %s from %s is corrupted; it is deleted.", attempt, name, origin)
    raise DownloadError(
        f"{name} from {origin} is corrupted: SHA-256 {got}, expected {sha256}, twice. Remedy: try "
        f"again later or without a proxy in between, or put the right file at {path} manually."
    )


def _http(url: str, target: Path) -> None:
    try:
        with requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
            response.raise_for_status()
            size = int(response.headers.get("Content-Length", 0)) or None
            with _progress() as progress, target.open("wb") as file:
                task = progress.add_task(url.rsplit("/", 1)[-1], total=size)
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    progress.advance(task, len(chunk))
    except (requests.RequestException, OSError) as error:
        if no_room(error):
            raise
        raise DownloadError(f"{url} can't be downloaded: {error}.") from error


def _pip(wheel: Wheel, target: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"{wheel.requirement} can't be downloaded: this Python has no pip. Remedy: `python -m "
            f"ensurepip`, or put {wheel.name} into {downloads()}."
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder, wheel.requirement]
        console = Console(stderr=True)
        with console.status(f"Downloading {wheel.name} with pip"):
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        found = Path(folder) / wheel.name
        if outcome.returncode != 0 or not found.is_file():
            reason = (outcome.stderr.strip() or outcome.stdout.strip() or "no such wheel").splitlines()[-1]
            raise DownloadError(f"{wheel.requirement} can't be downloaded with pip: {reason}.")
        shutil.move(found, target)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
