"""TensorFlow Serving's REST API."""

import argparse
import logging
from collections.abc import Callable

from serving.server import workers
from serving.server.config_files import monitoring_config
from serving.server.rest.app import AppOptions, Handlers, Metrics, RestApp
from serving.server.rest.server import HttpServer, RestServer

__all__ = ["AppOptions", "Handlers", "Metrics", "RestApp", "RestServer", "start_rest"]

_LOGGER = logging.getLogger(__name__)
_DEFAULTS = AppOptions()


def start_rest(
    options: argparse.Namespace,
    handlers: Handlers,
    metrics: Metrics,
    is_serving: Callable[[], bool] = lambda: True,
) -> RestServer:
    """Starts the REST API on ``--rest_api_port`` (-1 or 0: a free port).

    Args:
        options: flags: ``rest_api_port``, ``rest_api_num_threads``, ``rest_api_timeout_in_ms``,
            ``rest_api_enable_cors_support``, ``monitoring_config_file``, and this server's own
            ``rest_api_max_body_bytes`` and ``rest_api_gzip_min_bytes`` (negative: answers are never compressed).
        handlers: answers requests.
        metrics: for the metrics page, if the monitoring configuration enables it.
        is_serving: whether new requests are welcome, for ``/healthz``.

    Raises:
        ConfigFileError: the monitoring configuration is malformed.
        OSError: the port can't be listened on.
    """
    prometheus = monitoring_config(options).prometheus_config
    gzip_min_bytes = int(getattr(options, "rest_api_gzip_min_bytes", 1024))
    app = RestApp(
        handlers,
        metrics,
        AppOptions(
            timeout=options.rest_api_timeout_in_ms / 1000 if options.rest_api_timeout_in_ms > 0 else None,
            threads=options.rest_api_num_threads,
            cors=options.rest_api_enable_cors_support,
            metrics_path=prometheus.path if prometheus.enable else None,
            max_body_bytes=getattr(options, "rest_api_max_body_bytes", _DEFAULTS.max_body_bytes),
            gzip_min_bytes=gzip_min_bytes if gzip_min_bytes >= 0 else None,
        ),
        is_serving,
    )
    server = _listen(max(options.rest_api_port, 0), app, options.rest_api_num_threads, workers.is_worker())
    _LOGGER.info("Exporting HTTP/REST API at:localhost:%d ...", server.port)
    return server


def _listen(port: int, app: RestApp, threads: int, reuse_port: bool) -> RestServer:
    try:
        # All addresses, IPv4 included.
        return RestServer(HttpServer(("::", port), app, threads, reuse_port=reuse_port))
    except OSError:
        return RestServer(HttpServer(("0.0.0.0", port), app, threads, reuse_port=reuse_port))
