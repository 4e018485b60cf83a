"""Configuration files: parsing, precedence and error messages; and their proto messages."""

import mmap
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.proto import (
    monitoring_config_pb2,
    profiler_service_pb2,
    session_bundle_config_pb2,
    source_adapter_config_pb2,
    ssl_config_pb2,
)
from serving.protos import (
    config_pb2,
    file_system_storage_path_source_pb2,
    log_collector_config_pb2,
    logging_config_pb2,
    model_server_config_pb2,
    platform_config_pb2,
)
from serving.server import flags
from serving.server.operations import config_files
from serving.server.operations.config_fields import CONFIG_FIELDS, refused_fields
from serving.server.operations.config_files import ConfigFileError, ConfigFilePoller
from serving.server.options import ServerOptions
from tests.serving.live import ROOT, wait_for

EXAMPLES = ROOT / "configs" / "serving"


def options(*arguments: str) -> ServerOptions:
    return flags.parse(["--model_base_path=/models/m", *arguments])


def write(path: Path, text: str) -> Path:
    # Atomically: a reader in another thread must not find it half written.
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    return aside.rename(path)


def refusal(call: Callable[..., Any], *arguments: object) -> str:
    with pytest.raises(ConfigFileError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_config_list {\n  config { nme: 'x' }\n}",
            '2:12: Message type "tensorflow.serving.ModelConfig" has no field named "nme".',
        ),
        ("model_config_list {", '1:19: Expected "}".'),
        ("\n\n  }", "3:3: Expected identifier or number, got }."),
        ("model_config_list: [{config: {name: 3}}]", '1:20: Expected "{".'),
        (
            "model_config_list { config { model_type: FOO } }",
            '1:42: Enum type "tensorflow.serving.ModelType" has no value named FOO.',
        ),
        (
            'model_config_list { config { name: "a" name: "b" } }',
            '1:46: Message type "tensorflow.serving.ModelConfig" should not have multiple "name" fields.',
        ),
    ],
)
def test_malformed_files_name_line_and_column(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "models.config", text)
    reported = refusal(config_files.model_server_config, options(f"--model_config_file={path}"))
    assert reported.startswith(f"Error parsing text-format tensorflow.serving.ModelServerConfig: {message}")
    assert str(path) in reported
    assert "Remedy: " in reported
    assert "\n" not in reported


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.text(st.sampled_from("config{}[]:\"'<>,;#\n 0a.-"))))
def test_any_text_is_read_or_refused_cleanly(text: str) -> None:
    message = model_server_config_pb2.ModelServerConfig()
    reported = "Error parsing text-format tensorflow.serving.ModelServerConfig: ... (in here)"
    try:
        config_files.parse_text_proto(text, message, "here")
    except ConfigFileError as error:
        reported = str(error)
    assert reported.startswith("Error parsing text-format tensorflow.serving.ModelServerConfig: ")
    assert "(in here)" in reported


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    message = model_server_config_pb2.ModelServerConfig()
    assert refusal(config_files.read_text_proto, tmp_path / "none", message) == (
        f"cannot read {tmp_path}/none: No such file or directory"
    )
    assert "Is a directory" in refusal(config_files.read_text_proto, tmp_path, message)
    latin = tmp_path / "latin"
    latin.write_bytes("\n# größe".encode("latin-1"))
    reported = refusal(config_files.read_text_proto, latin, message)
    assert reported.startswith("Error parsing text-format tensorflow.serving.ModelServerConfig: 2:1: not UTF-8")


def test_the_model_of_the_flags_or_the_models_of_the_file(tmp_path: Path) -> None:
    (model,) = config_files.model_server_config(options("--model_name=模型")).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("模型", "/models/m", "tensorflow")
    path = write(
        tmp_path / "models.config",
        """
        model_config_list {
          config {
            name: "推荐" base_path: "/models/推荐" model_platform: "tensorflow"
            model_version_policy { specific { versions: 42 versions: 43 } }
            version_labels { key: "stable" value: 42 }
            logging_config { sampling_config { sampling_rate: 0.1 } }
          }
        }
        """,
    )
    config = config_files.model_server_config(options(f"--model_config_file={path}", "--model_name=ignored"))
    (model,) = config.model_config_list.config
    assert (model.name, dict(model.version_labels)) == ("推荐", {"stable": 42})
    assert list(model.model_version_policy.specific.versions) == [42, 43]


