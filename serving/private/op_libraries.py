"""Locations of the op libraries in other packages."""

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.private.interfaces import Interface


@dataclass(frozen=True, slots=True)
class OpLibraries:
    """The op libraries of a package.

    Attributes:
        requirement: the requirement to install.
        pattern: glob of their files in the package.
    """

    requirement: str
    pattern: str


DEFAULTS: Mapping[str, OpLibraries] = {
    "tensorflow_text": OpLibraries("tensorflow-text", "python/ops/*.so"),
    "scann": OpLibraries("scann[tf]", "scann_ops/cc/_scann_ops.so"),
}
"""Op libraries that graphs may need, by package."""


def find(package: str, pattern: str) -> list[Path]:
    """Files in a package.

    Raises:
        ImportError: there is no such package.
    """
    # Located, not imported: importing would load all of TensorFlow.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"there is no package {package}")
    return sorted(Path(spec.submodule_search_locations[0]).glob(pattern))


def _missing(package: str) -> Sequence[str]:
    try:
        return [] if find(package, DEFAULTS[package].pattern) else [DEFAULTS[package].pattern]
    except ImportError:  # optional, reported when a model needs it
        return []


INTERFACES = (
    Interface(
        "tensorflow-text",
        "2.20",
        "for TF-Text's ops",
        functools.partial(_missing, "tensorflow_text"),
        "Models that need them are refused",
    ),
    Interface(
        "scann",
        "1.4.2",
        "for ScaNN's ops",
        functools.partial(_missing, "scann"),
        "Models that need them are refused",
    ),
)
