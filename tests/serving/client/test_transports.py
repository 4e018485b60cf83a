"""What gRPC and REST do alike, in both clients: headers, retries, errors, TLS; and the one as the other's fallback."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from serving.client import (
    AccessDeniedError,
    AsyncRecommenderClient,
    BadRequestError,
    ModelNotFoundError,
    OverloadedError,
    RecommenderClient,
    RetryPolicy,
    ServerFaultError,
    ServingError,
    TlsOptions,
    UnreachableError,
)
from tests.serving.client.servers import (
    QUICK,
    ROUTES,
    Http,
    Rpcs,
    Use,
    X,
    blocking,
    both,
    free_port,
    http_server,
    predict,
    tls_server,
)

Server = Rpcs | Http
either = pytest.mark.parametrize("kind", ["grpc", "rest"])


@both
def test_headers(scripted: Server, use: Use) -> None:
    headers = {"Authorization": "Bearer x", "trace-bin": b"\x00\xff"}
    assert predict(use, scripted.address, metadata=headers)["y"].tolist() == [1.0, 2.0]
    assert scripted.headers[0]["authorization"] == "Bearer x"
    assert scripted.headers[0]["trace-bin"] == b"\x00\xff"


def test_headers_of_one_call(scripted: Server) -> None:
    with RecommenderClient(scripted.address, "m", metadata=[("a", "1")]) as client:
        client.predict("", X, metadata={"b": "2"})
        client.predict("", X)
    assert [(got.get("a"), got.get("b")) for got in scripted.headers] == [("1", "2"), ("1", None)]


@both
def test_unavailable_is_retried(scripted: Server, use: Use) -> None:
    scripted.fail("UNAVAILABLE", "not yet", 2)
    assert predict(use, scripted.address, retry=QUICK)["y"].tolist() == [1.0, 2.0]
    assert scripted.calls == 3


@pytest.mark.parametrize(("attempts", "made"), [(1, 1), (2, 2), (4, 4)])
@both
def test_attempts_are_limited(scripted: Server, use: Use, attempts: int, made: int) -> None:
    scripted.fail("UNAVAILABLE", "not yet", 10)
    policy = RetryPolicy(max_attempts=attempts, initial_backoff=0.01, max_tokens=0)
    with pytest.raises(UnreachableError, match=r"not yet"):
        predict(use, scripted.address, retry=policy)
    assert scripted.calls == made


@both
def test_no_retry_when_turned_off_or_for_other_codes(scripted: Server, use: Use) -> None:
    scripted.fail("UNAVAILABLE", "not yet")
    with pytest.raises(UnreachableError, match="can't respond now: not yet"):
        predict(use, scripted.address, retry=None)
    errors: dict[str, type[ServingError]] = {"RESOURCE_EXHAUSTED": OverloadedError, "INTERNAL": ServerFaultError}
    for code, error in errors.items():
        scripted.fail(code, "too much")
        with pytest.raises(error, match="too much"):
            predict(use, scripted.address, retry=QUICK)
    assert scripted.calls == 3
    scripted.fail("RESOURCE_EXHAUSTED", "too much")
    policy = RetryPolicy(initial_backoff=0.01, codes=("UNAVAILABLE", "RESOURCE_EXHAUSTED"))
    assert predict(use, scripted.address, retry=policy)["y"].tolist() == [1.0, 2.0]


def test_throttle_stops_retries_of_a_server_that_keeps_failing(scripted: Server) -> None:
    scripted.fail("UNAVAILABLE", "not yet", 100)
    with RecommenderClient(scripted.address, "m", retry=RetryPolicy(initial_backoff=0.01, max_tokens=4)) as client:
        for _ in range(4):
            with pytest.raises(UnreachableError):
                client.predict("", X)
    # 4 tokens; a retry needs more than 2 after the failure: 1 retry, then none.
    assert scripted.calls == 5


@pytest.mark.parametrize(
    ("code", "details", "kind", "message"),
    [
        # shared_batch_scheduler.h
        ("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full", OverloadedError, "full"),
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this task was submitted is full; task size is 8 but scheduling "
            "capacity is only 2",
            OverloadedError,
            "no capacity left.* start more servers",
        ),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", OverloadedError, "Try again later"),
        ("UNAVAILABLE", "the server is stopping", UnreachableError, "try again shortly"),
        ("UNAUTHENTICATED", "no token", AccessDeniedError, "-H authorization"),
        ("PERMISSION_DENIED", "", AccessDeniedError, "PERMISSION_DENIED"),
    ],
)
def test_kinds_of_refusal(scripted: Server, code: str, details: str, kind: type[ServingError], message: str) -> None:
    scripted.fail(code, details)
    with pytest.raises(kind, match=message) as caught:
        predict(blocking, scripted.address, retry=None)
    assert type(caught.value) is kind
    assert caught.value.code is grpc.StatusCode[code]


@both
def test_no_server(scripted: Server, use: Use) -> None:
    target = scripted.absent
    with pytest.raises(UnreachableError, match=rf"no model server responds at {target} .* Start one with"):
        predict(use, target, retry=QUICK)


def test_a_closed_client_says_so(scripted: Server) -> None:
    client = RecommenderClient(scripted.address)
    client.close()
    with pytest.raises(ServingError, match="closed"):
        client.predict("", X)

    async def run() -> None:
        client = AsyncRecommenderClient(scripted.address)
        await client.close()
        with pytest.raises(ServingError, match="closed"):
            await client.predict("", X)

    asyncio.run(run())


# TLS


@either
@both
def test_tls(authority: trustme.CA, pems: Path, kind: str, use: Use) -> None:
    with tls_server(kind, authority, "localhost") as server:
        assert predict(use, server.address, tls=TlsOptions(ca=pems / "ca.pem"))["y"].tolist() == [1.0, 2.0]
        with pytest.raises(UnreachableError, match=r"does not trust .*--tls-ca"):
            predict(use, server.address, retry=None)
        with pytest.raises(UnreachableError, match="--tls-ca"):
            predict(use, server.address, tls=TlsOptions(ca=pems / "other-ca.pem"), retry=None)


@either
@both
def test_tls_server_name(authority: trustme.CA, pems: Path, kind: str, use: Use) -> None:
    with tls_server(kind, authority, "models.example") as server:
        with pytest.raises(UnreachableError, match="--tls-server-name"):
            predict(use, server.address, tls=TlsOptions(ca=pems / "ca.pem"), retry=None)
        options = TlsOptions(ca=pems / "ca.pem", server_name="models.example")
        assert predict(use, server.address, tls=options)["y"].tolist() == [1.0, 2.0]


@either
@both
def test_mutual_tls(authority: trustme.CA, pems: Path, kind: str, use: Use) -> None:
    with tls_server(kind, authority, "localhost", mutual=True) as server:
        shown = TlsOptions(ca=pems / "ca.pem", certificate=pems / "client.pem", key=pems / "client.key")
        assert predict(use, server.address, tls=shown)["y"].tolist() == [1.0, 2.0]
        with pytest.raises(UnreachableError):
            predict(use, server.address, tls=TlsOptions(ca=pems / "ca.pem"), retry=None)
        assert server.calls == 1


@both
def test_tls_on_a_plain_port(scripted: Server, use: Use) -> None:
    address = scripted.address.removeprefix("http://")
    target = f"https://{address}" if isinstance(scripted, Http) else f"grpcs://{address}"
    with pytest.raises(UnreachableError, match="does not speak TLS"):
        predict(use, target, retry=None)


# Fallback


@pytest.fixture
def fallback() -> Iterator[Http]:
    """Answers otherwise than gRPC."""
    with http_server({**ROUTES, ":predict": b'{"outputs": [3.5, 4.0]}'}) as server:
        yield server


@both
def test_fallback_if_grpc_does_not_get_through(fallback: Http, use: Use) -> None:
    """The first address does not speak HTTP/2, like some proxies."""
    with http_server({}) as proxy:
        target = proxy.address.removeprefix("http://")
        assert predict(use, target, fallback=fallback.address, retry=None)["y"].tolist() == [3.5, 4.0]


def test_fallback_is_remembered_for_a_while(fallback: Http, rpcs: Rpcs) -> None:
    options: dict[str, Any] = {"fallback": fallback.address, "retry": None}
    rpcs.fail("UNAVAILABLE", "no")
    with RecommenderClient(rpcs.address, "m", **options) as client:
        assert client.predict("", X)["y"].tolist() == [3.5, 4.0]
        assert client.predict("", X)["y"].tolist() == [3.5, 4.0]
        assert rpcs.calls == 1
    rpcs.fail("UNAVAILABLE", "no")
    with RecommenderClient(rpcs.address, "m", fallback_seconds=0, **options) as client:
        assert client.predict("", X)["y"].tolist() == [3.5, 4.0]
        assert client.predict("", X)["y"].tolist() == [1.0, 2.0]  # gRPC again


def test_fallback_that_goes_away_leads_back_to_grpc(fallback: Http, rpcs: Rpcs) -> None:
    rpcs.fail("UNAVAILABLE", "no")
    with RecommenderClient(rpcs.address, "m", fallback=fallback.address, retry=None) as client:
        assert client.predict("", X)["y"].tolist() == [3.5, 4.0]
        fallback.script = [(503, b"gone")]
        assert client.predict("", X)["y"].tolist() == [1.0, 2.0]
        assert client.predict("", X)["y"].tolist() == [1.0, 2.0]
        assert fallback.calls == 2


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "The batch scheduling queue ... is full", OverloadedError),
        ("RESOURCE_EXHAUSTED", "", OverloadedError),
        ("INVALID_ARGUMENT", "no", BadRequestError),
        ("NOT_FOUND", "no", ModelNotFoundError),
    ],
)
def test_no_fallback_for_other_errors(
    fallback: Http, rpcs: Rpcs, code: str, details: str, kind: type[ServingError]
) -> None:
    rpcs.fail(code, details)
    with pytest.raises(kind):
        predict(blocking, rpcs.address, fallback=fallback.address, retry=None)
    assert not fallback.exchanges


@both
def test_errors_of_the_fallback_are_reported_as_such(fallback: Http, use: Use) -> None:
    target = f"localhost:{free_port()}"
    fallback.fail("INVALID_ARGUMENT", "wrong shape")
    with pytest.raises(BadRequestError, match=rf"{fallback.address} refused the request: wrong shape"):
        predict(use, target, fallback=fallback.address, retry=None)
    unreachable = f"http://localhost:{free_port()}"
    with pytest.raises(UnreachableError, match=rf"at {target} .*nor does {unreachable}"):
        predict(use, target, fallback=unreachable, retry=None)
