"""Which versions of a model a server loads, and their labels, in its configuration file.

TensorFlow Serving, stock or ours, reads `--model_config_file` again every `--model_config_file_poll_wait_seconds`. It
refuses a file that gives a label to a version which is not available yet, and the configuration of before stays: so a
new version is first listed, and given its label once it is loaded. The label `stable` should always be there.
"""

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from google.protobuf import text_format

from serving.protos import model_server_config_pb2

# Of a new file: the model server may run as somebody else.
_MODE: Final = 0o644


class ConfigError(Exception):
    """A configuration file or what is to be written into it is wrong; says what to do."""


@dataclass(frozen=True)
class ModelVersions:
    """What is loaded of a model.

    Attributes:
        versions: Exactly these; empty: what the server's policy chooses.
        labels: Label -> version.
    """

    versions: frozenset[int]
    labels: Mapping[str, int]

    @classmethod
    def read(cls, path: Path, model: str) -> Self:
        """Of a configuration file.

        Raises:
            ConfigError: the file can't be read, or doesn't have the model.
        """
        entry = _entry(path, _read(path), model)
        return cls(frozenset(entry.model_version_policy.specific.versions), dict(entry.version_labels))


def create_config(path: Path, model: str, base_path: str) -> None:
    """Writes a new file with one model, of which the server's policy chooses the versions.

    Args:
        path: The configuration file.
        model: Name of the entry.
        base_path: Absolute, where the server finds the versions.

    Raises:
        ConfigError: there is a file of that name.
        OSError: the file can't be written.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already. Remedy: change it, or name another file.")
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=model, base_path=base_path, model_platform="tensorflow")
    _replace(path, text_format.MessageToString(config, as_utf8=True), _MODE)


def write_versions(path: Path, model: str, versions: Collection[int], labels: Mapping[str, int]) -> None:
    """Changes what is loaded of one model; the file appears whole, and other models stay as they are.

    Comments are lost.

    Args:
        path: The configuration file.
        model: Name of an entry.
        versions: At least one; no other is loaded.
        labels: Label -> one of the versions.

    Raises:
        ConfigError: a label is for another version, or the file is not as `ModelVersions.read` expects it.
        OSError: the file can't be written.
    """
    wrong = {label: version for label, version in labels.items() if version not in versions}
    if not versions or wrong:
        raise ConfigError(
            f"Versions {sorted(versions)} of {model!r} do not have the labels {wrong}. Remedy: list what has a label."
        )
    config = _read(path)
    entry = _entry(path, config, model)
    entry.model_version_policy.Clear()
    entry.model_version_policy.specific.versions.extend(sorted(versions))
    entry.version_labels.clear()
    for label, version in sorted(labels.items()):
        entry.version_labels[label] = version
    _replace(path, text_format.MessageToString(config, as_utf8=True), path.stat().st_mode & 0o777)


def _read(path: Path) -> Any:  # noqa: ANN401  the message classes are made at run time
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(f"{path}: {reason}. Remedy: name the server's --model_config_file.") from None
    try:
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{path} is no ModelServerConfig: {error}. Remedy: correct it.") from None


def _entry(path: Path, config: Any, model: str) -> Any:  # noqa: ANN401
    found = [entry for entry in config.model_config_list.config if entry.name == model]
    if len(found) != 1:
        raise ConfigError(f"{path} has {len(found)} entries for the model {model!r}. Remedy: give it one.")
    return found[0]


def _replace(path: Path, text: str, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
