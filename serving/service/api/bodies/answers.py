"""Forms of answers for /docs, made from dataclasses and their docstrings, so that there is one definition."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any, get_origin, get_type_hints

import msgspec
from pydantic import BaseModel, Field, create_model

_made: dict[type, type[BaseModel]] = {}
_ENTRY = re.compile(r"^    ([\w, ]+): ", re.MULTILINE)


def form_of(kind: type) -> type[BaseModel]:
    """A model with the fields of a dataclass or struct, described as in its docstring."""
    if kind not in _made:
        descriptions = _descriptions(kind)
        required = (
            {each.name for each in msgspec.structs.fields(kind) if each.required}
            if _is_struct(kind)
            else {
                each.name
                for each in dataclasses.fields(kind)
                if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            }
        )
        fields: dict[str, Any] = {
            name: (_translated(hint), Field(... if name in required else None, description=descriptions.get(name)))
            for name, hint in get_type_hints(kind).items()
        }
        summary = (inspect.getdoc(kind) or "").partition("\n\n")[0]
        _made[kind] = create_model(kind.__name__, __doc__=summary, **fields)
    return _made[kind]


def _translated(hint: Any) -> Any:  # noqa: ANN401  a type hint
    """A hint with models in the place of dataclasses."""
    if _is_record(hint):
        return form_of(hint)
    arguments = getattr(hint, "__args__", ())
    for each in arguments:
        if _is_record(each) and get_origin(hint) is Mapping:
            return dict[str, form_of(each)]  # type: ignore[misc]
        if _is_record(each):
            return list[form_of(each)]  # type: ignore[misc]
    return hint


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or _is_struct(kind))


def _descriptions(kind: type) -> dict[str, str]:
    """Field -> description, from the section `Attributes` of a docstring."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    parts = _ENTRY.split(section)
    found: dict[str, str] = {}
    for names, text in zip(parts[1::2], parts[2::2], strict=True):
        for name in names.split(", "):
            found[name] = " ".join(text.split()).replace("``", "`")
    return found
