"""Checks before a model is loaded that the server can listen on its addresses; the default connection limit."""

import errno
import os
import resource
import socket
import stat
from pathlib import Path

_WHO = "`ss -ltnp 'sport = :{port}'` shows which process uses it"

# File descriptors that the rest of the process needs: model files, logs, the connection to the server behind the front.
_KEPT_DESCRIPTORS = 256


def default_max_connections() -> int:
    """Connection limit of gRPC and REST each: half of the file descriptor limit less 256, or a quarter of it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    return (limit - min(limit // 2, _KEPT_DESCRIPTORS)) // 2


def check(port: int, rest_api_port: int, grpc_socket_path: str) -> None:
    """Checks the values of the flags of the same names.

    Raises:
        OSError: one is not available; names its flag and the remedy.
    """
    if port and port == rest_api_port:
        raise OSError(f"--port and --rest_api_port are both {port}. Remedy: give each its own port")
    check_port(port, "port")
    check_port(rest_api_port, "rest_api_port")
    if grpc_socket_path:
        _check_socket(grpc_socket_path)


def check_port(port: int, flag: str) -> None:
    """Checks a TCP port; 0 and less mean a free one.

    Raises:
        OSError: it is not available.
    """
    if port <= 0:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do; a port whose connections have just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
            # Two sockets may be bound to a port that neither listens on yet.
            probe.listen()
        except OSError as error:
            raise OSError(f"cannot listen on 0.0.0.0:{port} (--{flag}): {_reason(error, port, flag)}") from None


def _reason(error: OSError, port: int, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use. Remedy: stop that process ({_WHO.format(port=port)}), or give another --{flag}"
    if error.errno == errno.EACCES:
        return f"not permitted. Remedy: a --{flag} of 1024 or more, or the capability CAP_NET_BIND_SERVICE"
    return error.strerror or str(error)


def _check_socket(path: str) -> None:
    what = f"cannot listen on unix:{path} (--grpc_socket_path): "
    folder = Path(path).parent
    if not folder.is_dir():
        raise OSError(f"{what}there is no directory {folder}. Remedy: create it, or name another path")
    if not os.access(folder, os.W_OK):
        raise OSError(f"{what}the directory {folder} can't be written to. Remedy: name another path")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"{what}the path exists and is not a socket. Remedy: remove it, or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return  # left by a server that is gone: it will be replaced
    raise OSError(f"{what}a server listens there. Remedy: stop it (`fuser {path}` shows which), or name another path")
