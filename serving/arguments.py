"""Arguments of a command line as fields of a frozen dataclass, which is the single definition of each.

@dataclass(frozen=True)
class Options:
    minutes: float = argument("--minutes", type=float, default=30.0, help="default: %(default)s")
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=Dataclass)


def argument(*flags: str, **settings: object) -> Any:  # noqa: ANN401  as for dataclasses.field: the field's own type
    """A field of options.

    Args:
        flags: such as ``--run-dir``; none for a positional argument.
        settings: as for ``ArgumentParser.add_argument``. Defaults belong here, since the parser applies them.
    """
    return field(metadata={"flags": flags, "settings": settings})


def add_arguments(parser: "argparse.ArgumentParser | argparse._ArgumentGroup", kind: type[Dataclass]) -> None:
    """Adds the fields of ``kind`` in their order; each must be an `argument`."""
    for each in fields(kind):
        flags: tuple[str, ...] = each.metadata["flags"]
        if flags:
            parser.add_argument(*flags, dest=each.name, **each.metadata["settings"])
        else:
            parser.add_argument(each.name, **each.metadata["settings"])


def options_of(kind: type[T], found: argparse.Namespace) -> T:
    """The options as parsed from the command line."""
    return kind(**{each.name: getattr(found, each.name) for each in fields(kind)})


class Command(NamedTuple):
    """One command of a program.

    Attributes:
        help: What it does.
        options: The type of its options.
        run: Runs it; its last argument is the options. Returns the exit status; None: 0.
    """

    help: str
    options: type[Any]
    run: Callable[..., int | None]


def parse_command(
    parser: argparse.ArgumentParser, commands: Mapping[str, Command], arguments: Sequence[str] | None
) -> tuple[Command, Any]:
    """The command that a command line names, and its options.

    Args:
        parser: Of the program; the commands are added to it.
        commands: By name.
        arguments: Default: those of the process.
    """
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        add_arguments(names.add_parser(name, help=command.help, description=command.help), command.options)
    found = parser.parse_args(arguments)
    chosen = commands[found.command]
    return chosen, options_of(chosen.options, found)
