"""Arguments of a command line as fields of a frozen dataclass, which is the single definition of each.

@dataclass(frozen=True)
class Options:
    minutes: float = argument("--minutes", type=float, default=30.0, help="default: %(default)s")
"""

import argparse
from dataclasses import Field, field, fields
from typing import Any, ClassVar, Protocol, TypeVar


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
