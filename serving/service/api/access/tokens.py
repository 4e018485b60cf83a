"""Signed tokens, with which a browser acts for one user and session."""

import time
from dataclasses import dataclass
from typing import Any, Final

import jwt

from serving.service.api.access.keys import KeyRing
from serving.service.api.access.principals import TOKEN_PERMISSIONS, Principal
from serving.service.errors import UnavailableError

LONGEST_SECONDS: Final = 86_400
_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "babelrec"
_CLAIMS: Final = ("aud", "exp", "iat", "key", "sub", "sid")
_MOST_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    """A new token.

    Attributes:
        token: To be given to the browser.
        expires: Unix seconds.
    """

    token: str
    expires: int


class Tokens:
    """Makes tokens and reads them."""

    def __init__(self, secret: bytes | None, keys: KeyRing) -> None:
        self._secret = secret
        self._keys = keys

    def make(self, key: str, user_id: str, session_id: str, seconds: int) -> MadeToken:
        """A token that is valid as long as the key that made it is."""
        if self._secret is None:
            raise UnavailableError(
                "There is no secret to sign tokens with. Remedy: set BABELREC_TOKEN_SECRET, the same for all replicas."
            )
        now = int(time.time())
        claims = {"aud": _AUDIENCE, "iat": now, "exp": now + seconds, "key": key, "sub": user_id, "sid": session_id}
        return MadeToken(token=jwt.encode(claims, self._secret, _ALGORITHM), expires=now + seconds)

    def find(self, token: str) -> Principal | None:
        """Whom a token is for; None: it is forged, expired, or its key was revoked."""
        if self._secret is None or len(token) > _MOST_BYTES:
            return None
        try:
            # One algorithm: the one that a token names is not to be believed.
            claims: dict[str, Any] = jwt.decode(
                token, self._secret, [_ALGORITHM], audience=_AUDIENCE, options={"require": list(_CLAIMS)}
            )
        except (jwt.PyJWTError, ValueError):
            return None
        key, user_id, session_id = (claims[name] for name in ("key", "sub", "sid"))
        if not (isinstance(key, str) and isinstance(user_id, str) and isinstance(session_id, str)):
            return None
        if not (user_id or session_id) or not self._keys.is_valid(key):
            return None
        return Principal(key=key, permissions=TOKEN_PERMISSIONS, is_token=True, user_id=user_id, session_id=session_id)
