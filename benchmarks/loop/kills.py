"""An update that is killed (SIGKILL) at random moments, while its model is served."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, run
from benchmarks.harness.store import RESULTS
from benchmarks.harness.table import Table, at_least, at_most
from benchmarks.loop.fortnight import model_config, world_settings
from benchmarks.simulation.dataset import log_of, write_tables
from benchmarks.simulation.events import service_events
from benchmarks.simulation.policies import EpsilonGreedy, Popularity
from benchmarks.simulation.world import World
from serving import manifest
from serving.arguments import argument
from serving.client import Query, RecommenderClient
from serving.client.errors import ServingError
from serving.service.importing import import_dataset
from serving.service.options import STORE_VARIABLE
from serving.service.store import open_store
from trainer import child
from trainer.errors import BabelrecError
from trainer.export.export import export
from trainer.programs import Program
from trainer.steps import model_server
from trainer.training.fit import fit

_EPSILON: Final = 0.3
_BATCH: Final = 1_000
_PAUSE: Final = 0.05
_UPDATE_SECONDS: Final = 1_800.0


def kill_updates(
    world: World, folder: Path, *, warm_up: int, kills: int, seed: int, advance: Callable[[str], None]
) -> dict[str, Any]:
    """Kills updates of a served model again and again; each update that ends is followed by one of another day.

    Args:
        world: The world.
        folder: For the store, runs and versions.
        warm_up: Days that the first model learns from.
        kills: How many.
        seed: Of the moments.
        advance: Called with what has been done.

    Returns:
        ``kills``, ``ended`` updates, ``versions`` that they wrote and how many of these are not ``whole``, and requests
        that the model server answered meanwhile or ``failed``.
    """
    policy = EpsilonGreedy(world, Popularity(world), _EPSILON)
    days = [log_of(world, policy, [day]) for day in range(warm_up + kills + 2)]
    data = write_tables(world, folder / "data", pl.concat(days[:warm_up]), day=warm_up - 1, description="A shop.")
    first = fit(model_config(data.path, world.seed), folder / "run")
    model = folder / "model"
    if not list(model.glob("[0-9]*")):
        export(first, model)
    url = f"sqlite:///{folder / 'store.db'}"
    with open_store(url) as store:
        import_dataset(data.path, store)
    moments = random.Random(seed)
    ended, done, usual = 0, 0, 60.0
    next_day = warm_up
    with model_server(model, folder / "model_server.log") as server, _Asking(server, model.name) as asking:
        while done < kills:
            with open_store(url) as store:
                events = service_events(days[next_day])
                for begin in range(0, len(events), _BATCH):
                    store.append_events(events[begin : begin + _BATCH])
            next_day += 1
            over = False
            while not over:
                wait = moments.uniform(0.0, 1.1 * usual) if done < kills else _UPDATE_SECONDS
                over, seconds = _update(folder, model, url, wait)
                done += not over
                advance(
                    f"kill {done} of {kills} after {seconds:.0f} s" if not over else f"an update has ended: {ended + 1}"
                )
            ended += 1
    versions = [path for path in model.glob("*") if path.name.isdecimal()]
    leftovers = [path.name for path in model.glob("*") if not path.name.isdecimal() and path.is_dir()]
    broken = [path.name for path in versions if manifest.wrong_size(path) or manifest.wrong_digest(path)]
    return {
        "kills": done,
        "updates": ended,
        "versions": len(versions),
        "not_whole": len(broken),
        "leftovers": leftovers,
        "requests": asking.answered + asking.failed,
        "failed": asking.failed,
    }


def _update(folder: Path, model: Path, url: str, seconds: float) -> tuple[bool, float]:
    """One update, killed after some seconds unless it has ended; whether it has, and how long it took."""
    where = ["--run-dir", str(folder / "run"), "--model-dir", str(model), "--no-gate", "--set", "update.gate.least=10"]
    started = time.monotonic()
    with (folder / "update.log").open("ab") as log:
        process = subprocess.Popen(
            child.command_of(["trainer.task", "update", *where]),
            env={**os.environ, STORE_VARIABLE: url},
            stdout=log,
            stderr=log,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return False, time.monotonic() - started
    if status:
        raise BabelrecError(f"An update ended with {status}; see {folder / 'update.log'}.")
    return True, time.monotonic() - started


class _Asking:
    """Asks a model server again and again, in a thread."""

    def __init__(self, server: Program, model: str) -> None:
        self.answered = self.failed = 0
        self._server = server
        self._model = model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "_Asking":
        self._port = self._server.wait()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with RecommenderClient(f"127.0.0.1:{self._port}", model_name=self._model, timeout=30.0) as client:
            while not self._stop.wait(_PAUSE):
                try:
                    found = client.recommend(Query(language="ko", k=5))
                    self.answered += len(found) == 5
                    self.failed += len(found) != 5
                except ServingError:
                    self.failed += 1


@dataclass(frozen=True)
class _Options(Options):
    people: int = argument("--people", type=int, default=500, help="default: %(default)s")
    warm_up: int = argument("--warm-up", type=int, default=10, help="days before (default: %(default)s)")
    kills: int = argument("--kills", type=int, default=20, help="default: %(default)s")
    seed: int = argument("--seed", type=int, default=0, help="of the world and the moments (default: %(default)s)")
    folder: Path = argument(
        "--folder", type=Path, default=RESULTS / "loop" / "kills", metavar="DIR", help="default: %(default)s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes and prints; returns the exit code."""
    return run("loop.kills", __doc__, _Options, _run, _page, arguments, packages=("tensorflow",))


def _run(options: _Options, console: Console) -> Result:
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    # Each update that ends is followed by one of another day, and each kill may be the last of one.
    settings = world_settings(options.people, 1.0, options.warm_up + options.kills + 2)
    found = kill_updates(
        World(settings, options.seed),
        options.folder,
        warm_up=options.warm_up,
        kills=options.kills,
        seed=options.seed,
        advance=lambda sentence: console.print(sentence, highlight=False),
    )
    return {
        **found,
        "bars": [
            at_least("kills", found["kills"], options.kills),
            at_most("versions that are not whole", found["not_whole"], 0),
            at_most("requests that failed", found["failed"], 0),
            at_least("updates that ended after them", found["updates"], 1),
        ],
    }


def _page(result: Result) -> Page:
    names = ("kills", "updates", "versions", "not_whole", "requests", "failed")
    return [Table("Killed updates", names, [[f"{result[name]:,}" for name in names]])]


if __name__ == "__main__":
    sys.exit(main())
