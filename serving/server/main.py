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
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from types import FrameType
from typing import Any

# Before TensorFlow's library is loaded: its start-up notes would come between our one line per event.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN's own allocator keeps the memory of unloaded models for ever, in pools that only ever double.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
# TensorFlow imports a Keras whether or not anyone wants one; version 2 takes two seconds less.
if importlib.util.find_spec("tf_keras") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import grpc

from serving.server import config_files, flags
from serving.server.config_files import ConfigFileError, ConfigFilePoller
from serving.server.core import CoreOptions, ServerCore
from serving.server.errors import StatusError
from serving.server.policies import TRANSITION_POLICIES
from serving.server.source import StoragePath

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
        _print_versions()
        return 0
    _set_up_logging()
    stop = _Stop()
    stop.on_signals()
    try:
        return _serve(options, stop)
    except ConfigFileError as error:
        # As protobuf's C++ library puts it, at the beginning of a line.
        print(error, file=sys.stderr, flush=True)
        _LOGGER.error("Failed to start server. Error: %s", error)
    except (_StartError, StatusError) as error:
        _LOGGER.error("Failed to start server. Error: %s", error)
    return 1


class _Stop:
    """Whether the process was asked to stop.

    The handler does nothing but set a flag: taking the lock of an event in a handler can deadlock. The flag is
    polled: a signal that the system hands to another thread doesn't wake the main one.
    """

    def __init__(self) -> None:
        self._signals = 0
        self.requested = False

    def on_signals(self) -> None:
        """Takes over SIGTERM and SIGINT."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def wait(self) -> None:
        """Returns once asked to stop."""
        while not self.requested:
            time.sleep(_POLL_SECONDS)

    def pause(self, seconds: float) -> None:
        """Sleeps, but no longer than until it is asked to stop once more."""
        signals, deadline = self._signals, time.monotonic() + seconds
        while self._signals == signals and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_POLL_SECONDS, left))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(130)  # the second Ctrl-C: now
        self.requested = True
        self._signals += 1


class _StartError(Exception):
    pass


def _serve(options: argparse.Namespace, stop: _Stop) -> int:
    # Files first: a mistake in one should show before anything takes time.
    config = config_files.model_server_config(options)
    bundle = config_files.session_bundle_config(options)

    core = ServerCore(_loader_factory(bundle), _core_options(options))
    poller: ConfigFilePoller | None = None
    servers: list[grpc.Server] = []
    try:
        # Like TensorFlow Serving, listen only once there is something to answer with.
        core.start(config, lambda: stop.requested)
        if not stop.requested:
            if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
                poller = ConfigFilePoller(
                    options.model_config_file,
                    options.model_config_file_poll_wait_seconds,
                    lambda: core.config,
                    core.apply,
                )
                poller.start()
            servers.append(_start_grpc(options, core))
            stop.wait()
            if options.shutdown_delay_seconds:
                _LOGGER.info("serving on for %g s, until balancers have noticed", options.shutdown_delay_seconds)
                stop.pause(options.shutdown_delay_seconds)
    finally:
        clean = _drain(core, poller, servers, options.shutdown_grace_seconds)
    _LOGGER.info("stopped")
    if not clean:
        # A load that is still inside TensorFlow can't be interrupted, and interpreter shutdown would
        # pull the modules from under it.
        logging.shutdown()
        os._exit(0)
    return 0


def _drain(
    core: ServerCore[Any], poller: ConfigFilePoller | None, servers: Sequence[grpc.Server], grace: float
) -> bool:
    """Lets running requests finish, then unloads everything; returns whether all of it is gone."""
    _LOGGER.info("stopping: waiting up to %g s for running requests", grace)
    deadline = time.monotonic() + grace
    if poller is not None:
        poller.stop()
    core.stop_watching()
    # All at once: each refuses new requests from now on, and waits for its running ones.
    for stopping in [server.stop(grace) for server in servers]:
        stopping.wait()
    return core.stop(max(deadline - time.monotonic(), _UNLOAD_SECONDS))


def _core_options(options: argparse.Namespace) -> CoreOptions:
    return CoreOptions(
        transition_policy=TRANSITION_POLICIES[options.aspired_version_policy](),
        max_num_load_retries=options.max_num_load_retries,
        load_retry_interval=options.load_retry_interval_micros / 1e6,
        num_load_threads=options.num_load_threads,
        num_initial_load_threads=4 * flags.available_cpus(),
        num_unload_threads=options.num_unload_threads,
        file_system_poll_wait_seconds=options.file_system_poll_wait_seconds,
        servable_versions_always_present=options.servable_versions_always_present,
        allow_version_labels_for_unavailable_models=options.allow_version_labels_for_unavailable_models,
        platforms=(config_files.PLATFORM,),
    )


def _loader_factory(bundle: Any) -> Any:
    from serving.server import ops
    from serving.server.loader import LoaderOptions, SavedModelLoader

    ops.register()
    # What is imported by now stays for good; the collections after an unload need not walk through it.
    gc.collect()
    gc.freeze()
    loader_options = LoaderOptions(
        tags=tuple(bundle.saved_model_tags) or ("serve",),
        inter_op_threads=bundle.session_config.inter_op_parallelism_threads,
        intra_op_threads=bundle.session_config.intra_op_parallelism_threads,
        warm_up=bundle.enable_model_warmup,
        warm_up_iterations=max(bundle.model_warmup_options.num_request_iterations.value, 1),
    )

    def make_loader(name: str, storage: StoragePath, config: Any) -> SavedModelLoader:
        return SavedModelLoader(name, storage.version, storage.path, loader_options)

    return make_loader


def _start_grpc(options: argparse.Namespace, core: ServerCore[Any]) -> grpc.Server:
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    from serving.server.services import ModelService, PredictionService

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
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core.manager), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core.monitor), server)
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
