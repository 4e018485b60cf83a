"""Events per second that the service's store takes, and whether a killed process loses one.

One thread appends events in calls of 500, each durable when it returns, to SQLite and to a PostgreSQL server that is
started for it with its own settings, on the disk of the temporary folder. An event's id is random; a call has the
events of a hundred visitors. ``events_per_second`` counts the time of all calls, ``last_tenth`` that of the last ones,
when the tables are largest. Then processes are killed (SIGKILL) while they write: no acknowledged event may be lost,
none stored twice.
"""

import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console

from benchmarks.harness.postgresql import postgresql_programs, postgresql_server
from benchmarks.harness.runner import Options, Result, progress, run
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.harness.timing import Seconds, note_of_other_work, percentiles, timed
from benchmarks.speed.store_kills import kill_writers
from serving.arguments import argument
from serving.service.store import Store, open_store
from serving.service.types import Event

_PACKAGES = ("sqlalchemy", "psycopg", "msgspec")
_BATCH = 500
_BARS = {"sqlite": 10_000, "postgresql": 5_000}
_VISITORS = 100  # of a call
_USERS, _ITEMS = 20_000, 10_000
_WARM_UP = 4


@dataclass(frozen=True)
class _Options(Options):
    events: int = argument("--events", type=int, default=200_000, help="events to append (default: %(default)s)")
    kills: int = argument("--kills", type=int, default=20, help="processes to kill (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("speed.store", __doc__, _Options, _run, _page, arguments, packages=_PACKAGES)


def _run(options: _Options, console: Console) -> Result:
    found: dict[str, Any] = {}
    calls = max(options.events // _BATCH, 1)
    with progress(console) as bar:
        for name in _BARS:
            task = bar.add_task(name, total=2)
            with _urls(name) as urls:
                if urls is None:
                    console.print(f"{name} is not on this machine.")
                    continue
                with open_store(urls[0]) as store:
                    found[name] = _speed(store, calls)
                bar.advance(task)
                found[name]["kills"] = asdict(kill_writers(urls[1], options.kills))
                bar.advance(task)
    bars = []
    for name, bar_value in _BARS.items():
        figures = found.get(name, {})
        bars.append(at_least(f"{name}: events per second", figures.get("events_per_second"), bar_value))
        for kind in ("lost", "doubled", "torn"):
            value = figures["kills"][kind] if figures else None
            bars.append(at_most(f"{name}: {options.kills} killed writers: {kind}", value, 0))
    return {"batch": _BATCH, "databases": found, "bars": bars}


@contextlib.contextmanager
def _urls(name: str) -> Iterator[list[str] | None]:
    """Two empty databases; None if there is no such server."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield [f"sqlite:///{Path(folder) / each}.db" for each in ("speed", "kills")]
        return
    programs = postgresql_programs()
    if programs is None:
        yield None
        return
    with postgresql_server(programs) as url:
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("CREATE DATABASE kills"))
        engine.dispose()
        yield [url, url.replace("/postgres?", "/kills?")]


def _speed(store: Store, calls: int) -> dict[str, Any]:
    for number in range(_WARM_UP):
        store.append_events(_events(number))
    taken: list[Seconds] = []
    for number in range(_WARM_UP, _WARM_UP + calls):
        events = _events(number)
        seconds, new = timed(store.append_events, events)
        assert all(new)
        taken.append(seconds)
    last = taken[-max(calls // 10, 1) :]
    began, read, mark = time.perf_counter(), 0, ""
    while True:
        found, mark = store.events_after(mark, 1000)
        read += len(found)
        if not found:
            break
    return {
        "events": calls * _BATCH,
        "events_per_second": calls * _BATCH / sum(each.wall for each in taken),
        "last_tenth": _BATCH * len(last) / sum(each.wall for each in last),
        "milliseconds_per_call": percentiles([1000 * each.wall for each in taken]),
        "processor_milliseconds_per_call": 1000 * sum(each.cpu for each in taken) / calls,
        "read_per_second": read / (time.perf_counter() - began),
    }


def _events(number: int) -> list[Event]:
    return [
        Event(
            event_id=str(uuid.uuid4()),
            event="click",
            timestamp=1_796_000_000 + number,
            user_id=f"用户{_mixed(number, each, _USERS)}",
            session_id=f"session {_mixed(number, each, 1 << 32)}",
            # Popular items are in every call, others are rare.
            item_id=f"item {(each % 1000) ** 2 % _ITEMS}",
            recommendation_id=str(uuid.uuid4()),
            position=each % 20,
            propensity=0.5,
            language=("zh", "ko", "en", "ar")[each % 4],
            country="TW",
            placement="home",
            context={"device": "phone", "width": 390},
        )
        for each in range(number * _BATCH, (number + 1) * _BATCH)
    ]


def _mixed(call: int, event: int, kinds: int) -> int:
    """Of the visitor who does the event; those of a call are not neighbours in an index."""
    return (call * _VISITORS + event % _VISITORS) * 2_654_435_761 % kinds


def _page(result: Result) -> list[Table | str]:
    rows = [
        [
            name,
            f"{each['events_per_second']:,.0f}",
            f"{each['last_tenth']:,.0f}",
            f"{each['milliseconds_per_call']['p50']:.1f}",
            f"{each['milliseconds_per_call']['p95']:.1f}",
            f"{each['processor_milliseconds_per_call']:.1f}",
            f"{each['read_per_second']:,.0f}",
        ]
        for name, each in result["databases"].items()
    ]
    kills = [
        [
            name,
            *(f"{each['kills'][kind]:,}" for kind in ("rounds", "acknowledged", "stored", "lost", "doubled", "torn")),
        ]
        for name, each in result["databases"].items()
    ]
    return [
        Table(
            f"Events appended in calls of {result['batch']}",
            ("database", "events/s", "of the last tenth", "ms per call", "p95", "processor ms", "events/s read"),
            rows,
        ),
        Table("Killed writers", ("database", "killed", "acknowledged", "stored", "lost", "doubled", "torn"), kills),
        *note_of_other_work(result["environment"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
