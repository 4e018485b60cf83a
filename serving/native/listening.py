"""Listening sockets for the front."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator

_BACKLOG = 4096


def listen(address: str, *, share_port: bool) -> list[socket.socket]:
    """Binds an address in gRPC's syntax and listens.

    Args:
        address: ``unix:/path``, or ``host:port`` with port 0 for a free one. All addresses of a host name are bound;
            ``0.0.0.0`` includes IPv6 if available.
        share_port: whether other processes may listen on the same port.

    Returns:
        Listening sockets, all on one port.

    Raises:
        OSError: none is available.
    """
    if address.startswith("unix:"):
        return [_listen_on_path(address.removeprefix("unix:"))]
    host, _, port = address.rpartition(":")
    sockets: list[socket.socket] = []
    error: OSError | None = None
    for family, target in _targets(host.strip("[]")):
        number = sockets[0].getsockname()[1] if sockets else int(port)
        try:
            sockets.append(_listen_on_port(family, target, number, share_port))
        except OSError as failure:
            error = failure
    if not sockets:
        raise error or OSError(f"{host} has no address")
    return sockets


def _targets(host: str) -> Iterator[tuple[socket.AddressFamily, str]]:
    if host == "0.0.0.0" and socket.has_dualstack_ipv6():
        yield socket.AF_INET6, "::"
        return
    seen = set()
    for family, _, _, _, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        if (family, place[0]) not in seen:
            seen.add((family, place[0]))
            yield family, str(place[0])


def _listen_on_port(family: socket.AddressFamily, host: str, port: int, share_port: bool) -> socket.socket:
    return socket.create_server(
        (host, port),
        family=family,
        backlog=_BACKLOG,
        reuse_port=share_port,
        dualstack_ipv6=family == socket.AF_INET6 and host == "::",
    )


def _listen_on_path(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Left by a server that is gone; `serving.server.operations.addresses` has checked that none is listening.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
