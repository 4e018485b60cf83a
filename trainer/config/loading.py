"""Reads settings from YAML files and ``--set``, with errors that give the location and the nearest valid key."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.config.settings import Config
from trainer.data.settings import SOURCE_NAMES, DataConfig
from trainer.documents import load_yaml, parse_yaml
from trainer.errors import BabelrecError, shortened


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file and applies ``a.b=value`` overrides (values are YAML).

    Raises:
        BabelrecError: unreadable file, invalid YAML, unknown key, wrong type or value. Errors from an override are
            reported under ``--set``, everything else under the file.
    """
    raw = load_yaml(path, what="the config")
    if raw is None:
        raise BabelrecError(f"The config {path} is empty. Add settings, or `{{}}` to use all defaults.")
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else "text" if isinstance(raw, str) else f"the value {_shown(raw)}"
        raise BabelrecError(f"{path} contains {kind}, not a mapping of settings to values. Write `name: value` lines.")
    given = {_apply_override(raw, override): override for override in overrides}
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise BabelrecError(
            "\n".join(_explain(entry, _origin(entry, str(path), given)) for entry in error.errors())
        ) from error


def parse_config(raw: dict[str, Any], origin: str) -> Config:
    """Validates a mapping; ``origin`` is its name in error messages."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise BabelrecError("\n".join(_explain(entry, origin) for entry in error.errors())) from error


def _apply_override(raw: dict[str, Any], override: str) -> tuple[str, ...]:
    """Sets the value and returns the path of its key."""
    key, separator, text = override.partition("=")
    path = tuple(key.split("."))
    if not separator or not all(path):
        raise BabelrecError(f"--set {override!r} is not key=value; for example --set training.epochs=3")
    value = parse_yaml(text, f"--set {override!r}, the value")
    *parents, leaf = path
    section = raw
    for parent in parents:
        inner = section.get(parent)
        if inner is None:
            # Also for a section that is empty in the file.
            inner = section[parent] = {}
        if parent == "source" and isinstance(inner, str):
            inner = section["source"] = {"name": inner}
        if not isinstance(inner, dict):
            raise BabelrecError(f"--set {override!r}: {parent!r} is a value, not a section.")
        # An anchor's section may appear in several places in the file: only this one is meant.
        inner = section[parent] = dict(inner)
        section = inner
    section[leaf] = value
    return path


_BOOLEANS_OF_YAML_1_1 = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}


def _origin(entry: ErrorDetails, file: str, overrides: Mapping[tuple[str, ...], str]) -> str:
    """Source of an invalid value: the last override of its key or of a key above or below it, or the file."""
    place = _place(entry)
    for path, override in reversed(list(overrides.items())):
        common = min(len(place), len(path))
        if place[:common] != path[:common]:
            continue
        if len(path) <= len(place):
            return f"--set {override}"
        if entry["type"] != "missing":
            return f"{file} with --set {override}"
    return file


def _place(entry: ErrorDetails) -> tuple[str, ...]:
    # The tag of the source union is part of the location but not in the file.
    return tuple(str(part) for part in entry["loc"] if part not in SOURCE_NAMES)


def _explain(entry: ErrorDetails, origin: str) -> str:
    path = _place(entry)
    dotted = ".".join(path)
    if entry["type"] == "extra_forbidden":
        valid = _keys_next_to(entry["loc"])
        near = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Valid here: {', '.join(valid)}."
        return f"{origin}: unknown setting {dotted!r}. {remedy}"
    if entry["type"].startswith("union_tag"):
        choices = ", ".join(sorted(SOURCE_NAMES))
        return f"{origin}: {dotted}.name is {_shown(entry['input'])}; it must be one of {choices}."
    if entry["type"] == "missing":
        return f"{origin}: {dotted!r} is missing. Add it; see docs/configuration.md."
    if entry["type"] in ("model_type", "dict_type") and entry["input"] is None:
        return f"{origin}: {dotted} is empty. Indent its settings below it, or remove the line."
    return f"{origin}: {dotted or 'the file'} is {_shown(entry['input'])}: {entry['msg']}.{_hint(entry)}"


def _hint(entry: ErrorDetails) -> str:
    """What to write instead if YAML reads the value differently from what was meant."""
    kind, value = entry["type"], entry["input"]
    if kind == "bool_type" and isinstance(value, str):
        meant = _BOOLEANS_OF_YAML_1_1.get(value.lower())
        return f" Write {meant} (in YAML 1.2 `{value}` is text)." if meant else " Write true or false without quotes."
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return " Write the number without quotes" + (" and leading zeros." if value.lstrip("+-")[:1] == "0" else ".")
    if kind in ("string_type", "invalid_key") and isinstance(value, bool | int | float):
        written = str(value).lower() if isinstance(value, bool) else value
        return f' Write it in quotes: "{written}".'
    if kind == "string_type" and value is None:
        return " Write text, in quotes if it is `null` or `~`."
    return ""


def _shown(value: object) -> str:
    return shortened(repr(value))


def _keys_next_to(location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the section that the location's last key belongs to."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if model is DataConfig and part == "source":
            continue
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
            continue
        model = SOURCE_NAMES.get(str(part), model)
    return list(model.model_fields)
