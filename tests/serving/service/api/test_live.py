"""A live service: signals, TLS, many clients at once, proxies and the command line."""

import concurrent.futures
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import trustme

from serving.service import main as command
from serving.service.api import serving
from serving.service.store import open_store
from tests.serving.service.api.fakes import FakeRecommender
from tests.serving.service.api.inside import EmptyStore, event
from tests.serving.service.api.live import Live
from tests.serving.service.databases import BOTH


def _headers(store: EmptyStore) -> dict[str, str]:
    return {"Authorization": f"Bearer {store.keys['admin']}"}


@BOTH
def test_many_clients_then_a_stop_loses_nothing(empty_store: EmptyStore) -> None:
    """Events are sent while SIGTERM comes: exactly those that were acknowledged, or more, are in the store."""
    acknowledged: list[str] = []
    stopped = threading.Event()
    with Live(empty_store.url) as live:

        def send(client_number: int) -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{live.port}", headers=_headers(empty_store)) as client:
                for number in range(10_000):
                    lines = [event(f"{client_number}-{number}-{line}") for line in range(20)]
                    try:
                        response = client.post("/v1/events", json={"events": lines})
                    except httpx.HTTPError:
                        assert stopped.is_set()
                        return
                    if response.status_code != 200:
                        assert stopped.is_set(), response.text
                        return
                    acknowledged.extend(
                        each["event_id"] for each in response.json()["results"] if each["status"] == "accepted"
                    )

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            work = [pool.submit(send, number) for number in range(8)]
            while len(acknowledged) < 2_000:
                time.sleep(0.01)
            metrics = httpx.get(f"http://127.0.0.1:{live.port}/metrics").text
            stopped.set()
            live.terminate()
            for each in work:
                each.result()
        assert live.wait() == 0
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    accepted = float(values['babelrec_service_events_total{status="accepted"}'])
    assert accepted / 20 > float(values["babelrec_service_event_commits_total"])  # several requests share a commit
    with open_store(empty_store.url) as store:
        stored = set()
        mark = ""
        while events := (page := store.events_after(mark, 10_000))[0]:
            stored |= {each.event_id for each in events}
            mark = page[1]
    assert len(acknowledged) == len(set(acknowledged))
    assert set(acknowledged) <= stored


def test_a_stop_waits_for_answers(empty_store: EmptyStore, tmp_path: Path) -> None:
    with Live(empty_store.url, "--shutdown_delay_seconds", "300", "--shutdown_grace_seconds", "300") as live:
        client = httpx.Client(base_url=f"http://127.0.0.1:{live.port}", headers=_headers(empty_store), timeout=60.0)
        with client, concurrent.futures.ThreadPoolExecutor() as pool:
            body = {"placement": "slow", "query": str(tmp_path / "go on")}
            slow = pool.submit(client.post, "/v1/recommendations", json=body)
            live.wait_for("a slow answer has begun")
            live.terminate()
            # Load balancers learn it first; requests that they still send are answered.
            while not client.get("/readyz").json()["draining"]:
                pass
            assert client.post("/v1/recommendations", json={}).status_code == 200
            # A second one ends the delay.
            live.terminate()
            live.wait_for("Shutting down")
            assert not slow.done()
            (tmp_path / "go on").touch()
            assert slow.result().status_code == 200
        assert live.wait() == 0
    assert any(line.get("route") == "/v1/recommendations" for line in live.lines)


def test_tls(empty_store: EmptyStore, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    options = ["--tls_certificate", str(tmp_path / "server.pem"), "--tls_key", str(tmp_path / "server.pem")]
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Live(empty_store.url, *options) as live:
        response = httpx.get(f"https://127.0.0.1:{live.port}/healthz", verify=trusting)
        assert response.status_code == 200
        assert "max-age" in response.headers["strict-transport-security"]
        assert "server" not in response.headers
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"https://127.0.0.1:{live.port}/healthz")
        old = ssl.create_default_context()
        authority.configure_trust(old)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"https://127.0.0.1:{live.port}/healthz", verify=old)
        live.terminate()
        assert live.wait() == 0


@pytest.mark.parametrize("trusted", [True, False])
def test_forwarded_addresses(empty_store: EmptyStore, trusted: bool) -> None:
    options = ["--address_limit", "3/minute", *(["--trusted_proxies", "127.0.0.1"] if trusted else [])]
    with Live(empty_store.url, *options) as live:
        url = f"http://127.0.0.1:{live.port}/v1/audit"
        codes = [
            httpx.get(url, headers={"Authorization": "Bearer x", "X-Forwarded-For": f"203.0.113.{n}"}).status_code
            for n in range(6)
        ]
    assert codes == ([401] * 6 if trusted else [401] * 3 + [429] * 3)