def test_flags_alone() -> None:
    bundle = config_files.session_bundle_config(options())
    assert list(bundle.saved_model_tags) == ["serve"]
    assert not bundle.HasField("batching_parameters")
    assert bundle.enable_model_warmup
    assert not bundle.HasField("model_warmup_options")
    assert bundle.session_config == config_pb2.ConfigProto()
    bundle = config_files.session_bundle_config(
        options(
            "--saved_model_tags=serve,gpu", "--enable_model_warmup=false", "--num_request_iterations_for_warmup=3",
            "--enable_batching", "--enable_per_model_batching_parameters", "--prefer_tflite_model",
            "--num_tflite_pools=5", "--num_tflite_interpreters_per_pool=2", "--mixed_precision=bfloat16",
            "--per_process_gpu_memory_fraction=0.5", "--tensorflow_session_parallelism=4",
        )
    )  # fmt: skip
    expected = text_format.Parse(
        """
        session_config {
          intra_op_parallelism_threads: 4
          inter_op_parallelism_threads: 4
          gpu_options { per_process_gpu_memory_fraction: 0.5 }
          graph_options { rewrite_options { auto_mixed_precision_onednn_bfloat16: ON } }
        }
        batching_parameters { thread_pool_name { value: "model_server_batch_threads" } }
        enable_per_model_batching_params: true
        saved_model_tags: "serve"
        saved_model_tags: "gpu"
        model_warmup_options { num_request_iterations { value: 3 } }
        remove_unused_fields_from_bundle_metagraph: true
        prefer_tflite_model: true
        num_tflite_pools: 5
        num_tflite_interpreters_per_pool: 2
        mixed_precision: "bfloat16"
        """,
        session_bundle_config_pb2.SessionBundleConfig(),
    )
    assert bundle == expected


def test_thread_flags_override_the_session_config_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "session.config",
        "intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 5 allow_soft_placement: true",
    )
    given = f"--tensorflow_session_config_file={path}"

    def threads(*arguments: str) -> tuple[int, int, bool]:
        session = config_files.session_bundle_config(options(given, *arguments)).session_config
        return session.intra_op_parallelism_threads, session.inter_op_parallelism_threads, session.allow_soft_placement

    assert threads() == (3, 5, True)
    assert threads("--tensorflow_session_parallelism=2") == (2, 2, True)
    assert threads("--tensorflow_intra_op_parallelism=1") == (1, 0, True)
    assert threads("--tensorflow_session_parallelism=2", "--tensorflow_inter_op_parallelism=7") == (0, 7, True)


