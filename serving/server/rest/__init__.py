"""TensorFlow Serving's REST API."""

import argparse
import logging
import socket
from collections.abc import Callable

from serving.server.operations import workers
from serving.server.operations.addresses import default_max_connections
from serving.server.operations.config_files import monitoring_config
from serving.server.operations.metrics import REFUSED
from serving.server.operations.request_limit import RequestLimit
from serving.server.rest.app import AppOptions, Handlers, Metrics, RestApp
from serving.server.rest.body import Budget
from serving.server.rest.server import RestServer

__all__ = ["AppOptions", "Handlers", "Metrics", "RestApp", "RestServer", "start_rest"]

_LOGGER = logging.getLogger(__name__)
_MEMORY_BYTES, _BODY_BYTES = 1 << 30, 1 << 28


def start_rest(
    options: argparse.Namespace,
    handlers: Handlers,
    metrics: Metrics,
    is_serving: Callable[[], bool] = lambda: True,
    limit: RequestLimit | None = None,
) -> RestServer:
    """Starts the REST API on ``--rest_api_port`` (-1 or 0: a free port).

    Args:
        options: flags: ``rest_api_port``, ``rest_api_num_threads``, ``rest_api_timeout_in_ms``,
            ``rest_api_enable_cors_support``, ``monitoring_config_file``, and this server's own
            ``max_request_bytes`` and ``rest_api_gzip_min_bytes`` (negative: responses are never compressed).
        handlers: answers requests.
        metrics: for the metrics page, if the monitoring configuration enables it.
        is_serving: whether new requests are accepted, for ``/healthz``.
        limit: the requests for models that are accepted; None: no limit.

    Raises:
        ConfigFileError: the monitoring configuration is malformed.
        OSError: the port can't be listened on.
    """
    prometheus = monitoring_config(options).prometheus_config
    gzip_min_bytes = int(getattr(options, "rest_api_gzip_min_bytes", 1024))
    budget = Budget(
        getattr(options, "rest_api_max_memory_bytes", _MEMORY_BYTES), getattr(options, "max_request_bytes", _BODY_BYTES)
    )
    metrics.add_source(lambda: {REFUSED: {(flag,): count for flag, count in budget.refused.items() if count}})
    app = RestApp(
        handlers,
        metrics,
        AppOptions(
            timeout=options.rest_api_timeout_in_ms / 1000 if options.rest_api_timeout_in_ms > 0 else None,
            threads=options.rest_api_num_threads,
            cors=options.rest_api_enable_cors_support,
            metrics_path=prometheus.path if prometheus.enable else None,
            gzip_min_bytes=gzip_min_bytes if gzip_min_bytes >= 0 else None,
        ),
        budget,
        is_serving,
    )
    server = _listen(options, app, budget, limit)
    _LOGGER.info("Exporting HTTP/REST API at:localhost:%d ...", server.port)
    return server


def _listen(options: argparse.Namespace, app: RestApp, budget: Budget, limit: RequestLimit | None) -> RestServer:
    # All addresses, including IPv4, if IPv6 is available.
    host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    return RestServer(
        (host, max(options.rest_api_port, 0)),
        app,
        options.rest_api_num_threads,
        budget=budget,
        limit=limit,
        max_connections=getattr(options, "max_connections", 0) or default_max_connections(),
        reuse_port=workers.is_worker(),
    )
