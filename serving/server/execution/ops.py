"""Registers op libraries that graphs may need in addition to TensorFlow's own."""

import functools
import logging
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from serving.private.op_libraries import DEFAULTS, find
from serving.private.tensorflow import TensorFlowError, load_op_library
from serving.server.errors import invalid_argument

ENTRY_POINTS = "babelrec.op_libraries"

_LOGGER = logging.getLogger(__name__)
_missing: dict[str, str] = {}


@functools.cache
def register_defaults() -> None:
    """Loads TF-Text's and ScaNN's ops; a package that can't be loaded is recorded for ``remedy`` and else ignored."""
    for module, default in DEFAULTS.items():
        package = default.requirement
        try:
            libraries = find(module, default.pattern)
            if not libraries:
                raise FileNotFoundError(f"no {default.pattern} in the installed package")
            for library in libraries:
                load_op_library(library)
        except (ImportError, FileNotFoundError, TensorFlowError) as error:
            # An op library built for another TensorFlow fails in many ways.
            _missing[package] = str(error)
            _LOGGER.info("op library %s is not available (%s)", package, error)


def register(names: Iterable[str] = ()) -> None:
    """Loads the default op libraries, those of installed entry points, and more.

    Args:
        names: files (``.so``), entry points of the group ``babelrec.op_libraries``, or packages, in which every
            ``.so`` file is treated as an op library. An entry point names a function that returns paths.

    Raises:
        StatusError: INVALID_ARGUMENT, one of ``names`` can't be loaded.
    """
    register_defaults()
    plugins = {plugin.name: plugin for plugin in entry_points(group=ENTRY_POINTS)}
    wanted = list(dict.fromkeys([*plugins, *names]))
    for name in wanted:
        try:
            if name in plugins:
                libraries = [Path(path) for path in plugins[name].load()()]
            elif name.endswith(".so"):
                libraries = [Path(name)]
            else:
                libraries = find(name, "**/*.so")
            if not libraries:
                raise FileNotFoundError(f"the package {name} holds no .so file")
            for library in libraries:
                load_op_library(library)
                _LOGGER.info("loaded op library %s", library)
        except (ImportError, OSError, TensorFlowError) as error:
            raise invalid_argument(
                f"--op_libraries: {name} can't be loaded: {error}. Remedy: give the path of a .so file, an installed "
                f"package or an entry point of the group {ENTRY_POINTS}"
            ) from error


def remedy(message: str) -> str:
    """The remedy for a load failure with this message, or an empty string."""
    if "Op type not registered" not in message:
        return ""
    if not _missing:
        known = ", ".join(default.requirement for default in DEFAULTS.values())
        return f" This server registers the ops of {known}; give the libraries of others with --op_libraries."
    reasons = "; ".join(f"{package} ({reason})" for package, reason in _missing.items())
    return f" These op libraries could not be loaded here: {reasons}. Remedy: `pip install` them."