def test_odd_requests(empty_store: EmptyStore) -> None:
    """What is no HTTP, or half of it, does not disturb others."""
    with Live(empty_store.url, "--request_timeout_seconds", "0.5") as live:
        answers = []
        for text in (
            b"\x16\x03\x01\x00\xa5\x01",
            b"GET / HTTP/9\r\n\r\n",
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
            b"GET /v1/items/\xff\xfe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n\r\n",
            b"GET //evil HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
                connection.sendall(text)
                connection.settimeout(1.5)
                try:
                    answers.append(connection.recv(65_536).split(b" ", 2)[1:2])
                except TimeoutError:
                    answers.append([])
        assert [b"413"] in answers
        assert [b"408"] in answers
        assert [b"500"] not in answers
        assert httpx.get(f"http://127.0.0.1:{live.port}/healthz").status_code == 200


@pytest.mark.parametrize("dribble", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n"])
def test_headers_that_never_end(empty_store: EmptyStore, dribble: bytes) -> None:
    with Live(empty_store.url, "--request_timeout_seconds", "0.5") as live:
        address = ("127.0.0.1", live.port)
        with (
            socket.create_connection(address, timeout=10) as slow,
            socket.create_connection(address, timeout=10) as kept,
        ):
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += kept.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            for connection in (slow, kept):
                connection.sendall(dribble)
            for connection in (slow, kept):
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(1) == b""
        with socket.create_connection(address, timeout=10) as large, pytest.raises(ConnectionError):
            large.sendall(b"GET / HTTP/1.1\r\n")
            for number in range(10_000):
                large.sendall(b"X-%d: %s\r\n" % (number, b"x" * 4_000))
        assert httpx.get(f"http://127.0.0.1:{live.port}/healthz").status_code == 200


def test_keys_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "store.db"
    environment = dict(os.environ, BABELREC_STORE=f"sqlite:///{path}")
    add = [sys.executable, "-m", "serving.service", "keys", "add", "--name", "店", "--role", "app"]
    key = subprocess.run(add, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert key.startswith("brk_")
    store = ["--store", f"sqlite:///{path}"]

    def run(*arguments: str) -> tuple[int, str]:
        status = command.main(["keys", *arguments, *store])
        found = capsys.readouterr()
        return status, found.out + found.err

    status, text = run("add", "--name", "店", "--role", "app")
    assert (status, "Remedy" in text) == (1, True)
    assert "店\tapp\t" in run("list")[1]
    assert key not in run("list")[1]
    assert run("revoke", "--name", "店")[0] == 0
    assert "revoked" in run("list")[1]
    assert run("revoke", "--name", "店")[0] == 1
    with pytest.raises(SystemExit):
        run("add", "--name", "x", "--role", "root")
    with open_store(f"sqlite:///{path}") as opened:
        assert [each.action for each in opened.audit_log()] == ["revoke key", "add key"]


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (["--tls_key", "x"], "--tls_certificate"),
        (["--tls_key", "x", "--tls_certificate", "y"], "can't be read"),
        (["--key_limit", "many"], "--key_limit"),
        (["--rules", "absent.yaml"], "--rules"),
        (["--store", "mysql://x"], "sqlite"),
    ],
)
def test_mistakes_in_options(
    empty_store: EmptyStore,
    arguments: list[str],
    mistake: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Else later tests of this process would log to where this one's messages are captured.
    monkeypatch.setattr(serving, "set_up_logging", lambda: None)
    given = ["--store", empty_store.url, *arguments]
    assert command.main(given, lambda store, options: FakeRecommender()) == 1
    message = capsys.readouterr().err
    assert mistake in message
    assert "Remedy" in message


@pytest.mark.parametrize("origins", ["*", "https://*.example", "shop.example", "https://shop.example/", "null"])
def test_origins_are_explicit(origins: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--store", "sqlite:///x", "--cors_origins", f"https://a.example:8443,{origins}"])
    assert "origin" in capsys.readouterr().err


def test_rules_of_a_file(empty_store: EmptyStore, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: []\n")
    with Live(empty_store.url, "--rules", str(rules)) as live:
        url = f"http://127.0.0.1:{live.port}/v1/rules"
        assert httpx.get(url, headers=_headers(empty_store)).text == "rules: []\n"
        assert httpx.put(url, content="rules: []", headers=_headers(empty_store)).status_code == 409
