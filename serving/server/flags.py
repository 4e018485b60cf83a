"""The command line: the flags of tensorflow_model_server 2.20, including those that can't be honoured, and a few more.

``FLAGS`` is the single definition of each flag: what it is, what it means here and how that compares with the
real server. Names, defaults and meaning: ``model_servers/main.cc`` and ``server.h`` of TensorFlow Serving.
"""

import argparse
import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from serving.server.lifecycle.policies import TRANSITION_POLICIES
from serving.server.operations.admin import ACCESS

Support = Literal["works", "differs", "refused"]
Value = bool | int | float | str
_PROGRAM = "python -m serving.server"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        name: as on the command line, without dashes.
        kind: type of the value.
        default: the value when it is not given, which is the real server's.
        help: what it means.
        support: whether it means the same as in TensorFlow Serving.
        note: how it differs, or why it is refused.
        ours: TensorFlow Serving has no such flag.
        check: parses the text into the value; raises ValueError saying what is wrong with it.
    """

    name: str
    kind: Literal["bool", "int", "float", "string"]
    default: Value
    help: str
    support: Support = "works"
    note: str = ""
    ours: bool = False
    check: Callable[[str], Any] | None = None


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_least(lowest: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        value = _integer(text)
        if value < lowest:
            raise ValueError(f"{value} is less than {lowest}")
        return value

    return check


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an integer") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _port(text: str) -> int:
    value = _integer(text)
    if not 0 <= value <= 65535:
        raise ValueError(f"{value} is not between 0 and 65535")
    return value


def _port_or_free(text: str) -> int:
    return -1 if text == "-1" else _port(text)


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text} is not a number of seconds")
    return value


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not between 0 and 1")
    return value


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise ValueError(f"{part!r} is not key=value")
        pairs.append((key, int(value) if re.fullmatch(r"[+-]?[0-9]+", value) else value))
    return pairs


def _one_of(*values: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in values:
            raise ValueError(f"{text!r} is none of {', '.join(repr(value) for value in values)}")
        return text

    return check


_PARSERS: dict[str, Callable[[str], Any]] = {"bool": _boolean, "int": _integer, "float": _number, "string": str}
_CPUS = available_cpus()
_NO_FILES = "text proto; if it is malformed, the server exits with its line and column"

FLAGS: Sequence[Flag] = (
    # Listening.
    Flag(
        "port", "int", 8500, "TCP port of the gRPC API; 0 takes a free one and logs it", "differs",
        "0 takes a free port; TensorFlow Serving then has no gRPC port", check=_port,
    ),
    Flag("grpc_socket_path", "string", "", "also listen for gRPC on this UNIX socket"),
    Flag(
        "rest_api_port", "int", 0, "TCP port of the REST API; 0: none, -1: a free one, which is logged", "differs",
        "-1 takes a free port; the same port as --port is refused at start, where TensorFlow Serving continues "
        "without REST", check=_port_or_free,
    ),
    Flag("rest_api_num_threads", "int", 4 * _CPUS, "REST requests processed concurrently", check=_at_least(1)),
    Flag("rest_api_timeout_in_ms", "int", 30000, "longest time that a REST request may take", check=_at_least(1)),
    Flag("rest_api_enable_cors_support", "bool", False, "answer with CORS headers"),
    Flag("grpc_channel_arguments", "string", "", "comma-separated key=value for the gRPC server",
         check=_channel_arguments),
    Flag(
        "grpc_max_threads", "int", 4 * _CPUS, "gRPC requests processed concurrently", "differs",
        "more wait in a queue; TensorFlow Serving's limit (a resource quota) refuses them", check=_at_least(1),
    ),
    Flag("ssl_config_file", "string", "", "SSLConfig for TLS on the gRPC port", note=_NO_FILES),
    Flag(
        "use_alts_credentials", "bool", False, "Google's ALTS instead of TLS", "refused",
        "ALTS works only between machines in Google Cloud, so it can't be tested; use --ssl_config_file",
    ),
    Flag("enable_grpc_healthcheck_service", "bool", False, "the standard gRPC health service on the gRPC port"),
    Flag("enable_profiler", "bool", True, "the profiler service on the gRPC port, for TensorBoard's captures"),
    # Models to serve.
    Flag("model_name", "string", "default", "name of the model (not used with --model_config_file)"),
    Flag(
        "model_base_path", "string", "", "directory of the version directories (not used with --model_config_file, "
        "otherwise required)", "differs",
        "local directories only: gs://, s3:// and hdfs:// are refused; a relative path is resolved against the "
        "working directory, while TensorFlow Serving refuses it",
    ),
    Flag("model_config_file", "string", "", "ModelServerConfig: which models to serve, versions, labels",
         note=_NO_FILES),
    Flag(
        "model_config_file_poll_wait_seconds", "int", 0, "seconds between checks of --model_config_file for changes; 0 "
        "checks once", "differs",
        "an unreadable or refused file leaves the previous configuration in force and is logged once, not each time",
        check=_at_least(0),
    ),
    Flag("allow_version_labels_for_unavailable_models", "bool", False,
         "a new label may point to a version that is not available yet"),
    Flag(
        "saved_model_tags", "string", "serve", "comma-separated tags of the meta graph to load",
    ),
    Flag("prefer_tflite_model", "bool", False, "serve model.tflite of a version directory where there is one",
         "differs",
         "shapes that contradict those of the model are refused (TensorFlow Serving's interpreter accepts what it can, "
         "and may compute nonsense); ParseExample and ParseExampleV2, which TensorFlow Serving adds to the built-in "
         "operations, are refused at load time: LiteRT has no kernels for them"),
    Flag("num_tflite_pools", "int", _CPUS, "pools of TFLite interpreters per model", "differs",
         "a model has --num_tflite_pools x --num_tflite_interpreters_per_pool interpreters, in one pool",
         check=_at_least(1)),
    Flag("num_tflite_interpreters_per_pool", "int", 1, "TFLite interpreters in each pool", "differs",
         "see --num_tflite_pools", check=_at_least(1)),
    Flag(
        "remove_unused_fields_from_bundle_metagraph", "bool", True, "keep only a meta graph's signatures in memory",
        "differs", "nothing else is ever kept; false changes nothing",
    ),
    # Version lifecycle.
    Flag("file_system_poll_wait_seconds", "int", 1, "seconds between polls for new versions; 0 polls once, a negative "
         "number never"),
    Flag(
        "num_load_threads", "int", 0, "models loaded concurrently after the start; 0 means one", "differs",
        "a load that waits for its next attempt does not block others, as it does with 0 in TensorFlow Serving",
        check=_at_least(0),
    ),
    Flag(
        "num_unload_threads", "int", 0, "models unloaded concurrently; 0 means one", "differs",
        "a version that waits for its last request does not block others", check=_at_least(0),
    ),
    Flag("max_num_load_retries", "int", 5, "retries after a failed load", check=_at_least(0)),
    Flag("load_retry_interval_micros", "int", 60_000_000, "microseconds between these retries; negative: no pause"),
    Flag("flush_filesystem_caches", "bool", True, "flush file caches after loading",
         note="applies to remote file systems' caches in TensorFlow; local directories have none"),
    Flag("enable_model_warmup", "bool", True, "replay a version's recorded requests before it goes live"),
    Flag("num_request_iterations_for_warmup", "int", 0, "how often each of them is run; 0 means once"),
    # Running models.
    Flag("enable_batching", "bool", False, "run requests in batches"),
    Flag("batching_parameters_file", "string", "", "BatchingParameters; needs --enable_batching", note=_NO_FILES),
    Flag("enable_per_model_batching_parameters", "bool", False,
         "with --enable_batching, a version's batching_params.pbtxt decides how and whether it is batched"),
    Flag("tensorflow_session_parallelism", "int", 0, "threads both between and inside ops; 0: TensorFlow's choice",
         check=_at_least(0)),
    Flag("tensorflow_intra_op_parallelism", "int", 0, "threads inside an op; 0: TensorFlow's choice",
         check=_at_least(0)),
    Flag("tensorflow_inter_op_parallelism", "int", 0, "threads between ops; 0: TensorFlow's choice",
         check=_at_least(0)),
    Flag("tensorflow_session_config_file", "string", "", "session ConfigProto; overridden by the three flags above",
         note=_NO_FILES),
    Flag("platform_config_file", "string", "", "PlatformConfigMap; replaces all flags about loading and running models",
         note=_NO_FILES),
    Flag(
        "per_process_gpu_memory_fraction", "float", 0.0, "fraction of the GPU's memory; 0: as needed",
        note="passed to TensorFlow; no effect if TensorFlow finds no GPU", check=_fraction,
    ),
    Flag(
        "mixed_precision", "string", "", "\"bfloat16\": let oneDNN compute in bfloat16 where that is safe", "differs",
        "any other value is refused at start, while TensorFlow Serving ignores it",
        check=_one_of("", "bfloat16"),
    ),
    Flag(
        "xla_cpu_compilation_enabled", "bool", False, "allow functions that XLA must compile", "differs",
        "they always run; TensorFlow Serving answers them with an error unless this is set",
    ),
    Flag(
        "xla_gpu_compilation_enabled", "bool", False, "allow functions that XLA must compile, on GPUs too", "differs",
        "see --xla_cpu_compilation_enabled",
    ),
    Flag(
        "thread_pool_factory_config_file", "string", "", "ThreadPoolFactoryConfig", "refused",
        "the public TensorFlow Serving registers no thread pool factory either, so no such file can work",
    ),
    Flag("skip_initialize_tpu", "bool", False, "don't initialise TPUs", note="there are none to initialise"),
    # Requests and responses.
    Flag("enable_signature_method_name_check", "bool", False,
         "Classify, Regress and Predict check the method name of a signature"),
    Flag("enable_serialization_as_tensor_content", "bool", False,
         "Predict's responses hold tensor_content instead of typed values"),
    Flag("monitoring_config_file", "string", "", "MonitoringConfig: metrics for Prometheus on the REST port",
         note=_NO_FILES),
    Flag(
        "version", "bool", False, "print versions and exit", "differs",
        "the versions of TensorFlow Serving's API, TensorFlow, gRPC and this server",
    ),
    # What TensorFlow Serving does not have.
    Flag("aspired_version_policy", "string", "availability_preserving",
         "availability_preserving loads a new version before it unloads the old one; resource_preserving unloads first",
         ours=True, check=_one_of(*TRANSITION_POLICIES)),
    Flag("servable_versions_always_present", "bool", False,
         "treat a base path without versions as a mistake instead of unloading the model", ours=True),
    Flag("admin_access", "string", "loopback", "who may send HandleReloadConfigRequest and use the profiler: loopback "
         "(clients on this machine, those with a verified certificate, and those with a token), token (the latter two) "
         "or open (everyone, as in TensorFlow Serving)", ours=True, check=_one_of(*ACCESS)),
    Flag("admin_token_file", "string", "", "file of tokens, one per line, that administrators send as `authorization: "
         "Bearer TOKEN`", ours=True),
    Flag("request_log_root", "string", "", "directory that must contain all request logs; empty: those of "
         "--model_config_file may be anywhere, and a request may name no others (except with --admin_access=open)",
         ours=True),
    Flag("verbose_errors", "bool", False, "show clients the models' paths on this machine, as TensorFlow Serving does, "
         "instead of the models' names", ours=True),
    Flag("require_manifest", "bool", False,
         "refuse versions without assets.extra/manifest.json, the digests that `export` writes", ours=True),
    Flag("workers", "int", 1, "server processes that share the ports, each with its own models and batches",
         ours=True, check=_at_least(1)),
    Flag("native_predict", "string", "auto", "answer gRPC's Predict without Python: on, off, or auto: if it was "
         "built, with --enable_batching", ours=True, check=_one_of("auto", "on", "off")),
    Flag("max_concurrent_requests", "int", 0, "requests for models in the server (in each worker) at once, by gRPC and "
         "REST together; more are refused with RESOURCE_EXHAUSTED and 429; 0: no limit", ours=True, check=_at_least(0)),
    Flag("max_connections", "int", 0, "connections at once, for REST and for gRPC's native front each; more are closed "
         "immediately; 0: as many as the file descriptor limit allows", ours=True, check=_at_least(0)),
    Flag("enable_grpc_reflection", "bool", True, "gRPC server reflection, for grpcurl and similar tools", ours=True),
    Flag("max_request_bytes", "int", 256 * 2**20, "size limit of a request: a gRPC message, or a REST body before and "
         "after decompression", ours=True, check=_at_least(1)),
    Flag("max_batch_rows", "int", 0, "limit on the rows, or tf.Examples, of a request; 0: no limit", ours=True,
         check=_at_least(0)),
    Flag("rest_api_max_memory_bytes", "int", 2**30, "limit on the total bytes of REST request bodies, before and "
         "after decompression; requests beyond it are refused with 503", ours=True, check=_at_least(1)),
    Flag("rest_api_gzip_min_bytes", "int", 1024, "size from which REST responses are compressed for clients that "
         "accept it; negative: never", ours=True),
    Flag("op_libraries", "string", "",
         "comma-separated op libraries to load: files (.so), Python modules or entry points", ours=True),
    Flag("request_log_max_file_bytes", "int", 256 * 2**20, "size at which a request log file is finished", ours=True,
         check=_at_least(1)),
    Flag("request_log_max_file_seconds", "float", 300.0, "age at which a request log file is finished", ours=True,
         check=_seconds),
    Flag("shutdown_delay_seconds", "float", 0.0, "how long to keep serving after SIGTERM with health NOT_SERVING, "
         "until load balancers stop sending requests", ours=True, check=_seconds),
    Flag("shutdown_grace_seconds", "float", 30.0, "how long running requests may take after that", ours=True,
         check=_seconds),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry `{self.prog} --help`.\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; if it is invalid, exits with status 2 and one line that says why.

    Returns:
        A namespace with an attribute for each of ``FLAGS``; ``grpc_channel_arguments`` is a list of pairs.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown))
    for flag in FLAGS:
        if flag.support == "refused" and getattr(options, flag.name) != flag.default:
            parser.error(f"--{flag.name} is a flag of TensorFlow Serving that this server refuses: {flag.note}")
    if not options.version:
        _check(parser, options)
    return options


def _parser() -> _Parser:
    parser = _Parser(
        prog=_PROGRAM,
        description="Serves SavedModels over TensorFlow Serving's gRPC and REST APIs, with TF-Text's and ScaNN's ops.",
        epilog="Flags are given as --flag=value or --flag value, true ones as --flag too. Those marked * are not in "
        "TensorFlow Serving.",
        allow_abbrev=False,
        usage="%(prog)s --model_base_path=PATH | --model_config_file=FILE [--flag=value ...]",
    )
    for flag in FLAGS:
        optional: dict[str, Any] = {"nargs": "?", "const": True} if flag.kind == "bool" else {}
        mark = "* " if flag.ours else ""
        support = f" [{flag.support}: {flag.note}]" if flag.support != "works" else ""
        default = "" if flag.default in ("", False) else f" (default: {str(flag.default).lower()})"
        parse_value = _argument_type(flag)
        parser.add_argument(
            f"--{flag.name}",
            type=parse_value,
            default=parse_value("") if flag.check is _channel_arguments else flag.default,
            metavar=flag.kind.upper(),
            help=f"{mark}{flag.help}{default}{support}".replace("%", "%%"),
            **optional,
        )
    return parser


def _argument_type(flag: Flag) -> Callable[[str], Any]:
    convert = flag.check or _PARSERS[flag.kind]

    def parse_value(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_value


def _unknown(arguments: Sequence[str]) -> str:
    message = f"unrecognized arguments: {' '.join(arguments)}"
    first = arguments[0].split("=")[0].lstrip("-")
    close = difflib.get_close_matches(first, [flag.name for flag in FLAGS], 1)
    return f"{message} (did you mean --{close[0]}?)" if close else message


def _check(parser: _Parser, options: argparse.Namespace) -> None:
    if not options.model_config_file:
        if not options.model_base_path:
            parser.error(
                "--model_base_path is required: the directory that holds the version directories (1, 2, ...); or give "
                "--model_config_file"
            )
        if not options.model_name:
            parser.error("--model_name must not be empty")
        if "://" not in options.model_base_path:
            options.model_base_path = os.path.abspath(options.model_base_path)
        elif not options.model_base_path.startswith("file://"):
            parser.error(
                f"--model_base_path={options.model_base_path}: only local directories can be served; mount the bucket "
                "or share, or copy the versions"
            )
    if options.batching_parameters_file and not options.enable_batching:
        parser.error("--batching_parameters_file is given without --enable_batching")
    if options.rest_api_port > 0 and options.rest_api_port == options.port:
        parser.error("--rest_api_port must not be the same as --port")
    parallelism = "tensorflow_session_parallelism", "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"
    if all(getattr(options, name) for name in parallelism):
        parser.error(
            "give either --tensorflow_session_parallelism or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism"
        )
