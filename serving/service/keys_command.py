"""``python -m serving.service keys add|list|revoke``: who may use the service."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from serving.arguments import add_arguments, argument, options_of
from serving.service.api.access.keys import add_key
from serving.service.api.access.principals import ROLES
from serving.service.options import STORE_VARIABLE, store_of_environment
from serving.service.store import Store, open_store

_ACTOR: Final = "command line"


@dataclass(frozen=True)
class _ListOptions:
    store: str = argument("--store", metavar="URL", default=store_of_environment(), help=f"default: ${STORE_VARIABLE}")


@dataclass(frozen=True)
class _RevokeOptions(_ListOptions):
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        add_arguments(commands.add_parser(name, help=command.help, description=command.help), command.options)
    found = parser.parse_args(arguments)
    chosen = _COMMANDS[found.command]
    options = options_of(chosen.options, found)
    if not options.store:
        parser.error(f"no store: give --store URL or set ${STORE_VARIABLE}")
    with open_store(options.store) as store:
        chosen.run(store, options)
    return 0


def _add(store: Store, options: _AddOptions) -> None:
    key = add_key(store, options.name, options.role)
    store.audit(_ACTOR, "add key", options.name, options.role)
    print(key)
    print("This key is not shown again: the store has only its hash.", file=sys.stderr)


def _list(store: Store, options: _ListOptions) -> None:
    keys = store.keys()
    for key in keys:
        state = "valid" if key.revoked is None else f"revoked {_time(key.revoked)}"
        print(f"{key.name}\t{key.role}\t{_time(key.created)}\t{state}")


def _revoke(store: Store, options: _RevokeOptions) -> None:
    store.revoke_key(options.name)
    store.audit(_ACTOR, "revoke key", options.name)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class _Command(NamedTuple):
    help: str
    options: type[_ListOptions]
    run: Callable[[Store, Any], None]


_COMMANDS: Final = {
    "add": _Command("make a key, and print it once", _AddOptions, _add),
    "list": _Command("print names, roles and times", _ListOptions, _list),
    "revoke": _Command("end a key, and the tokens that it made, within seconds", _RevokeOptions, _revoke),
}
