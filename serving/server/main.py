"""The lifecycle of the server process: start, serve, drain."""

import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from types import FrameType
from typing import TYPE_CHECKING

# Before TensorFlow's library is loaded: its startup messages would clutter our one line per event. That includes
# errors: it looks for a GPU whether or not there is one, and a failed call returns its error anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's own allocator keeps the memory of unloaded models forever, in pools that only ever double.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
# For code that needs TensorFlow's package after all: it always imports a Keras, and version 2 takes two seconds less.
if importlib.util.find_spec("tf_keras") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


from serving.server import flags
from serving.server.errors import StatusError
from serving.server.operations import addresses, admin, config_files, workers
from serving.server.operations.config_files import ConfigFileError, ConfigFilePoller
from serving.server.operations.workers import run_workers
from serving.server.options import ServerOptions

if TYPE_CHECKING:
    from serving.protos import model_server_config_pb2
    from serving.server.api.grpc_server import GrpcServer
    from serving.server.assembly import Core
    from serving.server.operations.request_log import ServerRequestLogger
    from serving.server.rest import RestServer

_LOGGER = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_SWITCH_SECONDS = 0.001
# Unloading is quick; if no requests block it, it gets this time even when the grace period is used up.
_UNLOAD_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 after a stop on request, 1 when the server could not start.
    """
    options = flags.parse(arguments)
    if options.version:
        _print_versions()
        return 0
    _set_up_logging()
    # While a version is loading, its thread competes for the GIL; requests should not wait 5 ms for each turn.
    sys.setswitchinterval(_SWITCH_SECONDS)
    stop = _Stop()
    stop.on_signals()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.workers > 1:
            addresses.check(options.port, options.rest_api_port, options.grpc_socket_path)
            return run_workers(
                options.workers,
                (options.port, options.rest_api_port),
                given,
                lambda: stop.requested,
                options.shutdown_delay_seconds + options.shutdown_grace_seconds,
            )
        return _Server(options, stop).run()
    except ConfigFileError as error:
        # In the format of protobuf's C++ library, at the beginning of a line.
        print(error, file=sys.stderr, flush=True)
        _LOGGER.error("Failed to start server. Error: %s", error)
    except (OSError, StatusError) as error:
        _LOGGER.error("Failed to start server. Error: %s", error)
    return 1


class _Stop:
    """Whether the process was asked to stop.

    The handler only sets a flag: taking the lock of an event in a handler can deadlock. The flag is
    polled: a signal that the system delivers to another thread doesn't wake the main one.
    """

    def __init__(self) -> None:
        self._signals = 0
        self.requested = False

    def on_signals(self) -> None:
        """Installs handlers for SIGTERM and SIGINT."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def wait(self) -> None:
        """Returns once asked to stop."""
        while not self.requested:
            time.sleep(_POLL_SECONDS)

    def pause(self, seconds: float) -> None:
        """Sleeps, but only until the process is asked to stop again."""
        signals, deadline = self._signals, time.monotonic() + seconds
        while self._signals == signals and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_POLL_SECONDS, left))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(130)  # the second Ctrl-C: now
        self.requested = True
        self._signals += 1


