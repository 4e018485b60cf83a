"""Addresses of model servers: syntax and meaning."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from serving.client.errors import BadRequestError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Schemes of gRPC's own name resolvers; their targets are passed through unchanged.
_RESOLVER = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds|passthrough|google-c2p):", re.IGNORECASE)
# These can resolve to several addresses.
_MULTIPLE = re.compile(r"(dns|ipv4|ipv6):", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(\[[^\]\s]+\]|[^\s:/\[\]]+):(\d{1,5})")
_MAX_PORT = 65535


class Transport(Enum):
    """The protocol of a server."""

    GRPC = "grpc"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address.

    Attributes:
        text: as it was given.
        transport: gRPC or REST.
        address: gRPC's target, or the base URL of the REST API without a slash at its end.
        is_secure: whether its scheme asks for TLS.
        is_multiple: whether it may resolve to several addresses.
    """

    text: str
    transport: Transport
    address: str
    is_secure: bool
    is_multiple: bool = False


def parse_target(text: str) -> Target:
    """Parses an address.

    Args:
        text: gRPC: ``host:port``, ``grpc://host:port``, ``grpcs://host:port`` (TLS), ``unix:/path``,
            ``dns:///host:port`` and anything else gRPC knows; REST: ``http://host:port``, ``https://host:port``, with a
            path after it if ``/v1`` is not at the root.

    Raises:
        BadRequestError: it is none of these; the message says what to write.
    """
    if not isinstance(text, str) or not text.strip():
        raise BadRequestError(f"the server's address must be text like localhost:8500, got {text!r}")
    text = text.strip()
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else ""
    if kind in ("http", "https"):
        return _rest(text, kind == "https")
    if kind in ("grpc", "grpcs"):
        address = text[len(kind) + 3 :].rstrip("/")
        _check_host_and_port(text, address)
        return Target(text, Transport.GRPC, address, kind == "grpcs")
    if _RESOLVER.match(text):
        return Target(text, Transport.GRPC, text, False, _MULTIPLE.match(text) is not None)
    if scheme:
        raise BadRequestError(
            f"the address {text} has an unknown scheme. Write host:port or grpcs://host:port for gRPC, "
            "http://host:port or https://host:port for REST"
        )
    _check_host_and_port(text, text)
    return Target(text, Transport.GRPC, text, False)


def _rest(text: str, is_secure: bool) -> Target:
    try:
        parts = urlsplit(text)
        port_is_right = parts.port != 0
    except ValueError:
        port_is_right = False
    if not port_is_right or not parts.hostname or parts.query or parts.fragment or re.search(r"\s", text):
        raise BadRequestError(
            f"{text} is not a REST API address. Write http://host:8501, followed by a path if a proxy needs one"
        )
    base = text.rstrip("/")
    if re.search(r"/v1(/models.*)?$", parts.path.rstrip("/")):
        raise BadRequestError(f"leave /v1 and what follows out of the address {text}: the client adds it")
    return Target(text, Transport.REST, base, is_secure)


def _check_host_and_port(text: str, address: str) -> None:
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or not 0 < int(found[2]) <= _MAX_PORT:
        remedy = (
            f"Write {address}:8500" if re.fullmatch(r"[\w.-]+", address) else "Write host:port, such as localhost:8500"
        )
        raise BadRequestError(f"the address {text} has no valid port. {remedy}, the value of the server's --port")
