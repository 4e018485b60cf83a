"""Writers of a store that are killed while they write: each acknowledged event must be there exactly once."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa

from serving.service.store import open_store
from serving.service.store.schema import counts
from serving.service.types import Event

_BATCH = 20
_PROGRAM = "import sys; from benchmarks.speed.store_kills import write; write(sys.argv[1], int(sys.argv[2]))"
_MOST_CALLS = 40
_MOST_SECONDS = 0.01


@dataclass(frozen=True)
class Kills:
    """What became of the events.

    Attributes:
        rounds: Processes that were killed.
        acknowledged: Events whose call had returned.
        stored: Events in the store.
        lost: Acknowledged events that are not there.
        doubled: Events that are there twice, or were counted twice for popular items.
        torn: Calls of which a part is there.
    """

    rounds: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    torn: int


def write(url: str, first: int) -> None:
    """Appends events for ever, and prints the number of each call that has returned."""
    with open_store(url) as store:
        for number in itertools.count(first):
            store.append_events(_call(number))
            os.write(sys.stdout.fileno(), f"{number}\n".encode())


def kill_writers(url: str, rounds: int, seed: int = 0) -> Kills:
    """Kills writers (SIGKILL) one after the other, each at another moment, and looks what is there.

    Each sends the last acknowledged call again, as a client does whose connection broke.

    Args:
        url: Of an empty store.
        rounds: Number of processes.
        seed: Of the moments.
    """
    chance = random.Random(seed)
    acknowledged: set[int] = set()
    for _ in range(rounds):
        command = [sys.executable, "-c", _PROGRAM, url, str(max(acknowledged, default=0))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(1, _MOST_CALLS)):
                acknowledged.add(int(process.stdout.readline()))
            # Nothing is waited for: any moment of the next calls is as good.
            time.sleep(chance.random() * _MOST_SECONDS)
            process.kill()
            # What it had still said. The last line may be cut off.
            acknowledged.update(int(line) for line in process.stdout if line.endswith(b"\n"))
    return _look(url, rounds, acknowledged)


def _call(number: int) -> list[Event]:
    return [
        Event(
            event_id=f"{number}/{place}",
            event="click",
            timestamp=1_796_000_000 + number,
            user_id=f"用户{place}",
            item_id=f"item {number % 7}",
            language="zh",
        )
        for place in range(_BATCH)
    ]


def _look(url: str, rounds: int, acknowledged: set[int]) -> Kills:
    found = Counter[str]()
    with open_store(url) as store:
        mark = ""
        while True:
            events, mark = store.events_after(mark, 10_000)
            found.update(each.event_id for each in events)
            if not events:
                break
        with store._database.reading() as connection:
            counted = connection.execute(
                sa.select(sa.func.sum(counts.c.events)).where(counts.c.language == "")
            ).scalar()
    calls = Counter(event_id.partition("/")[0] for event_id in found)
    wanted = [each.event_id for number in acknowledged for each in _call(number)]
    return Kills(
        rounds=rounds,
        acknowledged=len(wanted),
        stored=len(found),
        lost=sum(event_id not in found for event_id in wanted),
        doubled=sum(number - 1 for number in found.values()) + abs(int(counted or 0) - len(found)),
        torn=sum(number != _BATCH for number in calls.values()),
    )
