"""``python -m serving.service.store COMMAND``: upgrades, checks, and moves old events to files."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from serving.arguments import add_arguments, argument, options_of
from serving.service.store import StoreError, open_store
from serving.service.store.popularity import DAY_SECONDS

_STORE: Final = "BABELREC_STORE"
_FAILED, _MISTAKE = 1, 2


@dataclass(frozen=True)
class _Options:
    store: str | None = argument(
        "--store", metavar="URL", help=f"sqlite:////path/file.db or postgresql://... (default: ${_STORE})"
    )


@dataclass(frozen=True)
class _SegmentOptions(_Options):
    folder: Path = argument("--folder", type=Path, required=True, help="where the Parquet files are")
    keep_days: int = argument(
        "--keep-days", type=int, default=30, metavar="N", help="days to leave in the store (default: %(default)s)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0; 1 if it fails, or if `check` finds problems; 2 for a wrong command line.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.service.store", description="Maintains a store.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        add_arguments(commands.add_parser(name, help=command.help, description=command.help), command.options)
    found = parser.parse_args(arguments)
    chosen = _COMMANDS[found.command]
    options = options_of(chosen.options, found)
    # A process list shows arguments, and a URL may have a password: the environment is the better place for it.
    url = options.store or os.environ.get(_STORE)
    if not url:
        parser.error(f"no store: give --store URL or set ${_STORE}")
    try:
        return chosen.run(url, options)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED


def _upgrade(url: str, options: Any) -> int:  # noqa: ANN401  each command has its own
    with open_store(url, migrate=True) as store:
        print(f"The schema is {store.check().revision}.")
    return 0


def _check(url: str, options: Any) -> int:  # noqa: ANN401
    with open_store(url) as store:
        report = store.check()
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return _FAILED if report.problems else 0


def _segment(url: str, options: _SegmentOptions) -> int:
    if options.keep_days < 1:
        print(f"error: --keep-days is {options.keep_days}. Remedy: keep at least one day.", file=sys.stderr)
        return _MISTAKE
    with open_store(url) as store:
        report = store.segment_events(time.time() - options.keep_days * DAY_SECONDS, options.folder)
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return 0


class _Command(NamedTuple):
    help: str
    options: type[_Options]
    run: Callable[[str, Any], int]


_COMMANDS: Final = {
    "upgrade": _Command("upgrade the schema to that of this version", _Options, _upgrade),
    "check": _Command("look for damage; prints JSON", _Options, _check),
    "segment": _Command("move old events to Parquet files; prints JSON", _SegmentOptions, _segment),
}


if __name__ == "__main__":
    sys.exit(main())