def test_batching_parameters(tmp_path: Path) -> None:
    path = write(
        tmp_path / "batching.config",
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }
        allowed_batch_sizes: [8, 128]
        pad_variable_length_inputs: true
        """,
    )
    given = options("--enable_batching", f"--batching_parameters_file={path}")
    batching = config_files.session_bundle_config(given).batching_parameters
    assert (batching.max_batch_size.value, batching.num_batch_threads.value) == (128, 8)
    assert batching.HasField("batch_timeout_micros")
    assert (list(batching.allowed_batch_sizes), batching.pad_variable_length_inputs) == ([8, 128], True)
    write(path, "max_batch_size: 128")
    assert refusal(config_files.session_bundle_config, given).startswith(
        "Error parsing text-format tensorflow.serving.BatchingParameters: 1:"
    )


def test_a_versions_own_batching_parameters(tmp_path: Path) -> None:
    shared = text_format.Parse(
        'num_batch_threads { value: 4 } thread_pool_name { value: "all" } max_batch_size { value: 9 }',
        session_bundle_config_pb2.BatchingParameters(),
    )
    assert config_files.per_model_batching_parameters(tmp_path, shared) is None
    write(tmp_path / "batching_params.pbtxt", "max_batch_size { value: 2 } num_batch_threads { value: 77 }")
    own = config_files.per_model_batching_parameters(tmp_path, shared)
    assert own is not None
    assert (own.max_batch_size.value, own.num_batch_threads.value, own.thread_pool_name.value) == (2, 4, "all")
    write(tmp_path / "batching_params.pbtxt", "max_batch_size {")
    assert "batching_params.pbtxt" in refusal(config_files.per_model_batching_parameters, tmp_path, shared)


@pytest.mark.parametrize(
    ("adapter", "field"),
    [("SavedModelBundleSourceAdapterConfig", "legacy_config"), ("SessionBundleSourceAdapterConfig", "config")],
)
def test_a_platform_config_replaces_the_flags(adapter: str, field: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "platform.config",
        f"""
        platform_configs {{
          key: "tensorflow"
          value {{
            source_adapter_config {{
              [type.googleapis.com/tensorflow.serving.{adapter}] {{
                {field} {{
                  session_config {{ intra_op_parallelism_threads: 1 }}
                  saved_model_tags: "x"
                  batching_parameters {{ max_batch_size {{ value: 3 }} }}
                }}
              }}
            }}
          }}
        }}
        """,
    )
    bundle = config_files.session_bundle_config(
        options(f"--platform_config_file={path}", "--tensorflow_session_parallelism=9")
    )
    assert bundle.session_config.intra_op_parallelism_threads == 1
    assert list(bundle.saved_model_tags) == ["x"]
    assert bundle.batching_parameters.max_batch_size.value == 3
    assert not bundle.enable_model_warmup


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'needs an entry for the platform "tensorflow" and no other, got none'),
        ('platform_configs { key: "caffe" value {} }', "got ['caffe']"),
        ('platform_configs { key: "tensorflow" value {} }', "source_adapter_config must be a"),
        (
            'platform_configs { key: "tensorflow" value { source_adapter_config { '
            "[type.googleapis.com/tensorflow.serving.SessionBundleSourceAdapterConfig] { "
            'config { session_target: "grpc://x" } } } } }',
            "session_target: models run in this process only. This can't be honoured here",
        ),
        (
            'platform_configs { key: "tensorflow" value { source_adapter_config { '
            "[type.googleapis.com/tensorflow.serving.SessionBundleSourceAdapterConfig] { "
            "config { in_graph_batching_parameters { max_batch_size { value: 8 } } } } } } }",
            "in_graph_batching_parameters: batching operations inside a graph keep the parameters",
        ),
        (
            'platform_configs { key: "tensorflow" value { source_adapter_config { '
            "[type.googleapis.com/tensorflow.serving.SessionBundleSourceAdapterConfig] { "
            'config { mixed_precision: "float16" } } } } }',
            "mixed_precision: 'float16' is none of '', 'bfloat16'. Remedy: remove it",
        ),
        (
            'platform_configs { key: "tensorflow" value { source_adapter_config { [type.googleapis.com/x.Y] {} } } }',
            "Error parsing text-format tensorflow.serving.PlatformConfigMap: ",
        ),
    ],
)
def test_platform_configs_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "platform.config", text)
    assert message in refusal(config_files.session_bundle_config, options(f"--platform_config_file={path}"))


def test_precision_in_the_platform_config(tmp_path: Path) -> None:
    path = write(
        tmp_path / "platform.config",
        'platform_configs { key: "tensorflow" value { source_adapter_config { '
        "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { "
        'legacy_config { mixed_precision: "bfloat16" } } } } }',
    )
    bundle = config_files.session_bundle_config(options(f"--platform_config_file={path}"))
    assert bundle.session_config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == 1


def test_monitoring(tmp_path: Path) -> None:
    assert not config_files.monitoring_config("").prometheus_config.enable
    path = tmp_path / "monitoring.config"
    given = str(path)

    def prometheus(text: str) -> tuple[bool, str]:
        config = config_files.monitoring_config((write(path, text), given)[1]).prometheus_config
        return config.enable, config.path

    assert prometheus("prometheus_config { enable: true }") == (True, "/monitoring/prometheus/metrics")
    assert prometheus('prometheus_config { enable: true path: "/metrics" }') == (True, "/metrics")
    assert prometheus("") == (False, "")
    write(path, 'prometheus_config { enable: true path: "metrics" }')
    assert "must begin with a slash, got 'metrics'" in refusal(config_files.monitoring_config, given)


def test_ssl(tmp_path: Path) -> None:
    assert config_files.ssl_config("") is None
    path = tmp_path / "ssl.config"
    given = str(path)
    write(path, 'server_key: "KEY\\nlines" server_cert: "CERT" custom_ca: "CA" client_verify: true')
    config = config_files.ssl_config(given)
    assert config is not None
    assert (config.server_key, config.server_cert, config.custom_ca) == ("KEY\nlines", "CERT", "CA")
    assert config.client_verify
    write(path, 'server_key: "KEY"')
    assert "server_cert is missing; it holds PEM text" in refusal(config_files.ssl_config, given)


class Applied:
    """Configurations that a poller applied; refuses those that name ``refused``."""

    def __init__(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        self.current = config
        self.calls: list[list[str]] = []

    def apply(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        names = [model.name for model in config.model_config_list.config]
        self.calls.append(names)
        if "refused" in names:
            raise ValueError("no")
        self.current = config


def names(*models: str) -> str:
    return "model_config_list { " + " ".join(f'config {{ name: "{name}" }}' for name in models) + " }"


def test_a_changed_file_is_applied_and_a_broken_one_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "models.config", names("a"))
    applied = Applied(config_files.read_text_proto(path, model_server_config_pb2.ModelServerConfig()))
    poller = ConfigFilePoller(str(path), 0.01, lambda: applied.current, applied.apply)
    poller.start()
    write(path, names("a", "b"))
    wait_for(lambda: applied.calls == [["a", "b"]], 60, "b")
    write(path, "model_config_list {")
    wait_for(lambda: "Failed to read ModelServerConfig file: Error parsing text-format" in caplog.text, 60, "the log")
    write(path, names("c"))
    wait_for(lambda: applied.calls[1:] == [["c"]], 60, "c")
    path.unlink()
    wait_for(lambda: "No such file or directory" in caplog.text, 60, "the log")
    write(path, names("refused"))
    wait_for(lambda: len(applied.calls) > 5, 60, "several attempts")  # it may be accepted later, for example labels
    poller.stop()
    assert set(map(tuple, applied.calls[2:])) == {("refused",)}
    assert caplog.text.count("failed to ReloadConfig: INTERNAL: ValueError: no") == 1
    assert "The previous configuration stays in force" in caplog.text
    assert [model.name for model in applied.current.model_config_list.config] == ["c"]


def test_the_file_overrides_a_reload_request(tmp_path: Path) -> None:
    path = write(tmp_path / "models.config", names("a"))
    applied = Applied(config_files.read_text_proto(path, model_server_config_pb2.ModelServerConfig()))
    poller = ConfigFilePoller(str(path), 0.01, lambda: applied.current, applied.apply)
    poller.start()
    applied.current = model_server_config_pb2.ModelServerConfig()
    wait_for(lambda: applied.calls == [["a"]], 60, "the file's again")
    poller.stop()


# Fields


def messages() -> Iterator[Any]:
    """The configuration messages, by descriptor."""
    policy = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
    yield policy.DESCRIPTOR
    yield from policy.DESCRIPTOR.nested_types
    for module in (
        model_server_config_pb2,
        logging_config_pb2,
        log_collector_config_pb2,
        platform_config_pb2,
        monitoring_config_pb2,
        session_bundle_config_pb2,
        source_adapter_config_pb2,
        ssl_config_pb2,
    ):
        yield from module.DESCRIPTOR.message_types_by_name.values()


def test_the_table_of_fields_is_complete() -> None:
    there = {
        (message.full_name.removeprefix("tensorflow.serving."), field.name)
        for message in messages()
        for field in message.fields
    }
    assert {(field.message, field.name) for field in CONFIG_FIELDS} == there
    assert len(CONFIG_FIELDS) == len(there)
    for field in CONFIG_FIELDS:
        assert field.note or field.support == "works", field


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("", []),
        ("sampling_config { sampling_rate: 1 } log_collector_config { type: 'file' }", []),
        (
            "sampling_config { attributes: 1 }",
            ["sampling_config.attributes: TensorFlow Serving defines no attribute"],
        ),
        (
            "sampling_config { per_task_sampling_configs { dc: 'x' } } custom_logging_config { type_url: 'x' }",
            ["sampling_config.per_task_sampling_configs: it needs", "custom_logging_config: TensorFlow Serving"],
        ),
    ],
)
def test_refused_fields(text: str, starts: list[str]) -> None:
    found = list(refused_fields(text_format.Parse(text, logging_config_pb2.LoggingConfig())))
    assert len(found) == len(starts)
    assert all(is_.startswith(start) for is_, start in zip(found, starts, strict=True))


# Messages


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    code = f"from pathlib import Path\nfrom serving.proto.generate import generate\ngenerate(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    package = ROOT / "serving" / "proto"
    written, present = (
        {
            str(path.relative_to(folder)): path.read_text()
            for kind in ("py", "pyi")
            for path in folder.rglob(f"*_pb2*.{kind}")
        }
        for folder in (tmp_path, package)
    )
    assert written == present


def test_messages_do_not_import_tensorflow() -> None:
    code = (
        "import sys\nfrom serving.proto import monitoring_config_pb2, profiler_service_pb2_grpc, ssl_config_pb2\n"
        "from serving.proto import session_bundle_config_pb2, source_adapter_config_pb2\n"
        "assert 'tensorflow' not in sys.modules\n"
        # and TensorFlow can still be imported afterwards
        "import tensorflow as tf\nfrom tensorflow.core.protobuf import config_pb2\n"
        "config = session_bundle_config_pb2.SessionBundleConfig(session_config=config_pb2.ConfigProto())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_profiler_messages_match_tensorflows_library() -> None:
    """TensorFlow's C++ library contains the serialised descriptor of the real file."""
    import tensorflow as tf
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    ours = FileDescriptorProto()
    profiler_service_pb2.DESCRIPTOR.CopyToProto(ours)
    name = b"tsl/profiler/protobuf/profiler_service.proto"
    syntax = b"b\x06proto3"  # the last field of a descriptor
    with (
        (Path(tf.__file__).parent / "libtensorflow_cc.so.2").open("rb") as library,
        mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        start = data.find(b"\n" + bytes([len(name)]) + name)
        theirs = FileDescriptorProto.FromString(data[start : data.find(syntax, start) + len(syntax)])
    assert len(theirs.message_type) > 5
    for message in [*theirs.message_type, *ours.message_type]:
        message.field.sort(key=lambda field: field.number)
        for field in message.field:
            field.ClearField("json_name")
    assert {m.name: m for m in ours.message_type} == {m.name: m for m in theirs.message_type}
    assert [(m.name, m.input_type, m.output_type) for m in ours.service[0].method] == [
        (m.name, m.input_type, m.output_type) for m in theirs.service[0].method
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*")), ids=lambda path: path.name)
def test_examples_are_well_formed(path: Path) -> None:
    """Every file in configs/serving is accepted by its flag."""
    bundle = config_files.session_bundle_config
    readers: dict[str, Callable[[], Message | None]] = {
        "models": lambda: config_files.model_server_config(options(f"--model_config_file={path}")),
        "batching": lambda: bundle(options("--enable_batching", f"--batching_parameters_file={path}")),
        "session": lambda: bundle(options(f"--tensorflow_session_config_file={path}")),
        "platform": lambda: bundle(options(f"--platform_config_file={path}")),
        "monitoring": lambda: config_files.monitoring_config(str(path)),
        "ssl": lambda: config_files.ssl_config(str(path)),
    }
    config = readers[path.stem]()
    assert config is not None
    assert config.ByteSize() > 0


def test_there_is_an_example_of_every_file() -> None:
    assert {path.stem for path in EXAMPLES.glob("*")} == {
        "models", "batching", "session", "platform", "monitoring", "ssl",
    }  # fmt: skip
