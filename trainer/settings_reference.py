"""All settings as tables, for ``trainer.task settings`` and docs/configuration.md."""

import json
import types
import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.config.settings import Config
from trainer.data.settings import SOURCES


def settings_markdown() -> str:
    """Every setting with its type, default and meaning, one table per section."""
    parts = []
    for path, model in _sections(Config, ""):
        fields = {name: field for name, field in model.model_fields.items() if not _is_section(field.annotation)}
        if fields:
            parts.append(_part(f"`{path}`" if path else "Top level", model, fields))
    for source in SOURCES:
        # Its own settings before inherited ones.
        names = sorted(source.model_fields, key=lambda name: name not in source.__annotations__)
        fields = {name: source.model_fields[name] for name in names if name != "name"}
        parts.append(_part(f"`data.source` with `name: {source.model_fields['name'].default}`", source, fields))
    return "\n\n".join(parts) + "\n"


def _part(title: str, model: type[BaseModel], fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{name}` | {_type(field)} | `{_default(field)}` | {field.description or ''} |"
        for name, field in fields.items()
    ]
    table = ["| setting | type | default | meaning |", "|---|---|---|---|", *rows] if rows else ["It has no settings."]
    return "\n\n".join([f"### {title}", (model.__doc__ or "").strip().splitlines()[0], "\n".join(table)])


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if _is_section(annotation):
            assert isinstance(annotation, type)
            yield from _sections(annotation, f"{path}.{name}".lstrip("."))


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type(field: FieldInfo) -> str:
    return _name(field.annotation).replace("|", "\\|")


def _name(annotation: object) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        if all(_is_section(part) for part in arguments):
            return "a source, see below"
        return " or ".join(_name(part) for part in arguments)
    if _is_section(annotation):
        return "section"
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"map of {_name(arguments[0])} to {_name(arguments[1])}"
    if origin is typing.Annotated:
        return _name(arguments[0])
    return {"str": "text", "bool": "true or false", "int": "integer", "float": "number", "Path": "path"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        dumped = value.model_dump(mode="json")
        return dumped.get("name", "{}") if dumped else "{}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)
