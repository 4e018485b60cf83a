"""Bounds, headers, problem documents, request ids, logs and operators' addresses."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from serving.service.api.logs import JsonFormatter
from serving.service.store import UnavailableError
from tests.serving.service.api.inside import EmptyStore, Inside, event, problem


def test_problems_of_routing(service: Inside) -> None:
    problem(service.call("GET", "/nothing", key=None), 404)
    problem(service.call("GET", "/v1/nothing", key=None), 401)
    problem(service.call("GET", "/v1/nothing"), 404)
    response = service.call("GET", "/v1/recommendations")
    problem(response, 405)
    assert response.headers["allow"] == "POST"
    problem(service.call("BREW", "/v1/recommendations", {}), 405)


def test_bodies_are_bounded(empty_store: EmptyStore) -> None:
    with Inside(*empty_store, max_body_bytes=1_000) as service:
        assert "1,000" in problem(service.call("POST", "/v1/recommendations", {"query": "x" * 1_000}), 413)

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b" " * 100

        async def chunked() -> Any:
            return await service.request("POST", "/v1/recommendations", None, content=parts())

        problem(service.run(asyncio.wait_for(chunked(), 5)), 413)
        assert service.call("POST", "/v1/recommendations", {"query": "x" * 900}).status_code == 200


def test_requests_take_bounded_time(empty_store: EmptyStore) -> None:
    with Inside(*empty_store, request_timeout_seconds=0.2) as service:
        service.recommender.seconds = 5
        started = time.monotonic()
        problem(service.call("POST", "/v1/recommendations", {}), 504)
        assert time.monotonic() - started < 2


def test_request_ids(service: Inside) -> None:
    given = service.call("POST", "/v1/recommendations", {}, headers={"X-Request-ID": "shop-17.a_b"})
    assert given.headers["x-request-id"] == "shop-17.a_b"
    for odd in ("a b", "x" * 65, 'a"}\n', "é", ""):
        answer = service.call("POST", "/v1/recommendations", {}, headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert len(answer) == 32


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the service logs."""
    found: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    handler = Handler()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("serving.service")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_logs_name_requests_and_no_people(service: Inside, lines: list[dict[str, Any]]) -> None:
    headers = {"X-Request-ID": "r1"}
    token = service.token("대한민국", "visit-9")
    service.call("GET", "/v1/users/대한민국", headers=headers)
    service.call("POST", "/v1/recommendations", {"query": "비밀"}, key=token)
    service.call("POST", "/v1/events", [event(1, user_id="대한민국", event="")])
    first = next(line for line in lines if line.get("request_id") == "r1")
    assert (first["route"], first["method"], first["status"], first["key"]) == (
        "/v1/users/{user_id}",
        "GET",
        404,
        "admin",
    )
    assert next(line for line in lines if line.get("token"))["key"] == "app"
    text = json.dumps(lines, ensure_ascii=False)
    for secret in ("대한", "visit-9", "비밀", token, "brk_", "%EB"):
        assert secret not in text


def test_failures_are_logged_with_the_request(service: Inside, lines: list[dict[str, Any]]) -> None:
    service.recommender.error = RuntimeError("boom")
    response = service.call("POST", "/v1/recommendations", {})
    assert "boom" not in problem(response, 500)
    failed = next(line for line in lines if line["message"] == "request failed")
    assert "boom" in failed["exception"]
    assert failed["request_id"] == response.headers["x-request-id"]


def test_headers(service: Inside) -> None:
    answer = service.call("POST", "/v1/recommendations", {}).headers
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["referrer-policy"] == "no-referrer"
    assert answer["cache-control"] == "no-store"
    assert answer["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    for path in ("/docs", "/redoc", "/console", "/console/rules"):
        policy = service.call("GET", path, key=None).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self';" in policy
    assert "strict-transport-security" not in answer


def test_origins(empty_store: EmptyStore) -> None:
    with Inside(*empty_store, cors_origins=("https://shop.example",)) as service:
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for origin, allowed in (("https://shop.example", True), ("https://shop.example.evil", False), ("null", False)):
            headers = {"Origin": origin}
            preflight = service.call("OPTIONS", "/v1/recommendations", key=None, headers=headers | ask)
            actual = service.call("POST", "/v1/recommendations", {}, headers=headers)
            refused = service.call("POST", "/v1/recommendations", {}, key=None, headers=headers)
            for response in (preflight, actual, refused):
                assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
            assert "access-control-allow-credentials" not in actual.headers


def test_no_origins_by_default(service: Inside) -> None:
    response = service.call("POST", "/v1/recommendations", {}, headers={"Origin": "https://shop.example"})
    assert "access-control-allow-origin" not in response.headers


def test_health_and_readiness(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.call("GET", "/healthz", key=None).status_code == 200
    assert service.call("GET", "/readyz", key=None).json() == {
        "ready": True, "store": True, "draining": False, "degraded": False, "model_version": 7,
    }  # fmt: skip
    service.recommender.ready = False
    answer = service.call("GET", "/readyz", key=None)
    assert (answer.status_code, answer.json()["degraded"]) == (200, True)

    def fail() -> str:
        raise UnavailableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(service.store, "latest_mark", fail)
        assert service.call("GET", "/readyz", key=None).status_code == 503
    service.context.draining = True
    assert service.call("GET", "/readyz", key=None).json()["draining"]
    assert service.call("POST", "/v1/recommendations", {}).status_code == 200


def test_requests_go_on_while_keys_cannot_be_read(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.call("POST", "/v1/recommendations", {}).status_code == 200

    def fail() -> list[Any]:
        raise UnavailableError("gone")

    monkeypatch.setattr(service.store, "keys", fail)
    monkeypatch.setattr(service.context.keys, "_read", float("-inf"))
    assert service.call("POST", "/v1/recommendations", {}).status_code == 200
    problem(service.call("POST", "/v1/recommendations", {}, key="brk_unknown"), 401)


def test_metrics_may_need_a_key(empty_store: EmptyStore) -> None:
    with Inside(*empty_store, metrics_key=True) as service:
        problem(service.call("GET", "/metrics", key=None), 401)
        problem(service.call("GET", "/metrics", key="app"), 403)
        assert service.call("GET", "/metrics", key="read-only").status_code == 200
