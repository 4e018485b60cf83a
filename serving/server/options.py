"""The server's options: the flags of tensorflow_model_server 2.20, even those that can't be supported, and a few more.

Each field of ``ServerOptions`` is the single definition of a flag: its type, its meaning and how that differs from the
real server. Names, defaults and meanings: ``model_servers/main.cc`` and ``server.h`` of TensorFlow Serving.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, TypeVar, get_args

from serving.server import values

Support = Literal["works", "differs", "refused"]
Kind = Literal["bool", "int", "float", "string"]
Access = Literal["loopback", "token", "open"]
Policy = Literal["availability_preserving", "resource_preserving"]
NativePredict = Literal["auto", "on", "off"]
MixedPrecision = Literal["", "bfloat16"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flag:
    """An option as the command line sees it.

    Attributes:
        name: its name on the command line, without dashes.
        default: its default, the same as the real server's.
        help: what it means.
        support: whether it means the same as in TensorFlow Serving.
        note: how it differs, or why it is refused.
        ours: TensorFlow Serving has no such flag.
        parse: parses the text into the value; raises ValueError saying what is wrong with it.
    """

    name: str
    default: object
    help: str
    support: Support
    note: str
    ours: bool
    parse: Callable[[str], object]

    @property
    def kind(self) -> Kind:
        """Type of the value on the command line."""
        for kind, of in _KINDS.items():
            if type(self.default) is of:
                return kind
        return "string"


_KINDS: dict[Kind, type] = {"bool": bool, "int": int, "float": float}
_PARSERS: dict[type, Callable[[str], object]] = {bool: values.boolean, int: values.integer, float: values.number}


def _flag(
    default: T,
    help_text: str,
    support: Support = "works",
    note: str = "",
    *,
    ours: bool = False,
    parse: Callable[[str], T] | None = None,
) -> T:
    own = {"help": help_text, "support": support, "note": note, "ours": ours}
    return field(default=default, metadata=own | {"parse": parse or _PARSERS.get(type(default), str)})


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_CPUS = available_cpus()
_NO_FILES = "text proto; on a syntax error the server exits and reports line and column"


# fmt: off
@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options of a server, each with the flag's name. ``serving.server.flags.parse`` reads and checks them."""

    # Listening.
    port: int = _flag(
        8500, "TCP port of the gRPC API; 0: a free one, which is logged", "differs", "0 picks a free port; TensorFlow "
        "Serving then has no gRPC port", parse=values.port,
    )
    grpc_socket_path: str = _flag("", "also listen for gRPC on this UNIX socket")
    rest_api_port: int = _flag(
        0, "TCP port of the REST API; 0: none, -1: a free one, which is logged", "differs",
        "-1 picks a free port; the same port as --port is refused at start, where TensorFlow Serving continues "
        "without REST", parse=values.port_or_free,
    )
    rest_api_num_threads: int = _flag(4 * _CPUS, "REST requests processed concurrently", parse=values.at_least(1))
    rest_api_timeout_in_ms: int = _flag(30000, "timeout of a REST request, in milliseconds", parse=values.at_least(1))
    rest_api_enable_cors_support: bool = _flag(False, "answer with CORS headers")
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = _flag(
        (), "comma-separated key=value for the gRPC server", parse=values.channel_arguments,
    )
    grpc_max_threads: int = _flag(
        4 * _CPUS, "gRPC requests processed concurrently", "differs", "more wait in a queue; TensorFlow Serving's "
        "limit (a resource quota) refuses them", parse=values.at_least(1),
    )
    ssl_config_file: str = _flag("", "SSLConfig for TLS on the gRPC port", note=_NO_FILES)
    use_alts_credentials: bool = _flag(
        False, "use Google's ALTS instead of TLS", "refused", "ALTS works only between machines in Google Cloud, so it "
        "can't be tested; use --ssl_config_file",
    )
    enable_grpc_healthcheck_service: bool = _flag(False, "serve the standard gRPC health service on the gRPC port")
    enable_profiler: bool = _flag(True, "serve the profiler service on the gRPC port, for TensorBoard's captures")
    # Models to serve.
    model_name: str = _flag("default", "name of the model (not used with --model_config_file)")
    model_base_path: str = _flag(
        "", "directory that contains the version directories (not used with --model_config_file, otherwise required)",
        "differs", "local directories only: gs://, s3:// and hdfs:// are refused; a relative path is resolved against "
        "the working directory, while TensorFlow Serving refuses it",
    )
    model_config_file: str = _flag("", "ModelServerConfig: which models to serve, versions, labels", note=_NO_FILES)
    model_config_file_poll_wait_seconds: int = _flag(
        0, "seconds between checks of --model_config_file for changes; 0 checks once", "differs",
        "an unreadable or refused file leaves the previous configuration in force and is logged once, not each time",
        parse=values.at_least(0),
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "let a new label point to a version that is not available yet",
    )
    saved_model_tags: str = _flag("serve", "comma-separated tags of the meta graph to load")
    prefer_tflite_model: bool = _flag(
        False, "serve model.tflite of a version directory where there is one", "differs",
        "shapes that contradict those of the model are refused (TensorFlow Serving's interpreter accepts what it can, "
        "and may compute nonsense); ParseExample and ParseExampleV2, which TensorFlow Serving adds to the built-in "
        "operations, are refused at load time: LiteRT has no kernels for them",
    )
    num_tflite_pools: int = _flag(
        _CPUS, "pools of TFLite interpreters per model", "differs", "a model has --num_tflite_pools x "
        "--num_tflite_interpreters_per_pool interpreters, in one pool", parse=values.at_least(1),
    )
    num_tflite_interpreters_per_pool: int = _flag(
        1, "TFLite interpreters in each pool", "differs", "see --num_tflite_pools", parse=values.at_least(1),
    )
    remove_unused_fields_from_bundle_metagraph: bool = _flag(
        True, "keep only a meta graph's signatures in memory", "differs", "nothing else is ever kept; false changes "
        "nothing",
    )
    # Version lifecycle.
    file_system_poll_wait_seconds: int = _flag(
        1, "seconds between polls for new versions; 0 polls once, a negative number never",
    )
    num_load_threads: int = _flag(
        0, "models loaded concurrently after the start; 0 means one", "differs", "a load that waits for its next "
        "attempt does not block others, as it does with 0 in TensorFlow Serving", parse=values.at_least(0),
    )
    num_unload_threads: int = _flag(
        0, "models unloaded concurrently; 0 means one", "differs", "a version that waits for its last request does "
        "not block others", parse=values.at_least(0),
    )
    max_num_load_retries: int = _flag(5, "retries after a failed load", parse=values.at_least(0))
    load_retry_interval_micros: int = _flag(60_000_000, "microseconds between these retries; negative: no pause")
    flush_filesystem_caches: bool = _flag(
        True, "flush file caches after loading", note="applies to remote file systems' caches in TensorFlow; local "
        "directories have none",
    )
    enable_model_warmup: bool = _flag(True, "replay a version's recorded requests before it goes live")
    num_request_iterations_for_warmup: int = _flag(0, "times to run each recorded request; 0 means once")
    # Running models.
    enable_batching: bool = _flag(False, "run requests in batches")
    batching_parameters_file: str = _flag("", "BatchingParameters; needs --enable_batching", note=_NO_FILES)
    enable_per_model_batching_parameters: bool = _flag(
        False, "with --enable_batching, a version's batching_params.pbtxt determines whether and how it is batched",
    )
    tensorflow_session_parallelism: int = _flag(
        0, "intra-op and inter-op threads; 0: TensorFlow's choice", parse=values.at_least(0),
    )
    tensorflow_intra_op_parallelism: int = _flag(
        0, "intra-op threads; 0: TensorFlow's choice", parse=values.at_least(0),
    )
    tensorflow_inter_op_parallelism: int = _flag(
        0, "inter-op threads; 0: TensorFlow's choice", parse=values.at_least(0),
    )
    tensorflow_session_config_file: str = _flag(
        "", "session ConfigProto; overridden by the three flags above", note=_NO_FILES,
    )
    platform_config_file: str = _flag(
        "", "PlatformConfigMap; replaces all flags about loading and running models", note=_NO_FILES,
    )
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "fraction of the GPU's memory; 0: as needed", note="passed to TensorFlow; no effect if TensorFlow finds "
        "no GPU", parse=values.fraction,
    )
    mixed_precision: MixedPrecision = _flag(
        "", "\"bfloat16\": let oneDNN compute in bfloat16 where that is safe", "differs", "any other value is refused "
        "at start, while TensorFlow Serving ignores it", parse=values.one_of(*get_args(MixedPrecision)),
    )
    xla_cpu_compilation_enabled: bool = _flag(
        False, "allow functions that XLA must compile", "differs", "always allowed; TensorFlow Serving returns an "
        "error for them unless this is set",
    )
    xla_gpu_compilation_enabled: bool = _flag(
        False, "allow functions that XLA must compile, on GPUs too", "differs", "see --xla_cpu_compilation_enabled",
    )
    thread_pool_factory_config_file: str = _flag(
        "", "ThreadPoolFactoryConfig", "refused", "the public TensorFlow Serving registers no thread pool factory "
        "either, so no such file can work",
    )
    skip_initialize_tpu: bool = _flag(False, "don't initialise TPUs", note="there are none to initialise")
    # Requests and responses.
    enable_signature_method_name_check: bool = _flag(
        False, "check the signature's method name in Classify, Regress and Predict",
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, "return tensor_content instead of typed values in Predict responses",
    )
    monitoring_config_file: str = _flag("", "MonitoringConfig: metrics for Prometheus on the REST port", note=_NO_FILES)
    version: bool = _flag(
        False, "print versions and exit", "differs", "the versions of TensorFlow Serving's API, TensorFlow, gRPC and "
        "this server",
    )
    # Flags that TensorFlow Serving does not have.
    aspired_version_policy: Policy = _flag(
        "availability_preserving", "availability_preserving loads a new version before it unloads the old one; "
        "resource_preserving unloads first", ours=True, parse=values.one_of(*get_args(Policy)),
    )
    servable_versions_always_present: bool = _flag(
        False, "treat a base path without versions as an error instead of unloading the model", ours=True,
    )
    admin_access: Access = _flag(
        "loopback", "who may send HandleReloadConfigRequest and use the profiler: loopback (clients on this machine, "
        "those with a verified certificate, and those with a token), token (the latter two) or open (everyone, as in "
        "TensorFlow Serving)", ours=True, parse=values.one_of(*get_args(Access)),
    )
    admin_token_file: str = _flag(
        "", "file of tokens, one per line, that administrators send as `authorization: Bearer TOKEN`", ours=True,
    )
    request_log_root: str = _flag(
        "", "directory that must contain all request logs; empty: those of --model_config_file may be anywhere, and a "
        "request may name no others (except with --admin_access=open)", ours=True,
    )
    verbose_errors: bool = _flag(
        False, "show clients the models' paths on this machine, as TensorFlow Serving does, instead of the models' "
        "names", ours=True,
    )
    require_manifest: bool = _flag(
        False, "refuse versions without assets.extra/manifest.json, the digests that `export` writes", ours=True,
    )
    workers: int = _flag(
        1, "server processes that share the ports, each with its own models and batches", ours=True,
        parse=values.at_least(1),
    )
    native_predict: NativePredict = _flag(
        "auto", "answer gRPC Predict requests without Python: on, off, or auto (if the native library was built, with "
        "--enable_batching)",
        ours=True, parse=values.one_of(*get_args(NativePredict)),
    )
    max_concurrent_requests: int = _flag(
        0, "limit on concurrent model requests in the server (in each worker), gRPC and REST together; more are "
        "refused with RESOURCE_EXHAUSTED and 429; 0: no limit", ours=True, parse=values.at_least(0),
    )
    max_connections: int = _flag(
        0, "limit on open connections, for REST and for gRPC's native front each; more are closed immediately; 0: as "
        "many as the file descriptor limit allows", ours=True, parse=values.at_least(0),
    )
    enable_grpc_reflection: bool = _flag(True, "serve gRPC reflection, for grpcurl and similar tools", ours=True)
    max_request_bytes: int = _flag(
        256 * 2**20, "size limit of a request: a gRPC message, or a REST body before and after decompression",
        ours=True, parse=values.at_least(1),
    )
    max_batch_rows: int = _flag(
        0, "limit on the rows, or tf.Examples, of a request; 0: no limit", ours=True, parse=values.at_least(0),
    )
    rest_api_max_memory_bytes: int = _flag(
        2**30, "limit on the total bytes of REST request bodies, before and after decompression; requests beyond it "
        "are refused with 503", ours=True, parse=values.at_least(1),
    )
    rest_api_gzip_min_bytes: int = _flag(
        1024, "minimum bytes of REST responses to compress for clients that accept it; negative: never", ours=True,
    )
    op_libraries: str = _flag(
        "", "comma-separated op libraries to load: files (.so), Python modules or entry points", ours=True,
    )
    request_log_max_file_bytes: int = _flag(
        256 * 2**20, "size in bytes at which a request log file is finished", ours=True, parse=values.at_least(1),
    )
    request_log_max_file_seconds: float = _flag(
        300.0, "age in seconds at which a request log file is finished", ours=True, parse=values.seconds,
    )
    shutdown_delay_seconds: float = _flag(
        0.0, "seconds to keep serving after SIGTERM with health NOT_SERVING, until load balancers stop sending "
        "requests", ours=True, parse=values.seconds,
    )
    shutdown_grace_seconds: float = _flag(
        30.0, "seconds that running requests may take after that", ours=True, parse=values.seconds,
    )
# fmt: on


FLAGS: Sequence[Flag] = tuple(Flag(each.name, each.default, **each.metadata) for each in fields(ServerOptions))
