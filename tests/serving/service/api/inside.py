"""Runs the application in this process, for tests that are not asynchronous."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from serving.service.api import create_app
from serving.service.api.access.keys import add_key
from serving.service.api.access.principals import ROLES
from serving.service.api.context import Context
from serving.service.options import default_options
from serving.service.store import Store, open_store
from tests.serving.service.api.fakes import FakeRecommender


class EmptyStore(NamedTuple):
    """A store in which there are only keys.

    Attributes:
        url: Its address.
        keys: Role -> key.
    """

    url: str
    keys: dict[str, str]


def add_keys(store: Store) -> dict[str, str]:
    """A key of each role, named like it."""
    return {role: add_key(store, role, role) for role in ROLES}


class Inside:
    """A service, and clients of it."""

    def __init__(self, url: str, keys: Mapping[str, str], **options: object) -> None:
        self.url = url
        self.keys = dict(keys)
        self.store = open_store(url)
        self.recommender = FakeRecommender()
        self.app = create_app(self.store, self.recommender, default_options(store=url, **options))
        self.context: Context = self.app.state.context
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Self:
        self.run(self._stack.enter_async_context(self.app.router.lifespan_context(self.app)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._stack.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self.store.close()

    @property
    def path(self) -> Path:
        """SQLite's file."""
        return Path(self.url.removeprefix("sqlite:///"))

    def call(
        self, method: str, url: str, body: object = None, *, key: str | None = "admin", **more: Any
    ) -> httpx.Response:
        """Sends one request; ``key`` is a role, a key or token, or None for none."""
        response: httpx.Response = self.run(self.request(method, url, body, key=key, **more))
        return response

    def together(self, requests: list[tuple[str, str, object]], key: str = "admin") -> list[httpx.Response]:
        """Sends requests at once."""

        async def all_() -> list[httpx.Response]:
            return await asyncio.gather(*(self.request(*each, key=key) for each in requests))

        return list(self.run(all_()))

    async def request(
        self,
        method: str,
        url: str,
        body: object = None,
        *,
        key: str | None = "admin",
        headers: Mapping[str, str] | None = None,
        address: str = "192.0.2.1",
        **more: Any,
    ) -> httpx.Response:
        given: dict[str, str | bytes] = dict(headers or {})
        if key is not None:
            given["Authorization"] = f"Bearer {self.keys.get(key, key)}".encode()
        if body is not None and not isinstance(body, bytes | str):
            more["json"] = body
        elif body is not None:
            more["content"] = body
            given.setdefault("Content-Type", "application/json")
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            encoded = [(name.encode(), _bytes(value)) for name, value in given.items()]
            return await client.request(method, url, headers=encoded, **more)

    def token(self, user_id: str = "", session_id: str = "", ttl: int = 600) -> str:
        """A token, made by the key of the role `app`."""
        body = {"user_id": user_id, "session_id": session_id, "ttl": ttl}
        response = self.call("POST", "/v1/tokens", body, key="app")
        assert response.status_code == 201, response.text
        token: str = response.json()["token"]
        return token

    def run(self, work: Any) -> Any:
        """The result of a coroutine."""
        return self._loop.run_until_complete(work)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def event(number: int | str, **fields: object) -> dict[str, object]:
    """An event as JSON."""
    return {"event_id": f"e-{number}", "event": "click", "timestamp": 1796000000, "session_id": "visit"} | fields


def problem(response: httpx.Response, status: int) -> str:
    """The detail of a problem document, whose form is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(document)
    assert document["status"] == status
    assert document["instance"].endswith(response.headers["x-request-id"])
    detail: str = document["detail"]
    return detail
