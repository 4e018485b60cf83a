"""The command line: ``python -m serving.client COMMAND``."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.client.parser import make_parser

if TYPE_CHECKING:
    from serving.client.api import RecommenderClient
    from serving.client.tls import TlsOptions


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0; 2 for an invalid request; 3 when no server responds; 4 after a timeout; 5 for an unknown model;
        6 when the server is overloaded; 7 when it requires credentials; 1 for any other error, and when
        ``health`` finds a server that is not serving.
    """
    options = make_parser().parse_args(arguments)
    # gRPC would log each failed handshake to standard error; our error message is enough. It reads this when it is
    # imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from serving.client import commands
    from serving.client.errors import ServingError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        with _client(options) as client:
            status = commands.COMMANDS[options.command](client, options)
            sys.stdout.flush()
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def _client(options: argparse.Namespace) -> "RecommenderClient":
    from serving.client.api import RecommenderClient
    from serving.client.options import RetryPolicy

    return RecommenderClient(
        options.address,
        options.model,
        timeout=options.timeout,
        version=options.model_version,
        version_label=options.model_label,
        metadata=[_header(text) for text in options.metadata],
        tls=_tls(options),
        retry=RetryPolicy(max_attempts=options.retries + 1),
        fallback=options.fallback,
        wait_for_ready=options.wait_for_ready,
        load_balancing=options.load_balancing,
        compression=options.compression,
    )


def _tls(options: argparse.Namespace) -> "TlsOptions | None":
    from serving.client.tls import TlsOptions

    files = {"ca": options.tls_ca, "certificate": options.tls_cert, "key": options.tls_key}
    given = {**files, "server_name": options.tls_server_name}
    return TlsOptions(**given) if options.tls or any(given.values()) else None


def _header(text: str) -> tuple[str, str]:
    from serving.client.errors import BadRequestError

    key, equals, value = text.partition("=")
    if not equals:
        raise BadRequestError(f"-H {text!r} must be KEY=VALUE")
    return key.strip(), value
