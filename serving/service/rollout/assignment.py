"""Who gets the canary."""

import hashlib
from typing import Final

STABLE: Final = "stable"
CANARY: Final = "canary"
"""Variants of answers, and the labels of the model server's versions."""
_BYTES: Final = 8


def place(salt: str, user_id: str, session_id: str) -> float | None:
    """A person's place in [0, 1): those below the share get the canary, so that they keep it while the share grows.

    Args:
        salt: Of the roll-out, so that it is not always the same people on whom updates are tried.
        user_id, session_id: Who asks; the session counts only where nobody has logged in.

    Returns:
        None without either: nobody who could be given the same version again.
    """
    kind, person = ("user", user_id) if user_id else ("session", session_id)
    if not person:
        return None
    digest = hashlib.blake2b("\0".join((salt, kind, person)).encode(), digest_size=_BYTES).digest()
    # 53 bits are exact in a float: the largest one is still below 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
