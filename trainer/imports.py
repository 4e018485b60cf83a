"""Objects that a config names by their import paths."""

import importlib
from typing import TypeVar

from trainer.errors import BabelrecError

_Kind = TypeVar("_Kind")


def imported(path: str, kind: type[_Kind], *, setting: str) -> _Kind:
    """The object at an import path.

    A config that names one is code as much as the module that it names: run no config of a stranger.

    Args:
        path: such as ``my_package.metrics:SERENDIPITY``; the module is found as Python finds it, for instance by
            ``PYTHONPATH``.
        kind: what it has to be.
        setting: the setting that names it.

    Raises:
        BabelrecError: there is no such module or object, importing it failed, or it is of another kind.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise BabelrecError(f"{setting}: {path!r} is no import path. Remedy: write it as package.module:NAME.")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise BabelrecError(
            f"{setting}: {path} can't be imported: {error}. Remedy: install the package, or set PYTHONPATH to the "
            "directory above it."
        ) from error
    except AttributeError:
        raise BabelrecError(f"{setting}: {path} can't be imported: {module} has no {name}.") from None
    except Exception as error:
        raise BabelrecError(f"{setting}: {path} can't be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, kind):
        raise BabelrecError(f"{setting}: {path} is a {type(found).__name__}, where a {kind.__name__} is needed.")
    return found
