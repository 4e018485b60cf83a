"""Many fresh items in the service next to a large index in the model."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.harness.service import ServiceProcess, admin_key, all_encoded, model_server, until
from benchmarks.harness.timing import percentiles
from benchmarks.speed.catalogue import ITEMS, titles
from serving.service.store import open_store
from serving.service.types import Item

MANY_FRESH = 50_000
AT = (50, 95, 99)
# Requests of each kind before those that are measured.
_WARM = 50


def measure_large_tier(version: Path, folder: Path, count: int) -> dict[str, Any]:
    """What many fresh items add to an answer: of two services on one model server, one has them.

    Args:
        version: Of the large catalogue's model (`benchmarks.speed.catalogue`).
        folder: To create.
        count: Requests of each kind to each service.
    """
    folder.mkdir()
    stores = [f"sqlite:///{folder / name}.db" for name in ("without", "with")]
    keys = [admin_key(url) for url in stores]
    with open_store(stores[1]) as store:
        made = titles(MANY_FRESH, seed=7)
        for start in range(0, len(made), 1_000):
            store.put_items(
                [
                    Item(item_id=f"fresh{start + place}", language=language, title=title, categories=[title.split()[0]])
                    for place, (language, title) in enumerate(made[start : start + 1_000])
                ]
            )
    random = np.random.default_rng(3)
    with ExitStack() as opened:
        server = opened.enter_context(model_server(version, folder))
        clients: list[httpx.Client] = []
        services: list[ServiceProcess] = []
        for url, key in zip(stores, keys, strict=True):
            log = folder / f"service{len(services)}.log"
            services.append(opened.enter_context(ServiceProcess(url, server.address, log, ["--deadline_ms=5000"])))
            clients.append(opened.enter_context(services[-1].client(key)))
        began = time.perf_counter()
        for service, client in zip(services, clients, strict=True):
            service.wait(model=True)
            until(client, all_encoded)
        encoding = time.perf_counter() - began
        found: dict[str, Any] = {"encoding_seconds": encoding, "memory_mb": round(services[1].memory() / 2**20)}
        words = [title for _, title in titles(count, seed=11)]
        for kind in ("recommendations", "search"):
            taken: list[list[float]] = [[], []]
            fresh = 0
            for number in range(count + _WARM):
                seen = [f"i{item}" for item in random.integers(ITEMS, size=10)]
                body = (
                    {"seen": seen, "k": 10} if kind == "recommendations" else {"query": words[number % count], "k": 10}
                )
                for client, times in zip(clients, taken, strict=True):
                    asked = time.perf_counter()
                    answer = client.post(f"/v1/{kind}", json=body)
                    times.append(1000 * (time.perf_counter() - asked))
                    assert answer.json()["degraded"] is False, answer.text
                fresh += sum(item["source"] == "fresh" for item in answer.json()["items"])
            without, with_fresh = (percentiles(times[_WARM:], AT) for times in taken)
            found[kind] = {
                "without_ms": without,
                "with_fresh_ms": with_fresh,
                "added_ms_p50": with_fresh["p50"] - without["p50"],
                "share_of_fresh": fresh / (10 * (count + _WARM)),
            }
    return found
