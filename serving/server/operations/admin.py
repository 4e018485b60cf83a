"""Access control for administrative requests: reloading the configuration and recording profiles.

TensorFlow Serving answers HandleReloadConfigRequest and the profiler's requests for anyone who can reach its port; both
make it write files where the request says. ``--admin_access`` sets who may send them here.
"""

import hmac
import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import grpc

from serving.server.errors import StatusError, invalid_argument
from serving.server.options import Access

LOOPBACK: Final = "loopback"
TOKEN: Final = "token"
OPEN: Final = "open"
# Set by the native front (src/relay.cc) in the calls that it forwards, whose own peer is the front.
PEER_HEADER, VERIFIED_HEADER = "x-babelrec-peer", "x-babelrec-verified"

_LOGGER = logging.getLogger(__name__)
_SCHEME = "bearer "
_SHORTEST_TOKEN = 16


class Admission:
    """Decides about administrative requests.

    Args:
        access: ``loopback`` admits clients on this machine, those whose certificate was verified (mutual TLS) and those
            with a token; ``token`` only the latter two; ``open`` everyone, like TensorFlow Serving.
        tokens: valid tokens for ``authorization: Bearer``.
        behind_front: whether calls come through the native front, which then identifies the peer.
        refused: called for each refused request.
    """

    def __init__(
        self,
        access: Access = LOOPBACK,
        tokens: Sequence[str] = (),
        *,
        behind_front: bool = False,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._access = access
        self._tokens = [token.encode() for token in tokens]
        self._behind_front = behind_front
        self._refused = refused

    def check(self, context: grpc.ServicerContext, what: str) -> None:
        """Admits a call and logs it, or refuses it.

        Args:
            context: the call's context.
            what: the method, for messages.

        Raises:
            StatusError: PERMISSION_DENIED, saying who is allowed.
        """
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        if self._behind_front:
            peer, is_verified = headers.get(PEER_HEADER, ""), VERIFIED_HEADER in headers
        else:
            peer, is_verified = context.peer(), bool(context.peer_identities())
        reason = self._reason(peer, headers.get("authorization", ""), is_verified)
        if reason is None:
            self._refused()
            raise StatusError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{what} is for administrators: send `authorization: Bearer TOKEN` with a token of --admin_token_file"
                + (" or connect from the server's own machine" if self._access == LOOPBACK else "")
                + ". --admin_access=open admits everyone, like TensorFlow Serving",
            )
        _LOGGER.info("%s by %s (%s)", what, peer, reason)

    def _reason(self, peer: str, authorization: str, is_verified: bool) -> str | None:
        if self._access == OPEN:
            return OPEN
        if self._has_token(authorization):
            return TOKEN
        if is_verified:
            return "certificate"
        return LOOPBACK if self._access == LOOPBACK and is_local(peer) else None

    def _has_token(self, authorization: str) -> bool:
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        given = authorization[len(_SCHEME) :].strip().encode()
        return any(hmac.compare_digest(given, token) for token in self._tokens)


def is_local(peer: str) -> bool:
    """Whether gRPC's name of a peer belongs to this machine: a UNIX socket or a loopback address."""
    kind, _, rest = unquote(peer).partition(":")
    if kind in ("unix", "unix-abstract"):
        return True
    if kind not in ("ipv4", "ipv6"):
        return False
    try:
        address: Any = ipaddress.ip_address(rest.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def read_tokens(path: str) -> list[str]:
    """The tokens of a file, one per line; none for an empty path.

    Raises:
        StatusError: INVALID_ARGUMENT, the file can't be read, is empty, or has a token too short to be a secret.
    """
    if not path:
        return []
    try:
        lines = [line.strip() for line in Path(path).read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise invalid_argument(f"--admin_token_file={path} can't be read: {reason}") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens or any(len(token) < _SHORTEST_TOKEN for token in tokens):
        raise invalid_argument(
            f"--admin_token_file={path} must hold tokens of at least {_SHORTEST_TOKEN} characters, one per line. "
            f"Remedy: `openssl rand -hex 32 > {path}`"
        )
    return tokens
