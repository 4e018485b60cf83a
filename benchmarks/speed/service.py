"""The recommendation service compared with the model server behind it, and how soon what happens counts.

Model server, two replicas of the service on one SQLite store and the clients share the machine. The model is that of
`make demo` with its dataset in the store. Requests to the service and to the model server alternate, one at a time,
for the same users with the same histories.
"""

import itertools
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.harness.runner import Options, Result, progress, run
from benchmarks.harness.server import MODEL, Server, newest_version
from benchmarks.harness.service import ServiceProcess, admin_key, all_encoded, model_server, until
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.harness.timing import note_of_other_work, percentiles
from benchmarks.speed.catalogue import export_catalogue
from benchmarks.speed.large_tier import AT, MANY_FRESH, measure_large_tier
from benchmarks.speed.service_kills import kill_model_server, kill_service
from serving.arguments import argument
from serving.client import Query, RecommenderClient
from serving.service.importing import import_dataset
from serving.service.store import open_store
from trainer.runs import Run

_PACKAGES = ("tensorflow", "fastapi", "uvicorn", "grpcio", "sqlalchemy", "msgspec")
_LOAD_PAUSE = 0.02
# Fresh items, besides the model's own.
_FRESH = 100


@dataclass(frozen=True)
class _Options(Options):
    run_dir: Path = argument("--run-dir", type=Path, default=Path("runs/quickstart"), help="default: %(default)s")
    model_dir: Path = argument(
        "--model-dir", type=Path, default=Path("models/recommender"), help="default: %(default)s"
    )
    requests: int = argument("--requests", type=int, default=600, help="of each kind (default: %(default)s)")
    trials: int = argument("--trials", type=int, default=100, help="events, items, deletions (default: %(default)s)")
    synthetic: Path = argument(
        "--synthetic", type=Path, default=Path("runs/bench/synthetic"), help="folder of the large catalogue"
    )
    kills: int = argument("--kills", type=int, default=20, help="kills of the service (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("speed.service", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


@dataclass(frozen=True)
class _World:
    """What is measured: a model server and two replicas of the service."""

    server: Server
    first: ServiceProcess
    second: ServiceProcess
    store: str
    key: str

    def client(self, replica: ServiceProcess) -> httpx.Client:
        return replica.client(self.key)


def _run(options: _Options, console: Console) -> Result:
    dataset = Run.open(options.run_dir).dataset().path
    found: dict[str, Any] = {}
    with progress(console) as bar, tempfile.TemporaryDirectory() as name:
        task = bar.add_task("start", total=9)

        def step(title: str) -> None:
            bar.update(task, advance=1, description=title)

        with _world(newest_version(options.model_dir), dataset, Path(name)) as world:
            step("requests")
            found["requests"] = _requests(world, options.requests)
            step("requests with fresh items")
            with world.client(world.first) as client:
                for number in range(_FRESH):
                    body = {"language": "en", "title": f"A new film {number}", "categories": ["Drama"]}
                    client.put(f"/v1/items/fresh{number}", json=body).raise_for_status()
                until(client, all_encoded)
            found["requests_with_fresh_items"] = _requests(world, options.requests)
            step("events")
            found["event_to_effect"] = _events_to_effect(world, options.trials)
            step("items")
            found["items"] = _items_to_effect(world, options.trials)
            step("deletions")
            found["deletions"] = _deletions(world, max(options.trials // 5, 5))
            step("kills of the service")
            found["kills"] = kill_service(world.first, world.store, world.key, options.kills)
        step("kill of the model server")
        again = _world(newest_version(options.model_dir), dataset, Path(name) / "again", replicas=1)
        with again as world, world.client(world.first) as client:
            found["model_killed"] = kill_model_server(world.server, client)
        step(f"{MANY_FRESH:,} fresh items with a large index")
        large = newest_version(export_catalogue(options.synthetic))
        found["large_tier"] = measure_large_tier(large, Path(name) / "large", options.requests)
        step("done")
    return found | {"bars": _bars(found)}


@contextmanager
def _world(version: Path, dataset: Path, folder: Path, replicas: int = 2) -> Iterator[_World]:
    folder.mkdir(exist_ok=True)
    store = f"sqlite:///{folder / 'store.db'}"
    with open_store(store) as opened:
        import_dataset(dataset, opened)
    key = admin_key(store)
    with model_server(version, folder) as server:
        services = [
            ServiceProcess(store, server.address, folder / f"service{n}.log", ["--deadline_ms=5000"])
            for n in range(replicas)
        ]
        try:
            world = _World(server, services[0], services[-1], store, key)
            for service in services:
                service.wait(model=True)
                until(world.client(service), all_encoded)
            yield world
        finally:
            for service in services:
                service.__exit__()


def _requests(world: _World, count: int) -> dict[str, Any]:
    users = [str(number) for number in range(1, 101)]
    with open_store(world.store) as store:
        histories = {user: [each.item_id for each in store.history(user_id=user, limit=50)] for user in users}
    service_ms, model_ms, cpu = [], [], 0.0
    with world.client(world.first) as client, RecommenderClient(world.server.address, MODEL) as model:

        def ask_service(user: str) -> float:
            began = time.perf_counter()
            answer = client.post("/v1/recommendations", json={"user_id": user, "k": 10})
            taken = time.perf_counter() - began
            assert answer.json()["degraded"] is False, answer.text
            return 1000 * taken

        def ask_model(user: str) -> float:
            began = time.perf_counter()
            model.recommend(Query(user_id=user, history=histories[user], k=10))
            return 1000 * (time.perf_counter() - began)

        for user in users:
            ask_service(user)
            ask_model(user)
        for number in range(count):
            user = users[number % len(users)]
            before = world.first.processor_seconds()
            service_ms.append(ask_service(user))
            cpu += world.first.processor_seconds() - before
            model_ms.append(ask_model(user))
    before, began = world.first.processor_seconds(), time.perf_counter()
    time.sleep(2.0)
    idle = (world.first.processor_seconds() - before) / (time.perf_counter() - began)
    return {
        "service_ms": percentiles(service_ms, AT),
        "model_ms": percentiles(model_ms, AT),
        "overhead_ms_p50": percentiles(service_ms)["p50"] - percentiles(model_ms)["p50"],
        "processor_ms": 1000 * cpu / count,
        "processor_share_idle": idle,
    }


def _events_to_effect(world: _World, trials: int) -> dict[str, Any]:
    """From the acknowledgement of a click to the first answer without what was clicked on."""
    same, other, answers = [], [], []
    with world.client(world.first) as first, world.client(world.second) as second:
        for number in range(trials):
            user = str(200 + number)
            for client in (first, second):
                answer = client.post("/v1/recommendations", json={"user_id": user, "k": 5}).json()
            item, recommendation = answer["items"][0]["item_id"], answer["recommendation_id"]
            event = {
                "event_id": uuid.uuid4().hex, "event": "click", "timestamp": int(time.time()), "user_id": user,
                "item_id": item, "recommendation_id": recommendation, "position": 0,
            }  # fmt: skip
            began = time.perf_counter()
            first.post("/v1/events", json=[event]).raise_for_status()
            answers.append(1000 * (time.perf_counter() - began))

            def gone(client: httpx.Client, user: str = user, item: str = item) -> bool:
                found = client.post("/v1/recommendations", json={"user_id": user, "k": 5}).json()["items"]
                return all(each["item_id"] != item for each in found)

            acknowledged = time.perf_counter()
            same.append(until(first, gone))
            until(second, gone)
            other.append(1000 * (time.perf_counter() - acknowledged))
    return {
        "answer_ms": percentiles(answers, AT),
        "same_replica_ms": percentiles(same, AT),
        "other_replica_ms": percentiles(other, AT),
    }


def _items_to_effect(world: _World, trials: int) -> dict[str, Any]:
    """From a put to the first search that finds the item, with other requests going on."""
    taken = []
    with _load(world), world.client(world.first) as client:
        for number in range(trials):
            title = f"新しい映画 {uuid.uuid4().hex[:12]}"
            body = {"language": "ja", "title": title, "categories": ["Sci-Fi"]}
            client.put(f"/v1/items/new{number}", json=body).raise_for_status()
            taken.append(until(client, partial(_finds, query=title, item_id=f"new{number}")))
    return {"put_to_found_ms": percentiles(taken, AT)}


def _finds(client: httpx.Client, query: str, item_id: str) -> bool:
    answer = client.post("/v1/search", json={"query": query, "k": 10}).json()
    return any(item["item_id"] == item_id for item in answer["items"])


def _lacks(client: httpx.Client, query: str, item_id: str) -> bool:
    return not _finds(client, query, item_id)


@contextmanager
def _load(world: _World) -> Iterator[None]:
    """Requests of other people, some fifty a second."""
    stop = threading.Event()

    def ask() -> None:
        with world.client(world.first) as client:
            for number in itertools.count():
                if stop.wait(_LOAD_PAUSE):
                    return
                client.post("/v1/recommendations", json={"user_id": str(1 + number % 900), "k": 10})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _deletions(world: _World, trials: int) -> dict[str, Any]:
    """From the answer to a deletion until no replica shows the item, or knows the person's history."""
    items, people = [], []
    with world.client(world.first) as first, world.client(world.second) as second:
        for number in range(trials):
            item_id = f"new{number}"
            title = first.get(f"/v1/items/{item_id}").json()["title"]
            for client in (first, second):
                until(client, partial(_finds, query=title, item_id=item_id))
            first.delete(f"/v1/items/{item_id}").raise_for_status()
            began = time.perf_counter()
            for client in (first, second):
                until(client, partial(_lacks, query=title, item_id=item_id))
            items.append(1000 * (time.perf_counter() - began))
            user = str(600 + number)
            body = {"user_id": user, "k": 20}
            nobody = [each["item_id"] for each in second.post("/v1/recommendations", json={"k": 20}).json()["items"]]
            for client in (first, second):
                client.post("/v1/recommendations", json=body)
            first.delete(f"/v1/users/{user}").raise_for_status()
            began = time.perf_counter()

            def forgotten(client: httpx.Client, body: dict[str, Any] = body, nobody: list[str] = nobody) -> bool:
                answer = client.post("/v1/recommendations", json=body).json()["items"]
                return [each["item_id"] for each in answer] == nobody

            for client in (first, second):
                until(client, forgotten)
            people.append(1000 * (time.perf_counter() - began))
    return {"item_ms": percentiles(items, AT), "person_ms": percentiles(people, AT)}


def _bars(found: dict[str, Any]) -> list[Any]:
    effect, kills, large = found["event_to_effect"], found["kills"], found["large_tier"]
    with_fresh = f"with {_FRESH} fresh items"
    return [
        *(
            bar
            for name, each in (("", found["requests"]), (f", {with_fresh}", found["requests_with_fresh_items"]))
            for bar in (
                at_most(f"service over model server, one client{name}, p50 ms", each["overhead_ms_p50"], 4.0),
                at_most(f"processor ms of the service a recommendation{name}", each["processor_ms"], 1.5),
            )
        ),
        *(
            at_most(f"{kind}: added by {MANY_FRESH:,} fresh items, p50 ms", large[kind]["added_ms_p50"], 3.0)
            for kind in ("recommendations", "search")
        ),
        at_most("event to effect, same replica, p99 ms after the answer", effect["same_replica_ms"]["p99"], 50.0),
        at_most("event to effect, another replica, p99 ms", effect["other_replica_ms"]["p99"], 1000.0),
        at_most("item put to recommendable, under load, p99 ms", found["items"]["put_to_found_ms"]["p99"], 2000.0),
        at_most(f"{kills['rounds']} kills: acknowledged events lost", kills["lost"], 0),
        at_most(f"{kills['rounds']} kills: events counted twice", kills["doubled"], 0),
        at_most("model server killed: errors", found["model_killed"]["errors"], 0),
        at_least("model server killed: degraded answers", found["model_killed"]["degraded_after"], 1),
        at_most("a deleted item in any answer, p99 ms", found["deletions"]["item_ms"]["p99"], 1000.0),
        at_most("a deleted person in any answer, p99 ms", found["deletions"]["person_ms"]["p99"], 1000.0),
    ]


def _page(result: Result) -> list[Table | str]:
    rows = [
        [title, *(f"{figures[f'p{share}']:.1f}" for share in AT)]
        for title, figures in (
            ("recommendation by the service", result["requests"]["service_ms"]),
            ("the same by the model server", result["requests"]["model_ms"]),
            (f"by the service, with {_FRESH} fresh items", result["requests_with_fresh_items"]["service_ms"]),
            *(
                (f"{kind}, large index{name}", result["large_tier"][kind][key])
                for kind in ("recommendations", "search")
                for key, name in (("without_ms", ""), ("with_fresh_ms", f", with {MANY_FRESH:,} fresh items"))
            ),
            ("an event's answer", result["event_to_effect"]["answer_ms"]),
            ("event to effect, same replica", result["event_to_effect"]["same_replica_ms"]),
            ("event to effect, another", result["event_to_effect"]["other_replica_ms"]),
            ("item put to found, under load", result["items"]["put_to_found_ms"]),
            ("item deleted to gone, both", result["deletions"]["item_ms"]),
            ("person deleted to forgotten, both", result["deletions"]["person_ms"]),
        )
    ]
    return [
        Table("Milliseconds", ["what", *(f"p{share}" for share in AT)], rows),
        f"Processor time: {result['requests']['processor_ms']:.2f} ms a recommendation, "
        f"{result['requests_with_fresh_items']['processor_ms']:.2f} with fresh items; "
        f"{100 * result['requests']['processor_share_idle']:.1f} % of a core without requests.",
        f"Model server killed: {result['model_killed']}",
        f"Service killed: {result['kills']}",
        *note_of_other_work(result["environment"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
