"""The console: a page of files, which ask this service for all that they show."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

import serving.service.console

router = APIRouter(include_in_schema=False)
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
# A page and its scripts must be of one version.
_HEADERS: Final = {"Cache-Control": "no-cache"}


def _read(folder: Traversable, start: str = "") -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _read(each, f"{start}{each.name}/")
        elif each.name.rpartition(".")[2] in _TYPES:
            yield f"{start}{each.name}", each.read_bytes()


# All of them, so that no path from outside is ever looked up on the disk.
_FILES: Final = dict(_read(files(serving.service.console)))


@router.get("/console")
async def page() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/console/{name:path}")
async def file(name: str) -> Response:
    """What it is made of."""
    return _file("" if name.endswith(".html") else name)


def _file(name: str) -> Response:
    if name not in _FILES:
        raise HTTPException(404)
    return Response(_FILES[name], media_type=_TYPES[name.rpartition(".")[2]], headers=_HEADERS)
