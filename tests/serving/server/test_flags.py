"""The command line: TensorFlow Serving's flags, their defaults, and error messages."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from serving.server import flags
from serving.server.lifecycle.policies import TRANSITION_POLICIES
from serving.server.options import FLAGS, Policy, ServerOptions
from tests.serving.live import ROOT

_CPUS = len(os.sched_getaffinity(0))
# Written from tensorflow_model_server's own list (model_servers/main.cc, server.h), not from this project's.
TENSORFLOW_SERVING = {
    "port": 8500,
    "grpc_socket_path": "",
    "rest_api_port": 0,
    "rest_api_num_threads": 4 * _CPUS,
    "rest_api_timeout_in_ms": 30000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": "",
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0.0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": (),  # the empty text
    "grpc_max_threads": 4 * _CPUS,
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "version": False,
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_pools": _CPUS,
    "num_tflite_interpreters_per_pool": 1,
    "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
    "enable_grpc_healthcheck_service": False,
    "enable_serialization_as_tensor_content": False,
}


def test_every_flag_of_tensorflow_serving_exists_with_its_default() -> None:
    assert {flag.name: flag.default for flag in FLAGS if not flag.ours} == TENSORFLOW_SERVING
    assert not {flag.name for flag in FLAGS if flag.ours} & set(TENSORFLOW_SERVING)
    assert flags.parse(["--model_base_path=/a"]) == ServerOptions(model_base_path="/a")


def test_every_flag_says_how_it_compares() -> None:
    assert len({flag.name for flag in FLAGS}) == len(FLAGS)
    for flag in FLAGS:
        assert flag.help
        assert flag.support in ("works", "differs", "refused")
        assert flag.note or flag.support == "works", flag.name
        value = flag.parse(str(flag.default)) if flag.default != () else flag.parse("")
        assert (value, type(value)) == (flag.default, type(flag.default)), flag.name


def test_every_policy_can_be_chosen() -> None:
    assert set(TRANSITION_POLICIES) == set(get_args(Policy))


def test_values() -> None:
    options = flags.parse(
        [
            "--port", "9000", "--model_name=模型", "--model_base_path", "models/x", "--enable_model_warmup=false",
            "--rest_api_port=-1", "--enable_batching", "--saved_model_tags=serve,gpu", "--prefer_tflite_model=1",
            "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,a=b,c=-1", "--load_retry_interval_micros=-5",
            "--file_system_poll_wait_seconds=-1", "--enable_profiler=False", "--shutdown_grace_seconds=0.5",
            "--per_process_gpu_memory_fraction=0.25", "--use_alts_credentials=false", "--skip_initialize_tpu",
        ]
    )  # fmt: skip
    assert (options.port, options.rest_api_port, options.model_name) == (9000, -1, "模型")
    assert options.model_base_path == str(Path.cwd() / "models/x")
    assert (options.enable_model_warmup, options.enable_batching, options.prefer_tflite_model) == (False, True, True)
    assert options.grpc_channel_arguments == (("grpc.max_connection_age_ms", 2000), ("a", "b"), ("c", -1))
    assert (options.load_retry_interval_micros, options.file_system_poll_wait_seconds) == (-5, -1)
    assert (options.enable_profiler, options.shutdown_grace_seconds) == (False, 0.5)
    assert (options.per_process_gpu_memory_fraction, options.skip_initialize_tpu) == (0.25, True)


def test_a_config_file_replaces_a_model() -> None:
    assert flags.parse(["--model_config_file=/c"]).model_config_file == "/c"
    assert flags.parse(["--model_config_file=/c", "--model_name="]).model_name == ""


def test_two_of_the_three_parallelism_flags_do_not_conflict() -> None:
    options = flags.parse(
        ["--model_base_path=/a", "--tensorflow_session_parallelism=2", "--tensorflow_intra_op_parallelism=1"]
    )
    assert options.tensorflow_session_parallelism == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model_base_path is required"),
        (["--model_base_path="], "--model_base_path is required"),
        (["--model_base_path=/a", "--model_name="], "--model_name must not be empty"),
        (["--model_base_path=gs://bucket/m"], "only local directories can be served"),
        (["--model_base_path=/a", "--prot=1"], "unrecognized arguments: --prot=1 (did you mean --port?)"),
        (["--model_base_path=/a", "stray"], "unrecognized arguments: stray"),
        (["--model_base_path=/a", "--port=70000"], "--port: 70000 is not between 0 and 65535"),
        (["--model_base_path=/a", "--port=x"], "--port: 'x' is not an integer"),
        (["--model_base_path=/a", "--rest_api_port=-2"], "--rest_api_port: -2 is not between 0 and 65535"),
        (["--model_base_path=/a", "--port=8501", "--rest_api_port=8501"], "must not be the same as --port"),
        (["--model_base_path=/a", "--grpc_max_threads=0"], "0 is less than 1"),
        (["--model_base_path=/a", "--max_num_load_retries=-1"], "-1 is less than 0"),
        (["--model_base_path=/a", "--enable_model_warmup=perhaps"], "'perhaps' is neither true nor false"),
        (["--model_base_path=/a", "--grpc_channel_arguments=x"], "'x' is not key=value"),
        (["--model_base_path=/a", "--per_process_gpu_memory_fraction=2"], "2 is not between 0 and 1"),
        (["--model_base_path=/a", "--shutdown_grace_seconds=inf"], "inf is not a number of seconds"),
        (["--model_base_path=/a", "--mixed_precision=float16"], "'float16' is none of '', 'bfloat16'"),
        (["--model_base_path=/a", "--aspired_version_policy=x"], "'x' is none of 'availability_preserving', 'reso"),
        (["--model_base_path=/a", "--batching_parameters_file=/b"], "is given without --enable_batching"),
        (
            ["--model_base_path=/a", *(f"--tensorflow_{n}_parallelism=1" for n in ("session", "intra_op", "inter_op"))],
            "give either --tensorflow_session_parallelism or",
        ),
        (["--model_base_path=/a", "--use_alts_credentials"], "that this server refuses: ALTS works only between"),
        (["--model_base_path=/a", "--thread_pool_factory_config_file=x"], "that this server refuses: the public"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        flags.parse(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_refused_flags_are_accepted_with_their_defaults() -> None:
    refused = [flag for flag in FLAGS if flag.support == "refused"]
    assert refused
    flags.parse(["--model_base_path=/a", *(f"--{flag.name}={flag.default}" for flag in refused)])


def test_help_lists_every_flag_and_its_note(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        flags.parse(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in FLAGS:
        assert f"--{flag.name} " in text
        assert " ".join(flag.help.split()) in text
        if flag.support != "works":
            assert f"[{flag.support}: {flag.note}]" in text


def test_help_version_and_mistakes_do_not_load_tensorflow() -> None:
    code = (
        "import sys\nfrom serving.server.main import main\n"
        "try:\n    print('status', main(sys.argv[1:]))\n"
        "except SystemExit as stop:\n    print('status', stop.code)\n"
        "print('loaded', 'tensorflow' in sys.modules)"
    )

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    version = run("--version")
    assert "tensorflow-serving-api 2.20" in version
    assert "status 0\nloaded False" in version
    assert run("--help").endswith("status 0\nloaded False\n")
    assert run("--model_base_path").endswith("status 2\nloaded False\n")
    assert run("--model_config_file=/no/such/file").endswith("status 1\nloaded False\n")
