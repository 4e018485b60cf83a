"""``make live``: the demo's model behind the recommendation service, and the console that shows what it does."""

import argparse
import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from serving import contract
from serving.arguments import add_arguments, argument, options_of
from trainer import interrupts
from trainer.config.loading import load_config
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.programs import Program
from trainer.runs import Run
from trainer.steps import done, is_exported, model_server, take
from trainer.storage import explain

try:
    from serving.service.api.access.keys import add_key
    from serving.service.errors import ServiceError
    from serving.service.importing import import_dataset
    from serving.service.options import STORE_VARIABLE
    from serving.service.store import Store, StoreError, open_store
    from trainer.live_trial import SERVICE_FLAGS, Trial
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}. The service's packages are missing. Remedy: `make live`, or pip install '.[service]'.")

_HOST: Final = "127.0.0.1"
# A first request of a machine that is busy may take longer than an application would wait.
_DEADLINE_MS: Final = 1_000
_READY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_ACTOR: Final = "make live"


# fmt: off
@dataclass(frozen=True)
class LiveOptions:
    """Options of ``python -m trainer.live``."""

    port: int = argument("--port", type=int, default=0, help="of the console (default: a free one)")
    no_browser: bool = argument(
        "--no-browser", action="store_true", default=False, help="only print the console's address",
    )
    config: Path = argument(
        "--config", type=Path, default=Path("configs/quickstart.yaml"), metavar="YAML",
        help="config to train if there is no run yet (default: %(default)s)",
    )
    run_dir: Path = argument(
        "--run-dir", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="default: %(default)s",
    )
    model_dir: Path = argument(
        "--model-dir", type=Path, default=Path("models/recommender"), metavar="DIR",
        help="export directory of the model's versions (default: %(default)s)",
    )
    store: str = argument(
        "--store", default="", metavar="URL",
        help="sqlite:////path/file.db or postgresql://...; kept between starts (default: live/store.db by the run)",
    )

    visitors: int = argument(
        "--visitors", type=int, default=0, metavar="N",
        help="simulated visitors, for whom a loop updates the model and tries each version; for the demo's MovieLens",
    )

    @property
    def folder(self) -> Path:
        """Where logs, and the store if no other is named, are kept."""
        return self.run_dir.parent / "live"
# fmt: on


@dataclass(frozen=True)
class Session:
    """What runs.

    Attributes:
        url: Of the service.
        key: Of an administrator, valid as long as this runs.
        ended: Set when one of the programs has ended.
        programs: All.
    """

    url: str
    key: str
    ended: threading.Event
    programs: Sequence[Program]

    @property
    def console(self) -> str:
        """Address of the console, with the key."""
        return f"{self.url}/console#key={self.key}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts store, model server and service on the demo's model, and opens the console; Ctrl+C ends all of it."""
    parser = argparse.ArgumentParser(prog="python -m trainer.live", description=main.__doc__)
    add_arguments(parser, LiveOptions)
    options = options_of(LiveOptions, parser.parse_args(arguments))
    with interrupts.raised():
        try:
            with running(options) as session:
                print(f"\n  The console: {session.console}\n\nCtrl+C ends it; the store is kept.", flush=True)
                if not options.no_browser and _is_desktop():
                    webbrowser.open(session.console)
                session.ended.wait()
                raise next(each for each in session.programs if not each.running).failure("has ended")
        except KeyboardInterrupt:
            print("\nAll of it has ended.", flush=True)
            return 0
        except (BabelrecError, ServiceError, StoreError, OSError) as error:
            print(f"error: {explain(error) or error}", file=sys.stderr)
            return 1


