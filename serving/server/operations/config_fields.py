"""Every field of TensorFlow Serving's configuration messages, and how this server treats it.

``CONFIG_FIELDS`` is the single source for that; fields that it calls refused are refused wherever a message is loaded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from google.protobuf.message import Message

_NO_BUDGET = "models' memory is not budgeted"
_INVISIBLE = "accepted; it has no visible effect"


@dataclass(frozen=True, slots=True)
class ConfigField:
    """One field.

    Attributes:
        message: full name of its message, without the package ``tensorflow.serving``.
        name: its name.
        support: whether it means the same as in TensorFlow Serving.
        note: how it differs, or why it is refused.
    """

    message: str
    name: str
    support: Literal["works", "differs", "refused"] = "works"
    note: str = ""


_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"

CONFIG_FIELDS: Sequence[ConfigField] = (
    # --model_config_file, HandleReloadConfigRequest
    ConfigField("ModelServerConfig", "model_config_list"),
    ConfigField(
        "ModelServerConfig",
        "custom_model_config",
        "refused",
        "the public TensorFlow Serving ends with an error too: ModelServer does not yet support custom model config",
    ),
    ConfigField("ModelConfigList", "config"),
    ConfigField("ModelConfig", "name"),
    ConfigField(
        "ModelConfig",
        "base_path",
        "differs",
        "absolute local directories and file:// URIs; a change takes effect even if version numbers stay the same "
        "(TensorFlow Serving keeps the old directory of such a version)",
    ),
    ConfigField("ModelConfig", "model_type"),
    ConfigField("ModelConfig", "model_platform", "differs", 'only "tensorflow", which includes TFLite models'),
    ConfigField("ModelConfig", "model_version_policy"),
    ConfigField(
        "ModelConfig",
        "version_labels",
        "differs",
        "if one is refused, the previous configuration stays fully in force; TensorFlow Serving has then half applied "
        "the new one",
    ),
    ConfigField("ModelConfig", "logging_config"),
    ConfigField(_POLICY, "latest"),
    ConfigField(_POLICY, "all"),
    ConfigField(_POLICY, "specific"),
    ConfigField(f"{_POLICY}.Latest", "num_versions"),
    ConfigField(f"{_POLICY}.Specific", "versions"),
    ConfigField("LoggingConfig", "log_collector_config"),
    ConfigField("LoggingConfig", "sampling_config"),
    ConfigField(
        "LoggingConfig", "custom_logging_config", "refused", "TensorFlow Serving defines no message to put there"
    ),
    ConfigField("SamplingConfig", "sampling_rate"),
    ConfigField("SamplingConfig", "attributes", "refused", "TensorFlow Serving defines no attribute"),
    ConfigField(
        "SamplingConfig",
        "per_task_sampling_configs",
        "refused",
        "it needs the names of Google's data centres and tasks; give each replica its own configuration",
    ),
    ConfigField("PerTaskSamplingConfig", "dc", "refused", "see per_task_sampling_configs"),
    ConfigField("PerTaskSamplingConfig", "task_index", "refused", "see per_task_sampling_configs"),
    ConfigField("PerTaskSamplingConfig", "sampling_rate", "refused", "see per_task_sampling_configs"),
    ConfigField(
        "LogCollectorConfig",
        "type",
        "differs",
        '"file" (or nothing) writes TFRecord files; the public TensorFlow Serving has no collector at all',
    ),
    ConfigField("LogCollectorConfig", "filename_prefix"),
    # --ssl_config_file
    ConfigField("SSLConfig", "server_key"),
    ConfigField("SSLConfig", "server_cert"),
    ConfigField("SSLConfig", "custom_ca"),
    ConfigField("SSLConfig", "client_verify"),
    # --monitoring_config_file
    ConfigField("MonitoringConfig", "prometheus_config"),
    ConfigField("PrometheusConfig", "enable"),
    ConfigField("PrometheusConfig", "path"),
    # --platform_config_file
    ConfigField("PlatformConfigMap", "platform_configs", "differs", 'only the key "tensorflow"'),
    ConfigField(
        "PlatformConfig",
        "source_adapter_config",
        "differs",
        "SavedModelBundleSourceAdapterConfig or SessionBundleSourceAdapterConfig",
    ),
    ConfigField("SavedModelBundleSourceAdapterConfig", "legacy_config"),
    ConfigField("SessionBundleSourceAdapterConfig", "config"),
    ConfigField("SessionBundleConfig", "session_target", "refused", "models run in this process only"),
    ConfigField("SessionBundleConfig", "session_config"),
    ConfigField("SessionBundleConfig", "batching_parameters"),
    ConfigField(
        "SessionBundleConfig", "session_run_load_threadpool_index", "refused", "loading has no separate thread pool"
    ),
    ConfigField("SessionBundleConfig", "experimental_transient_ram_bytes_during_load", "differs", _NO_BUDGET),
    ConfigField("SessionBundleConfig", "saved_model_tags"),
    ConfigField("SessionBundleConfig", "experimental_fixed_input_tensors", "refused", "inputs come from requests only"),
    ConfigField("SessionBundleConfig", "enable_model_warmup"),
    ConfigField("SessionBundleConfig", "model_warmup_options"),
    ConfigField("SessionBundleConfig", "enable_session_metadata", "differs", _INVISIBLE),
    ConfigField(
        "SessionBundleConfig",
        "remove_unused_fields_from_bundle_metagraph",
        "differs",
        "only signatures are ever kept",
    ),
    ConfigField("SessionBundleConfig", "prefer_tflite_model"),
    ConfigField("SessionBundleConfig", "resource_estimation_uses_validation_result", "differs", _NO_BUDGET),
    ConfigField("SessionBundleConfig", "num_tflite_interpreters"),
    ConfigField("SessionBundleConfig", "num_tflite_interpreters_per_pool", "differs", "pools are joined into one"),
    ConfigField("SessionBundleConfig", "num_tflite_pools", "differs", "pools are joined into one"),
    ConfigField("SessionBundleConfig", "wrap_session_with_no_threading_params", "differs", _INVISIBLE),
    ConfigField("SessionBundleConfig", "enable_per_model_batching_params"),
    ConfigField(
        "SessionBundleConfig", "enable_saved_model_config", "refused", "assets.extra/saved_model_config.pb is not read"
    ),
    ConfigField(
        "SessionBundleConfig",
        "mixed_precision",
        "differs",
        "as the flag: any value other than bfloat16 is refused, while TensorFlow Serving ignores it",
    ),
    ConfigField(
        "SessionBundleConfig",
        "in_graph_batching_parameters",
        "refused",
        "batching operations inside a graph keep the parameters they were exported with",
    ),
    *(
        ConfigField("BatchingOptions", name, "refused", "see in_graph_batching_parameters")
        for name in (
            "num_batch_threads",
            "max_batch_size",
            "batch_timeout_micros",
            "allowed_batch_sizes",
            "max_enqueued_batches",
        )
    ),
    ConfigField("ModelWarmupOptions", "num_request_iterations"),
    ConfigField("ModelWarmupOptions", "num_model_warmup_threads", "differs", "requests are replayed one after another"),
    ConfigField("ModelWarmupOptions", "model_name", "differs", "filled in by the server, as in TensorFlow Serving"),
    ConfigField("ModelWarmupOptions", "model_version", "differs", "filled in by the server, as in TensorFlow Serving"),
    ConfigField(
        "ModelWarmupOptions",
        "enable_all_batch_sizes_warmup",
        "refused",
        "put a request of each batch size into the warm-up file",
    ),
    # --batching_parameters_file
    ConfigField("BatchingParameters", "max_batch_size"),
    ConfigField(
        "BatchingParameters",
        "batch_timeout_micros",
        "differs",
        "in the native front Predict waits no longer than this once a thread is free, and only for as many requests "
        "as in the previous batch",
    ),
    ConfigField("BatchingParameters", "max_enqueued_batches"),
    ConfigField("BatchingParameters", "num_batch_threads"),
    ConfigField("BatchingParameters", "thread_pool_name", "differs", _INVISIBLE),
    ConfigField("BatchingParameters", "allowed_batch_sizes"),
    ConfigField(
        "BatchingParameters",
        "pad_variable_length_inputs",
        "differs",
        "pads with zeros and empty strings, which carry no meaning; TensorFlow Serving pads with the first element, "
        "and an empty tensor is an error",
    ),
    ConfigField("BatchingParameters", "enable_large_batch_splitting"),
    ConfigField(
        "BatchingParameters",
        "max_execution_batch_size",
        "differs",
        "replaces max_batch_size when large batches are split; larger requests are split without limit",
    ),
)
_REFUSED = {
    (f"tensorflow.serving.{field.message}", field.name): field.note
    for field in CONFIG_FIELDS
    if field.support == "refused"
}


def refused_fields(message: Message) -> Iterator[str]:
    """``path.to.field: why`` for fields that are set in a message, or a nested one, and can't be honoured."""
    for descriptor, value in message.ListFields():
        reason = _REFUSED.get((message.DESCRIPTOR.full_name, descriptor.name))
        if reason is not None:
            yield f"{descriptor.name}: {reason}"
        elif descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        elif descriptor.message_type.file.package == "tensorflow.serving":
            for inner in value if descriptor.is_repeated else [value]:
                for found in refused_fields(inner):
                    yield f"{descriptor.name}.{found}"
