"""Downloads over a local HTTP server: checksums, retries, errors, the cache."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trainer.data.sources import download
from trainer.data.sources.download import DownloadError, RemoteFile, Wheel, fetch, fetch_wheel

CONTENT = b"ratings\n" * 40_000


class Server(ThreadingHTTPServer):
    """Answers each request with the next of ``answers``, repeating the last one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = [(200, CONTENT)]
        self.requests = 0

    def remote(self, content: bytes = CONTENT) -> RemoteFile:
        return RemoteFile(f"http://127.0.0.1:{self.server_address[1]}/data.zip", hashlib.sha256(content).hexdigest())


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answers = self.server.answers
        status, content = answers[min(self.server.requests, len(answers) - 1)]
        self.server.requests += 1
        self.send_response(status)
        # Status 200 with a longer announced length simulates a connection cut in the middle.
        self.send_header("Content-Length", str(len(CONTENT) if status == 200 else len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def left_over() -> list[str]:
    return sorted(path.name for path in download.downloads().iterdir())


def test_a_download_is_kept_and_reused(server: Server) -> None:
    path = fetch(server.remote())
    assert path.read_bytes() == CONTENT
    assert fetch(server.remote()) == path
    assert server.requests == 1
    assert left_over() == ["data.zip"]


def test_a_corrupted_download_is_deleted_and_retried_once(server: Server) -> None:
    server.answers = [(200, CONTENT[:-1] + b"?"), (200, CONTENT)]
    assert fetch(server.remote()).read_bytes() == CONTENT
    assert server.requests == 2


def test_a_download_corrupted_twice_is_an_error_with_both_checksums(server: Server) -> None:
    wrong = CONTENT[:-1] + b"?"
    server.answers = [(200, wrong)]
    with pytest.raises(DownloadError) as caught:
        fetch(server.remote())
    text = str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in text
    assert hashlib.sha256(CONTENT).hexdigest() in text
    assert "Remedy: " in text
    assert server.requests == 2
    assert left_over() == []


def test_a_corrupted_cached_file_is_downloaded_again(server: Server) -> None:
    path = fetch(server.remote())
    path.write_bytes(CONTENT[:100])
    assert fetch(server.remote()).read_bytes() == CONTENT
    assert server.requests == 2


def test_a_cut_connection_leaves_nothing(server: Server) -> None:
    server.answers = [(200, CONTENT[:1000])]
    with pytest.raises(DownloadError, match=r"data\.zip"):
        fetch(server.remote())
    assert left_over() == []


def test_an_http_error_names_the_address(server: Server) -> None:
    server.answers = [(404, b"")]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*404"):
        fetch(server.remote())


def test_no_server_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match="can't be downloaded"):
        fetch(RemoteFile("http://127.0.0.1:9/data.zip", "0" * 64))


def test_a_wheel_that_pip_does_not_find_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DownloadError, match=r"absent-package==1\.0 can't be downloaded with pip"):
        fetch_wheel(Wheel("absent-package==1.0", "absent_package-1.0-py3-none-any.whl", "0" * 64))


def test_a_wheel_comes_by_pip_with_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip takes the wheel from a local folder that its environment names, as it would from a mirror."""
    import zipfile

    name = "tinydata-1.0-py3-none-any.whl"
    folder = tmp_path / "links"
    folder.mkdir()
    with zipfile.ZipFile(folder / name, "w") as wheel:
        wheel.writestr("tinydata/data.txt", "1")
        wheel.writestr("tinydata-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n")
        wheel.writestr("tinydata-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tinydata-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path = fetch_wheel(Wheel("tinydata==1.0", name, sha256))
    assert path == tmp_path / "cache" / "downloads" / name
    assert download.sha256_of(path) == sha256
