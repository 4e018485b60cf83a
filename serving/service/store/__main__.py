"""``python -m serving.service.store COMMAND``: upgrades, checks, and moves old events and answers to files."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from serving.arguments import Command, argument, parse_command
from serving.service.options import StoreOptions, store_url
from serving.service.store import StoreError, open_store
from serving.service.store.popularity import DAY_SECONDS

_FAILED, _MISTAKE = 1, 2


@dataclass(frozen=True)
class _SegmentOptions(StoreOptions):
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
    command, options = parse_command(parser, _COMMANDS, arguments)
    try:
        return command.run(store_url(parser, options.store), options) or 0
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED


def _upgrade(url: str, options: StoreOptions) -> int:
    with open_store(url, migrate=True) as store:
        print(f"The schema is {store.check().revision}.")
    return 0


def _check(url: str, options: StoreOptions) -> int:
    with open_store(url) as store:
        report = store.check()
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return _FAILED if report.problems else 0


def _segment(url: str, options: _SegmentOptions) -> int:
    if options.keep_days < 1:
        print(f"error: --keep-days is {options.keep_days}. Remedy: keep at least one day.", file=sys.stderr)
        return _MISTAKE
    with open_store(url) as store:
        older_than = time.time() - options.keep_days * DAY_SECONDS
        events = store.segment_events(older_than, options.folder)
        answers = store.segment_recommendations(older_than, options.folder)
    report = msgspec.to_builtins(events) | {"recommendations": msgspec.to_builtins(answers)}
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return 0


_COMMANDS: Final = {
    "upgrade": Command("upgrade the schema to that of this version", StoreOptions, _upgrade),
    "check": Command("look for damage; prints JSON", StoreOptions, _check),
    "segment": Command("move old events and answers to Parquet files; prints JSON", _SegmentOptions, _segment),
}


if __name__ == "__main__":
    sys.exit(main())
