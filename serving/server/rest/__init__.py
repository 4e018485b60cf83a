"""TensorFlow Serving's REST API."""

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.server.operations.addresses import default_max_connections
from serving.server.operations.metrics import REFUSED
from serving.server.operations.request_limit import RequestLimit
from serving.server.rest.app import AppOptions, Handlers, Metrics, RestApp
from serving.server.rest.body import Budget
from serving.server.rest.server import RestServer

__all__ = ["AppOptions", "Handlers", "Metrics", "RestApp", "RestOptions", "RestServer", "start_rest"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestOptions:
    """Settings of the REST API.

    Attributes:
        port: TCP port; 0 or less: a free one.
        app: settings of the application.
        max_request_bytes: of a body, before and after decompression.
        max_memory_bytes: of all bodies together.
        max_connections: more are closed immediately; 0: as many as the file descriptor limit allows.
        share_port: whether other processes may listen on the same port.
    """

    port: int = 0
    app: AppOptions = field(default_factory=AppOptions)
    max_request_bytes: int = 1 << 28
    max_memory_bytes: int = 1 << 30
    max_connections: int = 0
    share_port: bool = False


def start_rest(
    options: RestOptions,
    handlers: Handlers,
    metrics: Metrics,
    is_serving: Callable[[], bool] = lambda: True,
    limit: RequestLimit | None = None,
) -> RestServer:
    """Starts the REST API.

    Args:
        options: settings.
        handlers: answers requests.
        metrics: for the metrics page, if the settings enable it.
        is_serving: whether new requests are accepted, for ``/healthz``.
        limit: the requests for models that are accepted; None: no limit.

    Raises:
        OSError: the port can't be listened on.
    """
    budget = Budget(options.max_memory_bytes, options.max_request_bytes)
    metrics.add_source(lambda: {REFUSED: {(flag,): count for flag, count in budget.refused.items() if count}})
    server = RestServer(
        # All addresses, including IPv4, if IPv6 is available.
        ("::" if socket.has_dualstack_ipv6() else "0.0.0.0", max(options.port, 0)),
        RestApp(handlers, metrics, options.app, budget, is_serving),
        options.app.threads,
        budget=budget,
        limit=limit,
        max_connections=options.max_connections or default_max_connections(),
        reuse_port=options.share_port,
    )
    _LOGGER.info("Exporting HTTP/REST API at:localhost:%d ...", server.port)
    return server
