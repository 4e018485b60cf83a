"""Keys of applications and administrators.

A key has 256 random bits, so a fast hash is enough: nobody can try them out. The store has only the hash.
"""

import hashlib
import hmac
import secrets
import threading
import time
from typing import Final

from serving.service.api.access.principals import ROLES, Principal
from serving.service.errors import InvalidRequestError
from serving.service.store import Key, Store

PREFIX: Final = "brk_"
_SECRET_BYTES: Final = 32
# How long a revoked key may still be accepted.
_REFRESH_SECONDS: Final = 2.0
# An unknown key may be a new one; a flood of wrong ones must not become a flood of queries.
_RETRY_SECONDS: Final = 0.5


def new_key() -> str:
    """A key, to be shown once."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def hash_of(key: str) -> str:
    """What the store keeps of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def add_key(store: Store, name: str, role: str) -> str:
    """Makes a key; returns it, which is the only time that it can be read.

    Raises:
        InvalidRequestError: there is no such role.
        ConflictError: there is or was a key of that name.
    """
    if role not in ROLES:
        raise InvalidRequestError(f"{role!r} is no role. Remedy: choose one of {', '.join(ROLES)}.")
    key = new_key()
    store.add_key(name, role, hash_of(key))
    return key


class KeyRing:
    """The valid keys, as the store had them a moment ago."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read = float("-inf")
        self._by_start: dict[str, list[Key]] = {}
        self._names: frozenset[str] = frozenset()

    def find(self, key: str) -> Principal | None:
        """Whose key it is; None: it is none, or was not one when the store was read."""
        return self._find(hash_of(key)) if key.startswith(PREFIX) else None

    def is_valid(self, name: str) -> bool:
        """Whether there is a key of that name that may make tokens, whose tokens are then valid too."""
        return name in self._names

    def refresh(self, age: float = 0.0) -> bool:
        """Reads the store's keys again, unless they were read less than ``age`` seconds ago; returns whether it did."""
        with self._lock:
            if time.monotonic() - self._read < age:
                return False
            stored = self._store.keys()
            valid = [key for key in stored if key.revoked is None and key.role in ROLES]
            by_start: dict[str, list[Key]] = {}
            for key in valid:
                by_start.setdefault(key.hash[:8], []).append(key)
            self._by_start, self._names = by_start, frozenset(key.name for key in valid if key.role != "read-only")
            self._read = time.monotonic()
            return True

    @property
    def is_stale(self) -> bool:
        """Whether a revoked key might still be among them."""
        return time.monotonic() - self._read > _REFRESH_SECONDS

    def _find(self, digest: str) -> Principal | None:
        # The start of a hash tells nothing about the key; the rest is compared in constant time.
        for key in self._by_start.get(digest[:8], ()):
            if hmac.compare_digest(key.hash, digest):
                return Principal(key=key.name, permissions=ROLES[key.role])
        return None
