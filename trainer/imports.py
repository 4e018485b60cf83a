"""Objects given in a config by import path."""

import importlib
from typing import TypeVar

from trainer.errors import BabelrecError

_Kind = TypeVar("_Kind")


def imported(path: str, kind: type[_Kind], *, setting: str) -> _Kind:
    """Imports the object at an import path.

    A config with an import path can run arbitrary code: don't run untrusted configs.

    Args:
        path: such as ``my_package.metrics:SERENDIPITY``; the module must be importable, for instance through
            ``PYTHONPATH``.
        kind: the required type.
        setting: the setting it comes from.

    Raises:
        BabelrecError: there is no such module or object, importing it failed, or it has another type.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise BabelrecError(f"{setting}: {path!r} is not an import path. Remedy: write it as package.module:NAME.")
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
        raise BabelrecError(f"{setting}: {path} is a {type(found).__name__}, not a {kind.__name__}.")
    return found
