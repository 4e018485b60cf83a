"""Sends a world's visitors to a recommendation service (docs/service.md), which is then a policy like any other."""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import polars as pl
from httpx_retries import Retry, RetryTransport

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.dataset import service_item
from benchmarks.simulation.events import interactions, service_events
from benchmarks.simulation.lists import EMPTY, Shown
from benchmarks.simulation.policies import Policy
from benchmarks.simulation.world import Requests, World
from serving.service.types import Event, Item
from trainer.errors import BabelrecError

_ITEMS_A_REQUEST = 500
# Without a model server items wait for ever, and the visits begin nevertheless.
_NIGHT_SECONDS = 60.0
# Events have ids and the rest may be repeated: what is refused for now, or not answered, is sent again.
_RETRY = Retry(
    total=5,
    allowed_methods=["GET", "PUT", "POST", "DELETE"],
    status_forcelist=[429, 503],
    retry_on_exceptions=[httpx.TransportError],
    backoff_factor=0.1,
)


class ServicePolicy(Policy):
    """A running service. Use it as a context manager.

    At the beginning of a day it is sent what has arrived (`PUT /v1/items`) and what has left (`DELETE`), and is given
    time to encode it, as a night would. The visits of a round (`Requests.rounds`) ask at once; when all lists are
    there, each visitor sends the events of its visit, as a request of its own. Requests and events have the world's
    time, which so runs as fast as the service answers.

    Args:
        world: The world.
        url: Of the service, such as ``http://127.0.0.1:8600``.
        key: Of an administrator, because the catalogue changes.
        places: Length of the lists.
        rate: Requests a second at most; None: as fast as ``clients`` allow.
        clients: Requests at the same time.
        now: Whether requests and events have the time of the clock instead of the world's: what the service measures
            over time, and its roll-outs, then see them as they come.
        timeout: Seconds.
        transport: By what requests are sent; None: HTTP.

    Attributes:
        counts: ``recommendations``, ``items``, ``degraded`` answers, ``unknown_items`` (which the world does not have
            on that day, and nobody looks at), ``repeated`` requests, and events by status: ``accepted``,
            ``duplicate``, ``rejected``.
        latencies: Seconds of each recommendation.
        seconds: Spent with recommendations and events.
    """

    def __init__(
        self,
        world: World,
        url: str,
        key: str,
        *,
        places: int = 10,
        rate: float | None = None,
        clients: int = 16,
        now: bool = False,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__("service")
        self.counts: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.seconds = 0.0
        self._world = world
        self._places = places
        self._pause = 0.0 if rate is None else 1.0 / rate
        self._clients = clients
        self._now = now
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        attempts = _Attempts(transport or httpx.AsyncHTTPTransport(limits=limits), self._before)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout,
            transport=RetryTransport(attempts, _RETRY),
        )
        self._runner = asyncio.Runner()
        self._known: dict[str, int] = {item_id: place for place, item_id in enumerate(world.items.ids)}
        self._sent: set[int] = set()
        self._next = 0.0
        # The same world may be sent to a service again: its visits and events are then new ones.
        self._prefix = f"{uuid.uuid4().hex[:8]}-"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def begin(self, day: int) -> None:
        """Brings the service's catalogue up to the day's."""
        present = set(self._world.catalogue(day).tolist())
        new, gone = sorted(present - self._sent), sorted(self._sent - present)
        self._runner.run(self._change(new, gone))
        self._sent = present

    def show(self, requests: Requests, random: np.random.Generator) -> Shown:
        """The service's lists; an item that it should not know leaves its place empty."""
        bodies = [self._body(requests, place) for place in range(len(requests))]
        answers = self._run(self._together(bodies, self._ask))
        lists = np.full((len(requests), self._places), EMPTY, np.int64)
        propensities = np.zeros(lists.shape)
        present = set(self._world.catalogue(requests.day).tolist())
        for row, answer in enumerate(answers):
            self.counts["degraded"] += bool(answer["degraded"])
            for place, item in enumerate(answer["items"][: self._places]):
                known = self._known.get(item["item_id"], EMPTY)
                if known not in present:
                    self.counts["unknown_items"] += 1
                    continue
                lists[row, place] = known
                propensities[row, place] = item["propensity"]
        self.counts["recommendations"] += len(answers)
        ids = [str(answer["recommendation_id"]) for answer in answers]
        return Shown(lists, propensities, np.full(len(requests), np.nan), ids)

    def heard(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:
        """Sends the events of each visit."""
        log = interactions(self._world, requests, shown, outcome, self._prefix)
        if self._now:
            log = log.with_columns(timestamp=pl.lit(int(time.time())))
        events = service_events(log)
        visits = [list(group) for _, group in itertools.groupby(events, key=lambda event: event.session_id)]
        for answer in self._run(self._together(visits, self._report)):
            for status in ("accepted", "duplicate", "rejected"):
                self.counts[status] += int(answer[status])

    def _body(self, requests: Requests, place: int) -> dict[str, Any]:
        person = int(requests.people[place])
        moment = {} if self._now else {"timestamp": int(requests.timestamps[place])}
        return {
            "user_id": self._world.people.ids[person],
            "session_id": f"{self._prefix}v{requests.ids[place]}",
            "language": self._world.languages[requests.language[place]],
            "country": self._world.people.country[person],
            "k": self._places,
            "placement": "home",
            **moment,
        }

    def _run(self, work: Awaitable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        async def timed() -> list[dict[str, Any]]:
            return await work

        started = time.perf_counter()
        try:
            return self._runner.run(timed())
        finally:
            self.seconds += time.perf_counter() - started

    async def _together(
        self, inputs: Sequence[Any], call: Callable[[Any], Awaitable[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        free = asyncio.Semaphore(self._clients)

        async def one(given: object) -> dict[str, Any]:
            async with free:
                return await call(given)

        return list(await asyncio.gather(*(one(given) for given in inputs)))

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        answer = await self._send("POST", "/v1/recommendations", body)
        self.latencies.append(time.perf_counter() - started)
        return answer

    async def _report(self, events: Sequence[Event]) -> dict[str, Any]:
        return await self._send("POST", "/v1/events", {"events": [_fields(event) for event in events]})

    async def _change(self, new: Sequence[int], gone: Sequence[int]) -> None:
        for start in range(0, len(new), _ITEMS_A_REQUEST):
            items = [_fields(service_item(self._world, item)) for item in new[start : start + _ITEMS_A_REQUEST]]
            await self._send("PUT", "/v1/items", {"items": items})
        for start in range(0, len(gone), _ITEMS_A_REQUEST):
            ids = [self._world.items.ids[item] for item in gone[start : start + _ITEMS_A_REQUEST]]
            await self._send("DELETE", "/v1/items", {"item_ids": ids})
        self.counts["items"] += len(new)
        until = time.monotonic() + _NIGHT_SECONDS
        while (await self._send("GET", "/v1/status"))["waiting_items"] and time.monotonic() < until:
            await asyncio.sleep(0.2)

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            why = f"{type(error).__name__}: {error}"
        else:
            if answer.is_success:
                content: dict[str, Any] = answer.json()
                return content
            why = f"{answer.status_code}: {answer.text[:300]}"
        url = str(self._client.base_url).rstrip("/") + path
        raise BabelrecError(
            f"{method} {url} failed: {why}. Remedy: check that the service runs there, and that the key is an "
            "administrator's."
        )

    async def _before(self, request: httpx.Request) -> None:
        """Waits for the turn of an attempt, and counts it if it is not the request's first one."""
        self.counts["repeated"] += "attempted" in request.extensions
        request.extensions["attempted"] = True
        if self._pause:
            # The times are a steady grid while there is work.
            now = time.monotonic()
            self._next = max(self._next + self._pause, now)
            await asyncio.sleep(self._next - now)


class _Attempts(httpx.AsyncBaseTransport):
    """Sits below the retries; calls ``before`` with the request of each attempt."""

    def __init__(self, inner: httpx.AsyncBaseTransport, before: Callable[[httpx.Request], Awaitable[None]]) -> None:
        self._inner = inner
        self._before = before

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._before(request)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _fields(of: Event | Item) -> dict[str, Any]:
    """What differs from the default."""
    values = {each.name: (getattr(of, each.name), each.default) for each in fields(of)}
    return {name: value for name, (value, default) in values.items() if value != default and value != {}}
