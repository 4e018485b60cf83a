"""The service while it, or the model server behind it, is killed (SIGKILL)."""

import os
import signal
import threading
import time
import uuid
from typing import Any

import httpx
import sqlalchemy as sa

from benchmarks.harness.server import Server
from benchmarks.harness.service import ServiceProcess
from serving.service.store import open_store
from serving.service.store.schema import events


def kill_service(service: ServiceProcess, store: str, key: str, rounds: int) -> dict[str, Any]:
    """Kills a replica again and again while it takes a thousand events a second.

    Args:
        service: The replica.
        store: Address of its store.
        key: Of the service.
        rounds: Number of kills.
    """
    acknowledged: list[str] = []
    sent = 0
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=10.0) as client:
        for number in range(rounds):
            service.wait(model=False)
            timer = threading.Timer(0.5 + 0.07 * number, service.kill_and_restart)
            timer.start()
            waiting: list[dict[str, Any]] = []
            while timer.is_alive() or waiting:
                if not waiting:
                    waiting = [
                        {
                            "event_id": f"kill-{uuid.uuid4().hex}", "event": "view", "timestamp": int(time.time()),
                            "user_id": "u", "item_id": "50",
                        }
                        for _ in range(100)
                    ]  # fmt: skip
                    sent += len(waiting)
                began = time.perf_counter()
                try:
                    answer = client.post(f"{service.url}/v1/events", json=waiting)
                except httpx.TransportError:
                    # Not acknowledged: sent again, with the same ids.
                    time.sleep(0.05)
                    continue
                if answer.status_code == httpx.codes.OK:
                    acknowledged += [each["event_id"] for each in waiting]
                    waiting = []
                time.sleep(max(0.0, 0.1 - (time.perf_counter() - began)))
            timer.join()
    with open_store(store) as opened:
        engine = sa.create_engine(store)
        with engine.connect() as connection:
            query = sa.select(events.c.event_id).where(events.c.event_id.startswith("kill-"))
            stored = connection.execute(query).scalars().all()
        engine.dispose()
        assert opened.count_items()
    return {
        "rounds": rounds,
        "sent": sent,
        "acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - set(stored)),
        "doubled": len(stored) - len(set(stored)),
    }


def kill_model_server(server: Server, client: httpx.Client) -> dict[str, Any]:
    """Answers while the model server is killed (SIGKILL)."""
    counts = {"answers": 0, "errors": 0, "degraded_before": 0, "degraded_after": 0, "normal_after": 0}
    slowest = 0.0
    killed = 0.0
    began = time.perf_counter()
    while time.perf_counter() - began < 6.0:
        if not killed and time.perf_counter() - began > 2.0:
            os.kill(server.pid, signal.SIGKILL)
            killed = time.perf_counter()
        asked = time.perf_counter()
        answer = client.post("/v1/recommendations", json={"user_id": str(counts["answers"] % 900), "k": 10})
        slowest = max(slowest, time.perf_counter() - asked)
        counts["answers"] += 1
        if answer.status_code != httpx.codes.OK or not answer.json()["items"]:
            counts["errors"] += 1
        elif not killed:
            counts["degraded_before"] += answer.json()["degraded"]
        else:
            counts["degraded_after" if answer.json()["degraded"] else "normal_after"] += 1
        time.sleep(0.005)
    return counts | {"slowest_ms": 1000 * slowest}