class _Server:
    """The server of one process: its parts, in the order in which they start and stop."""

    def __init__(self, options: ServerOptions, stop: _Stop) -> None:
        self._options = options
        self._stop = stop
        self._core: Core | None = None
        self._logger: ServerRequestLogger | None = None
        self._poller: ConfigFilePoller | None = None
        self._shutdowns: list[Callable[[], None]] = []
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        self._snapshots: workers.SharedSnapshots | None = None
        self._is_serving = True  # until it begins to stop

    def run(self) -> int:
        """Serves until asked to stop; returns the exit status.

        Raises:
            ConfigFileError, StatusError, OSError: it could not start.
        """
        try:
            self._start()
            if not self._stop.requested:
                self._stop.wait()
        finally:
            clean = self._drain()
        _LOGGER.info("stopped")
        if not clean:
            # A load that is still inside TensorFlow can't be interrupted, and interpreter shutdown would
            # pull its modules out from under it.
            logging.shutdown()
            os._exit(0)
        return 0

    def _start(self) -> None:
        options = self._options
        # Files first: a mistake in one should show up before anything slow.
        config = config_files.model_server_config(options)
        bundle = config_files.session_bundle_config(options)
        config_files.monitoring_config(options.monitoring_config_file)
        tokens = admin.read_tokens(options.admin_token_file)
        if workers.is_worker():
            workers.end_with_parent()
        else:
            addresses.check(options.port, options.rest_api_port, options.grpc_socket_path)

        from serving.private import probe

        probe.check()
        from serving.server import assembly
        from serving.server.api.handlers import Handlers
        from serving.server.operations.metrics import Metrics

        if workers.is_worker() and workers.share_memory():
            _LOGGER.info("the kernel may merge identical pages of the workers")
        tls = assembly.make_tls(options.ssl_config_file)
        metrics = Metrics()
        logger = self._logger = assembly.make_request_logger(options, bundle, metrics)
        logger.check(config)
        core = self._core = assembly.make_core(options, bundle, metrics)
        # Like TensorFlow Serving, listen only once a model can answer.
        core.start(config, lambda: self._stop.requested)
        if self._stop.requested:
            return
        logger.update(core.config)
        if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:

            def apply(changed: "model_server_config_pb2.ModelServerConfig") -> None:
                logger.check(changed)
                core.apply(changed)

            self._poller = ConfigFilePoller(
                options.model_config_file,
                options.model_config_file_poll_wait_seconds,
                lambda: core.config,
                apply,
            )
            self._poller.start()
        handlers = Handlers(
            core,
            logger,
            metrics,
            check_method_names=options.enable_signature_method_name_check,
            as_content=options.enable_serialization_as_tensor_content,
            trust_reloads=options.admin_access == admin.OPEN,
            show_paths=options.verbose_errors,
            max_rows=options.max_batch_rows or None,
            reloadable=not workers.is_worker(),
        )
        front = assembly.make_front(options, bundle, tls)
        limit = assembly.make_limit(options.max_concurrent_requests, metrics, front)
        self._grpc = assembly.make_grpc(options, handlers, core, tokens, tls, front, limit)
        self._shutdowns = assembly.add_services(options, self._grpc, core)
        assembly.listen(self._grpc, options.port, options.grpc_socket_path)
        if options.rest_api_port:
            from serving.server.rest import start_rest

            self._rest = start_rest(assembly.rest_options(options), handlers, metrics, lambda: self._is_serving, limit)
        if workers.is_worker():
            self._snapshots = workers.SharedSnapshots(metrics.snapshot)
            metrics.watch_others(self._snapshots.others)
            workers.notify_ready()

    def _drain(self) -> bool:
        """Lets running requests finish, then unloads everything; returns whether everything was unloaded."""
        options = self._options
        self._is_serving = False
        for shutdown in self._shutdowns:
            shutdown()
        if self._grpc is not None and self._stop.requested and options.shutdown_delay_seconds:
            _LOGGER.info("still serving for %g s, so that load balancers notice", options.shutdown_delay_seconds)
            self._stop.pause(options.shutdown_delay_seconds)
        if self._core is not None:
            _LOGGER.info("stopping: waiting up to %g s for running requests", options.shutdown_grace_seconds)
        deadline = time.monotonic() + options.shutdown_grace_seconds
        if self._poller is not None:
            self._poller.stop()
        if self._core is not None:
            self._core.stop_watching()
        # Both at once: each refuses new requests from now on, and waits for its running ones.
        ended = self._grpc.stop(options.shutdown_grace_seconds) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop(options.shutdown_grace_seconds)
        if ended is not None:
            ended.wait()
        left = max(deadline - time.monotonic(), _UNLOAD_SECONDS)
        clean = self._grpc.close(left) if self._grpc is not None else True
        if self._core is not None:
            clean = self._core.stop(left) and clean
        if self._logger is not None:
            self._logger.close(left)
        if self._snapshots is not None:
            self._snapshots.close()
        return clean


def _print_versions() -> None:
    for package in ("babelrec", "tensorflow-serving-api", "tensorflow", "grpcio"):
        try:
            print(f"{package} {package_version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")


def _set_up_logging() -> None:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03d %(levelname).1s %(name)s] %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
