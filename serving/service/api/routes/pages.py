"""Pages and scripts for browsers; none of them needs anything from another host."""

from importlib.resources import files
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException

import serving.service.snippet

router = APIRouter(include_in_schema=False)
_ASSETS: Final = Path(fastapi_offline.__file__).parent / "static"
_SERVED: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
_SNIPPET: Final = (files(serving.service.snippet) / "babelrec.js").read_bytes()
_HEAD: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Babelrec</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="docs/assets/favicon.png">
"""
_DOCS: Final = (
    _HEAD
    + """<link rel="stylesheet" href="docs/assets/swagger-ui.css"></head><body><div id="page"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script><script src="docs/assets/start.js"></script></body></html>
"""
)
# Not in the page: its policy forbids scripts in pages.
_START: Final = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, presets: [SwaggerUIBundle.presets.apis], validatorUrl: null
});
"""
_REDOC: Final = (
    _HEAD
    + """</head><body><redoc spec-url="openapi.json"></redoc><script src="docs/assets/redoc.standalone.js"></script>
</body></html>
"""
)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Swagger UI."""
    return HTMLResponse(_DOCS)


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """ReDoc."""
    return HTMLResponse(_REDOC)


@router.get("/docs/assets/{name}")
async def asset(name: str) -> Response:
    """What both are made of."""
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _SERVED:
        raise HTTPException(404)
    return FileResponse(_ASSETS / name, media_type=_SERVED[name], headers={"Cache-Control": "public, max-age=86400"})


@router.get("/v1/babelrec.js")
async def snippet() -> Response:
    """The script for shops' pages."""
    headers = {"Cache-Control": "public, max-age=3600", "Cross-Origin-Resource-Policy": "cross-origin"}
    return Response(_SNIPPET, media_type="text/javascript", headers=headers)