@contextlib.contextmanager
def running(options: LiveOptions) -> Iterator[Session]:
    """Model server and service, which answer when the block begins and have ended when it has.

    Raises:
        BabelrecError: something is missing, or does not start.
    """
    _check_port(options.port)
    run = _model(options)
    ended = threading.Event()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    url = options.store or f"sqlite:///{(folder / 'store.db').resolve()}"
    print(f"Model server: starting (log: {folder / 'model_server.log'}).", flush=True)
    # Interrupted only while it waits: else a program could be left running that has just started.
    with interrupts.deferred_to_steps(), contextlib.ExitStack() as stack:
        interrupts.defer()
        tried = Trial(options.model_dir, folder) if options.visitors else None
        flags = [] if tried is None else tried.server_flags()
        server = stack.enter_context(model_server(options.model_dir, folder / "model_server.log", ended, flags))
        # Meanwhile: loading a model takes seconds.
        store = stack.enter_context(open_store(url, migrate=not options.store))
        with interrupts.immediate():
            _fill(store, url, run.dataset(), folder)
        name = f"live {time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}"
        key = add_key(store, name, "admin")
        stack.callback(_revoke, store, name)
        with interrupts.immediate():
            port = server.wait()
        print(f"Service: starting (log: {folder / 'service.log'}).", flush=True)
        service = stack.enter_context(_service(options, port, url, ended, [] if tried is None else SERVICE_FLAGS))
        with interrupts.immediate():
            address = service.wait()
            _wait_until_ready(address, (server, service), ended)
        programs = [server, service]
        if tried is not None:
            for program in tried.programs(run, url, port, address, key, options.visitors, ended):
                programs.append(stack.enter_context(program))
                print(f"{program.name.capitalize()}: starting (log: {program.log}).", flush=True)
        with interrupts.immediate():
            yield Session(address, key, ended, programs)


def _service(
    options: LiveOptions, model_port: str, store: str, ended: threading.Event, flags: Sequence[str]
) -> Program:
    return Program(
        "service",
        options.folder / "service.log",
        [
            "serving.service",
            f"--host={_HOST}",
            f"--port={options.port}",
            f"--model_server={_HOST}:{model_port}",
            f"--model_name={options.model_dir.resolve().name}",
            f"--deadline_ms={_DEADLINE_MS}",
            "--shutdown_grace_seconds=5",
            *flags,
        ],
        rf"running on (http://{_HOST}:\d+)",
        # Not an argument: it may have a password.
        {STORE_VARIABLE: store},
        ended,
    )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise BabelrecError(
                f"Port {port}: {reason}. Remedy: give another --port, or none for a free one."
            ) from None


def _model(options: LiveOptions) -> Run:
    """The run, after the steps that are missing."""
    if (options.run_dir / "config.yaml").exists():
        run = Run.open(options.run_dir)
    else:
        run = Run.create(options.run_dir, load_config(options.config))
    if not done("Training", run.finished):
        take("fit", "--config", options.run_dir / "config.yaml", "--run-dir", options.run_dir)
    if not done("Export", is_exported(run, options.model_dir, contract.EMBED_ITEMS)):
        where = ("--run-dir", options.run_dir, "--model-dir", options.model_dir)
        take("export", *where, "--set", "export.fresh_items=true")
    return run


def _fill(store: Store, url: str, dataset: Dataset, folder: Path) -> None:
    """Takes the dataset into the store, once: what is deleted in the console stays deleted."""
    mark = folder / f"imported-{hashlib.sha256(url.encode()).hexdigest()[:12]}.json"
    there = mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == dataset.fingerprint
    # A store that was removed is empty again.
    if not done("Import into the store", there and store.count_items() > 0):
        print(import_dataset(dataset.path, store), flush=True)
        mark.write_text(json.dumps(dataset.fingerprint), encoding="utf-8")


def _revoke(store: Store, name: str) -> None:
    store.revoke_key(name)
    store.audit(_ACTOR, "revoke key", name)


def _wait_until_ready(address: str, programs: Sequence[Program], ended: threading.Event) -> None:
    """Waits until the service has heard from the model server."""
    deadline = time.monotonic() + _READY_SECONDS
    with httpx.Client(base_url=address, trust_env=False, timeout=_READY_SECONDS) as client:
        while time.monotonic() < deadline:
            found = client.get("/readyz").json()
            if found["ready"] and not found["degraded"]:
                return
            if ended.wait(_POLL_SECONDS):
                raise next(each for each in programs if not each.running).failure("has ended")
    raise programs[-1].failure("does not reach the model server")


def _is_desktop() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    sys.exit(main())
