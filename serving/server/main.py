"""The life of the server process: start, serve, drain."""

import argparse
import gc
import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as package_version
from types import FrameType

# Before TensorFlow is imported: its start-up notes would come between our one line per event.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN's own allocator keeps the memory of unloaded models for ever, in pools that only ever double.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
# TensorFlow imports a Keras whether or not anyone wants one; version 2 takes two seconds less.
if importlib.util.find_spec("tf_keras") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import grpc

from serving.server import flags

_LOGGER = logging.getLogger(__name__)
_UNLIMITED = -1
_POLL_SECONDS = 0.2
# Unloading takes moments; without requests in the way it may have them even when the grace is used up.
_UNLOAD_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 after a stop on request, 1 when the server could not start.
    """
    options = flags.parse(arguments)
    if options.version:
        for package in ("tensorflow-serving-api", "tensorflow", "grpcio"):
            print(f"{package} {package_version(package)}")
        return 0
    _set_up_logging()
    stop = _Stop()
    stop.on_signals()

    from tensorflow import get_logger  # the import takes seconds: not for --help and not for wrong flags

    get_logger().setLevel(logging.ERROR)
    try:
        return _serve(options, stop)
    except _StartError as error:
        _LOGGER.error("Failed to start server. Error: %s", error)
        return 1


class _Stop:
    """Whether the process was asked to stop.

    The handler does nothing but set a flag: taking the lock of an event in a handler can deadlock. The flag is
    polled: a signal that the system hands to another thread doesn't wake the main one.
    """

    def __init__(self) -> None:
        self.requested = False

    def on_signals(self) -> None:
        """Takes over SIGTERM and SIGINT."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def wait(self) -> None:
        """Returns once asked to stop."""
        while not self.requested:
            time.sleep(_POLL_SECONDS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(130)  # the second Ctrl-C: now
        self.requested = True


class _StartError(Exception):
    pass


def _serve(options: argparse.Namespace, stop: _Stop) -> int:
    from serving.server import ops
    from serving.server.loader import LoaderOptions, SavedModelLoader
    from serving.server.manager import AspiredVersionsManager
    from serving.server.policies import AvailabilityPreserving, Latest
    from serving.server.services import ModelService, PredictionService
    from serving.server.source import FileSystemSource, StoragePath, WatchedModel
    from serving.server.states import ManagerState, ServableStateMonitor

    ops.register()
    # What is imported by now stays for good; the collections after an unload need not walk through it.
    gc.collect()
    gc.freeze()

    both = options.tensorflow_session_parallelism
    loader_options = LoaderOptions(
        tags=tuple(filter(None, options.saved_model_tags.split(","))),
        inter_op_threads=both or options.tensorflow_inter_op_parallelism,
        intra_op_threads=both or options.tensorflow_intra_op_parallelism,
        warm_up=options.enable_model_warmup,
        warm_up_iterations=max(options.num_request_iterations_for_warmup, 1),
    )

    def make_loader(name: str, storage: StoragePath) -> SavedModelLoader:
        return SavedModelLoader(name, storage.version, storage.path, loader_options)

    monitor = ServableStateMonitor()
    manager = AspiredVersionsManager(
        make_loader,
        AvailabilityPreserving(),
        monitor,
        options.max_num_load_retries,
        options.load_retry_interval_micros / 1e6,
    )
    name = options.model_name
    _LOGGER.info("serving model %s from base path %s", name, options.model_base_path)
    source = FileSystemSource(
        [WatchedModel(name, options.model_base_path, Latest())],
        options.file_system_poll_wait_seconds,
        manager.set_aspired_versions,
    )

    def decided() -> bool:
        states = monitor.versions(name).values()
        return any(s.manager_state is ManagerState.AVAILABLE or s.error_is_final for s in states)

    server: grpc.Server | None = None
    source.start()
    try:
        # Like TensorFlow Serving, listen only once there is something to answer with.
        while not stop.requested and not monitor.wait_until(decided, timeout=_POLL_SECONDS):
            pass
        if not stop.requested:
            failed = {v: s.error for v, s in monitor.versions(name).items() if s.error_is_final}
            if all(s.manager_state is not ManagerState.AVAILABLE for s in monitor.versions(name).values()):
                reasons = "".join(
                    f"{{{{name: {name} version: {v}}} due to error: {error}}}, " for v, error in failed.items()
                )
                raise _StartError(f"UNKNOWN: {len(failed)} servable(s) did not become available: {{{reasons}}}")
            server = _start_grpc(options, PredictionService(manager), ModelService(monitor))
            stop.wait()
    finally:
        _LOGGER.info("stopping: waiting up to %g s for running requests", options.shutdown_grace_seconds)
        deadline = time.monotonic() + options.shutdown_grace_seconds
        source.stop()
        if server is not None:
            server.stop(options.shutdown_grace_seconds).wait()
        clean = manager.stop(max(deadline - time.monotonic(), _UNLOAD_SECONDS))
    _LOGGER.info("stopped")
    if not clean:
        # A load that is still inside TensorFlow can't be interrupted, and interpreter shutdown would
        # pull the modules from under it.
        logging.shutdown()
        os._exit(0)
    return 0


def _start_grpc(options: argparse.Namespace, prediction: object, model: object) -> grpc.Server:
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    server = grpc.server(
        ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", _UNLIMITED),
            ("grpc.max_send_message_length", _UNLIMITED),
            # A second server on the same port is a mistake, not a way to share the load.
            ("grpc.so_reuseport", 0),
            *options.grpc_channel_arguments,
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, server)
    port = _bind(server, f"0.0.0.0:{options.port}")
    if options.grpc_socket_path:
        _bind(server, f"unix:{options.grpc_socket_path}")
    server.start()
    _LOGGER.info("Running gRPC ModelServer at 0.0.0.0:%d ...", port)
    if options.grpc_socket_path:
        _LOGGER.info("Running gRPC ModelServer at UNIX socket %s ...", options.grpc_socket_path)
    return server


def _bind(server: grpc.Server, address: str) -> int:
    try:
        return int(server.add_insecure_port(address))
    except RuntimeError as error:
        raise _StartError(f"cannot listen on {address}: is it in use? ({error})") from None


def _set_up_logging() -> None:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03d %(levelname).1s %(name)s] %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
