"""The secret that signs tokens."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from serving.service.errors import InvalidRequestError
from serving.service.options import SECRET_VARIABLE

_LEAST_BYTES: Final = 32
_SUFFIX: Final = ".token_secret"


def token_secret(store_url: str, environment: Mapping[str, str] = os.environ) -> bytes | None:
    """The secret: of the environment, or of a file next to SQLite's database, which is made if it is missing.

    Returns:
        None with PostgreSQL and without the variable: replicas could not read each other's tokens.

    Raises:
        InvalidRequestError: it is too short to resist guessing.
    """
    given = environment.get(SECRET_VARIABLE, "").strip().encode()
    if not given:
        path = _path(store_url)
        given = b"" if path is None else _read_or_make(path)
        if not given:
            return None
    if len(given) < _LEAST_BYTES:
        raise InvalidRequestError(
            f"The secret for tokens has {len(given)} bytes; at least {_LEAST_BYTES}. Remedy: `openssl rand -hex 32`."
        )
    return given


def _path(store_url: str) -> Path | None:
    try:
        url = sa.make_url(store_url)
    except (exc.ArgumentError, ValueError):
        return None
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    path = Path(url.database).absolute()
    return path.with_name(path.name + _SUFFIX)


def _read_or_make(path: Path) -> bytes:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_LEAST_BYTES))
        try:
            # Not a rename: another process may have made one meanwhile, and given out tokens.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_bytes().strip()
