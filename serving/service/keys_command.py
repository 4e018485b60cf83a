"""``python -m serving.service keys add|list|revoke``: who may use the service."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serving.arguments import Command, argument, parse_command
from serving.service.api.access.keys import add_key
from serving.service.api.access.principals import ROLES
from serving.service.options import StoreOptions, store_url
from serving.service.store import Store, open_store

_ACTOR: Final = "command line"


@dataclass(frozen=True)
class _RevokeOptions(StoreOptions):
    name: str = argument("--name", required=True, help="whose key it is")


@dataclass(frozen=True)
class _AddOptions(_RevokeOptions):
    role: str = argument("--role", required=True, choices=sorted(ROLES), help="what it may do")


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="babelrec-service keys", description="Manages the keys of the service.")
    command, options = parse_command(parser, _COMMANDS, arguments)
    with open_store(store_url(parser, options.store)) as store:
        command.run(store, options)
    return 0


def _add(store: Store, options: _AddOptions) -> None:
    key = add_key(store, options.name, options.role)
    store.audit(_ACTOR, "add key", options.name, options.role)
    print(key)
    print("This key is not shown again: the store has only its hash.", file=sys.stderr)


def _list(store: Store, options: StoreOptions) -> None:
    keys = store.keys()
    for key in keys:
        state = "valid" if key.revoked is None else f"revoked {_time(key.revoked)}"
        print(f"{key.name}\t{key.role}\t{_time(key.created)}\t{state}")


def _revoke(store: Store, options: _RevokeOptions) -> None:
    store.revoke_key(options.name)
    store.audit(_ACTOR, "revoke key", options.name)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


_COMMANDS: Final = {
    "add": Command("make a key, and print it once", _AddOptions, _add),
    "list": Command("print names, roles and times", StoreOptions, _list),
    "revoke": Command("end a key, and the tokens that it made, within seconds", _RevokeOptions, _revoke),
}
