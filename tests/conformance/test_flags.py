"""The command line. Source: model_servers/main.cc."""

from pathlib import Path

import numpy as np
import pytest

from tests.conformance.server import SECONDS, Server, predict_request, run_to_end

pytestmark = pytest.mark.own_server
# fmt: off
_FLAGS = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support
enable_batching allow_version_labels_for_unavailable_models batching_parameters_file model_config_file
model_config_file_poll_wait_seconds model_name model_base_path num_load_threads num_unload_threads
max_num_load_retries load_retry_interval_micros file_system_poll_wait_seconds flush_filesystem_caches
tensorflow_session_parallelism tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism ssl_config_file
platform_config_file per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads
enable_model_warmup num_request_iterations_for_warmup version monitoring_config_file
remove_unused_fields_from_bundle_metagraph prefer_tflite_model num_tflite_pools num_tflite_interpreters_per_pool
enable_signature_method_name_check enable_profiler xla_cpu_compilation_enabled thread_pool_factory_config_file
""".split()  # noqa: SIM905
# fmt: on


def test_help_lists_every_flag() -> None:
    _, log = run_to_end("--help")
    missing = [flag for flag in _FLAGS if f"--{flag}" not in log]
    assert not missing


def test_version() -> None:
    status, log = run_to_end("--version")
    assert status == 0
    assert "ersion" in log or "tensorflow" in log


@pytest.mark.babelrec_only
@pytest.mark.parametrize(
    "flag", ["--use_alts_credentials=true", "--thread_pool_factory_config_file=/a", "--model_base_path=gs://bucket/m"]
)
def test_flags_that_cannot_be_honoured_are_refused(flag: str) -> None:
    status, log = run_to_end("--model_base_path=/tmp", flag)
    assert status != 0
    assert flag.split("=")[0] in log


def test_answers_as_tensor_content(models: Path) -> None:
    flags = "--model_name=half", f"--model_base_path={models / 'half_plus_two'}"
    with Server(*flags, "--enable_serialization_as_tensor_content=true") as server:
        server.wait_until_ready()
        for values in ([2.0], [2.0, 4.0]):
            response = server.prediction.Predict(predict_request("half", {"x": values}), timeout=SECONDS)
            y = response.outputs["y"]
            assert y.tensor_content == np.array([value / 2 + 2 for value in values], np.float32).tobytes()
            assert not y.float_val
        assert server.post("/v1/models/half:predict", {"instances": [2.0]}) == {"predictions": [3.0]}
