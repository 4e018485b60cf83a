"""How /docs describes the interface."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_DESCRIPTION: Final = """
Recommendations, search and similar items in many languages, and the events and items that they are made from.

* **Keys**: send `Authorization: Bearer brk_...`. An `app` key asks for recommendations, sends events, links sessions
  and makes tokens; an `admin` key does everything; a `read-only` key reads items, rules, figures and
  the log.
* **Tokens**: a browser gets a token from your application (`POST /v1/tokens`) and acts with it for its own user and
  session only.
* **Ids** are UTF-8 in Unicode's normal form C, of at most 256 bytes, without control characters.
* **Errors** are problem documents (RFC 9457, `application/problem+json`); `detail` names the problem and the remedy.
* **429 and 503** have `Retry-After`.
"""
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "example": "about:blank"},
        "title": {"type": "string", "example": "Forbidden"},
        "status": {"type": "integer", "example": 403},
        "detail": {"type": "string", "example": "`user_id` is not that of the token. Remedy: leave it out."},
        "instance": {"type": "string", "example": "urn:babelrec:request:5d3f"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
_ERROR: Final = {
    "description": "A problem",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def describe(app: FastAPI) -> None:
    """Gives an application its description."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _schema(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _schema(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title="Babelrec", version="1", description=_DESCRIPTION, routes=app.routes)
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key `brk_...`, or a token."}
    }
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            # FastAPI describes its own form of 422.
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _ERROR
            if path.startswith("/v1/"):
                operation["security"] = [{"key": []}]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    return schema
