"""Runs the application on uvicorn, and stops it without losing a request."""

import asyncio
import os
import signal
import ssl
from pathlib import Path
from types import FrameType

import uvicorn

from serving.service.api.app import create_app
from serving.service.api.connections import bounded_protocol
from serving.service.api.context import Context
from serving.service.api.logs import set_up_logging
from serving.service.errors import InvalidRequestError
from serving.service.options import ServiceOptions
from serving.service.recommendation import Recommender
from serving.service.store import Store


def serve(store: Store, recommender: Recommender, options: ServiceOptions) -> None:
    """Answers requests until SIGTERM or SIGINT; requests that have begun are finished.

    Raises:
        InvalidRequestError: the options do not fit together.
    """
    _check_tls(options)
    set_up_logging()
    app = create_app(store, recommender, options)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        loop="uvloop",
        http=bounded_protocol(options.request_timeout_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(options.trusted_proxies),
        forwarded_allow_ips=options.trusted_proxies or "",
        ssl_certfile=options.tls_certificate,
        ssl_keyfile=options.tls_key,
        timeout_graceful_shutdown=options.shutdown_grace_seconds,
    )
    # uvicorn raises the signal again when it has stopped: it must not end the process before the store is closed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: None)
    _Server(config, app.state.context).run()


class _Server(uvicorn.Server):
    """A server that tells load balancers before it stops."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context
        self._waiting: asyncio.TimerHandle | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On a signal: no longer ready at once, and no more connections after the delay."""
        delay = self._context.options.shutdown_delay_seconds
        if self._context.draining or sig == signal.SIGINT or delay <= 0:
            self._context.draining = True
            super().handle_exit(sig, frame)
            return
        self._context.draining = True
        loop = asyncio.get_event_loop()
        self._waiting = loop.call_later(delay, super().handle_exit, sig, frame)


def _check_tls(options: ServiceOptions) -> None:
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise InvalidRequestError("TLS needs both files. Remedy: give --tls_certificate and --tls_key.")
    if options.tls_certificate is None or options.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_certificate, options.tls_key)
    except OSError as error:  # also what SSL refuses
        names = ", ".join(str(path) for path in (options.tls_certificate, options.tls_key) if not _is_readable(path))
        reason = f"{names} can't be read" if names else str(error)
        raise InvalidRequestError(f"TLS: {reason}. Remedy: give a certificate and its key in PEM.") from None


def _is_readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)
