"""The command line: TensorFlow Serving's flags, those that can't be honoured included, by being refused."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# Flags of tensorflow_model_server that this server can't honour, with the value at which they ask for
# nothing: that one is accepted, any other is refused instead of being ignored.
_NEUTRAL: dict[str, str] = {
    "allow_version_labels_for_unavailable_models": "false",
    "batching_parameters_file": "",
    "enable_batching": "false",
    "enable_cors_support": "false",
    "enable_grpc_healthcheck_service": "false",
    "enable_per_model_batching_parameters": "false",
    "enable_profiler": "",
    "enable_serialization_as_tensor_content": "false",
    "enable_signature_method_name_check": "true",
    "enforce_session_run_timeout": "",
    "flush_filesystem_caches": "",
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": "0",
    "monitoring_config_file": "",
    "num_load_threads": "0",
    "num_unload_threads": "0",
    "per_process_gpu_memory_fraction": "0",
    "platform_config_file": "",
    "prefer_tflite_model": "false",
    "remove_unused_fields_from_bundle_metagraph": "",
    "rest_api_enable_cors_support": "false",
    "rest_api_num_threads": "",
    "rest_api_port": "0",
    "rest_api_timeout_in_ms": "",
    "resource_preserving": "false",
    "saved_model_config_file": "",
    "skip_initialize_tpu": "false",
    "ssl_config_file": "",
    "tensorflow_session_config_file": "",
    "thread_pool_factory_config_file": "",
    "use_tflite_model": "false",
    "xla_cpu_compilation_enabled": "false",
    "xla_gpu_compilation_enabled": "false",
}


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, "", []) else action.help


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry `{self.prog} --help`.\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; exits with status 2 and one line about what is wrong with it."""
    parser = _Parser(
        prog="python -m serving.server",
        description="Serves a SavedModel over TensorFlow Serving's gRPC API, with TF-Text's and ScaNN's ops.",
        epilog="Flags are given as --flag=value or --flag value; names, defaults and meaning are "
        "tensorflow_model_server's. Its other flags are refused, unless they ask for nothing.",
        allow_abbrev=False,
        usage="%(prog)s --model_base_path=PATH [--flag=value ...]",
        formatter_class=_Formatter,
    )
    add = parser.add_argument
    add("--port", type=_port, default=8500, help="TCP port of the gRPC API; 0 takes a free one and logs it")
    add("--grpc_socket_path", default="", help="also listen on this UNIX socket (absolute path)")
    add("--model_name", default="default", help="name under which the model is served")
    add("--model_base_path", type=_base_path, help="directory of the version directories (required)")
    add(
        "--file_system_poll_wait_seconds",
        type=_at_least_zero,
        default=1,
        help="seconds between looks for new versions; 0 looks once",
    )
    add("--max_num_load_retries", type=_at_least_zero, default=5, help="attempts after a failed load")
    add(
        "--load_retry_interval_micros",
        type=int,
        default=60_000_000,
        help="microseconds between these attempts; negative does not wait",
    )
    add("--saved_model_tags", default="serve", help="comma-separated tags of the meta graph to load")
    add(
        "--enable_model_warmup",
        type=_boolean,
        nargs="?",
        const=True,
        default=True,
        help="replay the model's warm-up requests",
    )
    add(
        "--num_request_iterations_for_warmup",
        type=_at_least_zero,
        default=0,
        help="times each warm-up request is run; 0 means once",
    )
    add(
        "--grpc_max_threads",
        type=_at_least_one,
        default=4 * available_cpus(),
        help="requests that are worked on at once",
    )
    add(
        "--grpc_channel_arguments",
        type=_channel_arguments,
        default=[],
        help="comma-separated key=value for gRPC",
    )
    add(
        "--tensorflow_session_parallelism",
        type=_at_least_zero,
        default=0,
        help="threads for both of the next two; 0 lets TensorFlow choose",
    )
    add("--tensorflow_intra_op_parallelism", type=_at_least_zero, default=0, help="threads inside an op")
    add("--tensorflow_inter_op_parallelism", type=_at_least_zero, default=0, help="threads between ops")
    add(
        "--shutdown_grace_seconds",
        type=_seconds,
        default=30.0,
        help="how long running requests may take after SIGTERM (not in TensorFlow Serving)",
    )
    add("--version", action="store_true", help="print versions and exit")
    for name in _NEUTRAL:
        add(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)

    options = parser.parse_args(arguments)
    for name, neutral in _NEUTRAL.items():
        value = getattr(options, name)
        if value is not None and (not neutral or value.lower() != neutral):
            only = f"; leave it out or give --{name}={neutral}" if neutral else "; leave it out"
            parser.error(f"--{name} is a flag of TensorFlow Serving that this server does not support yet{only}")
    if not options.version:
        _check(parser, options)
    return options


def _check(parser: _Parser, options: argparse.Namespace) -> None:
    if options.model_base_path is None:
        parser.error("--model_base_path is required: the directory that holds the version directories (1, 2, ...)")
    if not options.model_name:
        parser.error("--model_name must not be empty")
    if options.tensorflow_session_parallelism and (
        options.tensorflow_intra_op_parallelism or options.tensorflow_inter_op_parallelism
    ):
        parser.error(
            "give either --tensorflow_session_parallelism or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism"
        )


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 65535")
    return value


def _at_least_zero(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _base_path(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r}: only local directories are supported yet")
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text).absolute()


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise argparse.ArgumentTypeError(f"{part!r} is not key=value")
        try:
            pairs.append((key, int(value)))
        except ValueError:
            pairs.append((key, value))
    return pairs
