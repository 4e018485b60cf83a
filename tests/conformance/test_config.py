"""ModelServerConfig: files, polling, and HandleReloadConfigRequest.

Sources: serving_config.md, model_server_config.proto, model_management.proto, and the real server's tests of its core.
"""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2

from tests.conformance.models import export_numbered
from tests.conformance.server import (
    SECONDS,
    Server,
    State,
    Target,
    config_list,
    failure,
    model_config,
    predict_request,
    reload_request,
    run_to_end,
    wait_for,
)

_Code = grpc.StatusCode
pytestmark = pytest.mark.own_server


class _Configs:
    """A server whose configuration the tests change, with helpers for configurations."""

    def __init__(self, server: Server, models: Path) -> None:
        self.server = server
        self.models = models
        self.two = model_config("two", models / "half_plus_two")
        self.three = model_config("three", models / "half_plus_three")

    def numbered(self, rest: str = "") -> str:
        return model_config("numbered", self.models / "numbered", rest)

    def reset(self) -> None:
        """Removes all models but one."""
        self.server.reload(config_list(self.two))
        self.server.wait_for_available("numbered")
        self.server.wait_for_available("three")

    def gives(self, expected: float, **options: object) -> None:
        (y,) = self.server.predict("numbered", {"x": [0.0]}, **options)["y"]
        assert y == expected

    def refuses(self, config: str) -> tuple[grpc.StatusCode, str]:
        return failure(self.server.models.HandleReloadConfigRequest, reload_request(config))


@pytest.fixture(scope="module")
def _server(models: Path) -> Iterator[Server]:
    flags = "--max_num_load_retries=0", "--file_system_poll_wait_seconds=1"
    with Server(*flags, config=config_list(model_config("two", models / "half_plus_two"))) as server:
        yield server.wait_until_ready()


@pytest.fixture
def configs(_server: Server, models: Path) -> Iterator[_Configs]:
    configs = _Configs(_server, models)
    yield configs
    configs.reset()


def test_reload_adds_and_removes(configs: _Configs) -> None:
    server = configs.server
    response = server.reload(config_list(configs.two, configs.three))
    assert (response.status.error_code, response.status.error_message) == (0, "")
    # The response comes once the models are available.
    assert server.predict("three", {"x": [2.0]})["y"].tolist() == [4.0]
    assert server.predict("two", {"x": [2.0]})["y"].tolist() == [3.0]
    # Only the new configuration counts.
    server.reload(config_list(configs.three))
    server.wait_for_state("two", 123, State.END)
    code, details = failure(server.prediction.Predict, predict_request("two", {"x": [2.0]}))
    assert (code, details) == (_Code.NOT_FOUND, "Servable not found for request: Latest(two)")
    assert server.predict("three", {"x": [2.0]})["y"].tolist() == [4.0]


def test_reload_changes_the_base_path(configs: _Configs) -> None:
    server = configs.server
    server.reload(config_list(model_config("two", configs.models / "half_plus_three")))
    server.wait_for_available("two", 1)
    assert server.predict("two", {"x": [2.0]})["y"].tolist() == [4.0]
    server.reload(config_list(configs.two))
    server.wait_for_available("two", 123)
    assert server.predict("two", {"x": [2.0]})["y"].tolist() == [3.0]


def test_version_policies(configs: _Configs) -> None:
    server = configs.server
    for policy, versions in (
        ("", [3]),
        ("model_version_policy { latest {} }", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [2, 3]),
        ("model_version_policy { all {} }", [1, 2, 3]),
        ("model_version_policy { specific { versions: 1 versions: 3 } }", [1, 3]),
        ("model_version_policy { specific { versions: 2 } }", [2]),
    ):
        server.reload(config_list(configs.two, configs.numbered(policy)))
        server.wait_for_available("numbered", *versions)
        configs.gives(versions[-1])
        for version in (1, 2, 3):
            if version in versions:
                configs.gives(version, version=version)
            else:
                request = predict_request("numbered", {"x": [0.0]}, version=version)
                code, details = failure(server.prediction.Predict, request)
                assert code is _Code.NOT_FOUND
                assert details == f"Servable not found for request: Specific(numbered, {version})"


def _labels(**labels: int) -> str:
    return " ".join(f"version_labels {{ key: '{label}' value: {version} }}" for label, version in labels.items())


def test_labels_move(configs: _Configs) -> None:
    server = configs.server
    both = "model_version_policy { specific { versions: 1 versions: 2 } } "
    server.reload(config_list(configs.two, configs.numbered(both)))
    # Canary: labels point to versions that are already available.
    server.reload(config_list(configs.two, configs.numbered(both + _labels(stable=1, canary=2))))
    configs.gives(1, label="stable")
    configs.gives(2, label="canary")
    assert server.post("/v1/models/numbered/labels/canary:predict", {"instances": [0.0]}) == {"predictions": [2.0]}
    # Promotion, then rollback.
    server.reload(config_list(configs.two, configs.numbered(both + _labels(stable=2, canary=2))))
    configs.gives(2, label="stable")
    server.reload(config_list(configs.two, configs.numbered(both + _labels(stable=1))))
    configs.gives(1, label="stable")
    code, details = failure(server.prediction.Predict, predict_request("numbered", {"x": [0.0]}, label="canary"))
    assert (code, details) == (_Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary")


def test_labels_need_a_version_that_is_available(configs: _Configs) -> None:
    server = configs.server
    one = "model_version_policy { specific { versions: 1 } } "
    server.reload(config_list(configs.two, configs.numbered(one)))
    server.reload(config_list(configs.two, configs.numbered(one + _labels(stable=1))))
    two = "model_version_policy { specific { versions: 1 versions: 2 } } "
    code, details = configs.refuses(config_list(configs.two, configs.numbered(two + _labels(stable=2))))
    assert code is _Code.FAILED_PRECONDITION
    assert "not currently available for inference" in details
    configs.gives(1, label="stable")
    assert configs.server.available("numbered") == [1]


def test_labels_of_future_versions_by_flag(models: Path) -> None:
    labels = _labels(new=3)
    config = config_list(model_config("numbered", models / "numbered", labels))
    status, log = run_to_end(config=config)
    assert status != 0
    assert "not currently available for inference" in log
    with Server("--allow_version_labels_for_unavailable_models=true", config=config) as server:
        server.wait_until_ready()
        assert server.predict("numbered", {"x": [0.0]}, label="new")["y"].tolist() == [3.0]


@pytest.mark.parametrize(
    "entries",
    [
        "config { name: 'two' base_path: '/a' model_platform: 'tensorflow' } "
        "config { name: 'two' base_path: '/b' model_platform: 'tensorflow' }",
        "config { base_path: '/a' model_platform: 'tensorflow' }",
        "config { name: 'two' base_path: '/a' model_platform: 'abacus' }",
        "config { name: 'two' model_platform: 'tensorflow' }",
    ],
    ids=["twice", "nameless", "platform", "pathless"],
)
def test_a_refused_configuration_changes_nothing(configs: _Configs, entries: str) -> None:
    code, details = configs.refuses(config_list(entries))
    assert code in (_Code.INVALID_ARGUMENT, _Code.FAILED_PRECONDITION), (code, details)
    assert details
    assert configs.server.predict("two", {"x": [2.0]})["y"].tolist() == [3.0]


def test_only_lists_can_be_reloaded(configs: _Configs) -> None:
    call = configs.server.models.HandleReloadConfigRequest
    code, details = failure(call, model_management_pb2.ReloadConfigRequest())
    assert code is _Code.INVALID_ARGUMENT
    assert "Only ModelConfigList is currently supported" in details
    request = model_management_pb2.ReloadConfigRequest()
    request.config.custom_model_config.SetInParent()
    assert failure(call, request)[0] is _Code.INVALID_ARGUMENT
    assert configs.server.available("two") == [123]


def test_a_model_that_cannot_be_loaded_leaves_the_others(configs: _Configs, tmp_path: Path) -> None:
    server = configs.server
    (tmp_path / "broken" / "5").mkdir(parents=True)
    (tmp_path / "broken" / "5" / "saved_model.pb").write_bytes(b"\xff\xff no model")
    broken = model_config("broken", tmp_path / "broken")
    code, details = configs.refuses(config_list(configs.two, configs.three, broken))
    assert code is not _Code.OK
    assert "broken" in details
    status = server.wait_for_state("broken", 5, State.END).status
    assert status.error_code != 0
    assert status.error_message
    answer = server.rest("GET", "/v1/models/broken").json["model_version_status"][0]
    assert (answer["state"], answer["status"]["error_code"] != "OK") == ("END", True)
    assert server.predict("two", {"x": [2.0]})["y"].tolist() == [3.0]
    assert server.predict("three", {"x": [2.0]})["y"].tolist() == [4.0]


def test_an_empty_list_unloads_everything(configs: _Configs) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    configs.server.models.HandleReloadConfigRequest(request, timeout=SECONDS)
    configs.server.wait_for_state("two", 123, State.END)


def test_names_in_any_script(configs: _Configs) -> None:
    name = "推荐 ✓"
    configs.server.reload(config_list(configs.two, model_config(name, configs.models / "half_plus_three")))
    assert configs.server.predict(name, {"x": [2.0]})["y"].tolist() == [4.0]
    path = "/v1/models/%E6%8E%A8%E8%8D%90%20%E2%9C%93"
    assert configs.server.post(f"{path}:predict", {"instances": [2.0]}) == {"predictions": [4.0]}


def test_config_file_is_polled(models: Path, tmp_path: Path) -> None:
    two = model_config("two", models / "half_plus_two")
    three = model_config("three", models / "half_plus_three")
    with Server("--model_config_file_poll_wait_seconds=1", config=config_list(two)) as server:
        server.wait_until_ready()
        assert server.available("three") == []
        server.write_config(config_list(three))
        server.wait_for_available("three", 1)
        server.wait_for_state("two", 123, State.END)
        # An unreadable file leaves the previous configuration in force.
        size = len(server.log)
        server.write_config("model_config_list { config { nonsense")
        wait_for(lambda: "text-format" in server.log[size:], "a message about the file")
        assert server.predict("three", {"x": [2.0]})["y"].tolist() == [4.0]
        server.write_config(config_list(two, three))
        server.wait_for_available("two", 123)
        assert server.available("three") == [1]


def test_reload_overrides_the_file_until_it_changes(models: Path, tmp_path: Path) -> None:
    export_numbered(tmp_path / "m" / "1", 1)
    two = model_config("two", models / "half_plus_two")
    with Server(config=config_list(two)) as server:
        server.wait_until_ready()
        server.reload(config_list(model_config("m", tmp_path / "m")))
        assert server.predict("m", {"x": [0.0]})["y"].tolist() == [1.0]
        server.wait_for_state("two", 123, State.END)


def test_malformed_config_file() -> None:
    config = "model_config_list {\n  config {\n    nonsense: 1\n  }\n}\n"
    status, log = run_to_end(config=config)
    assert status != 0
    # Line and column of the unknown field, as protobuf's C++ parser counts them.
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 3:" in log


@pytest.mark.parametrize(
    "flags",
    [
        ["--model_config_file=/there/is/no/such.config"],
        ["--model_name=m"],
        ["--model_base_path=/tmp", "--enable_batching", "--batching_parameters_file=/there/is/no/such.config"],
        ["--model_base_path=/tmp", "--no_such_flag=1"],
        ["--model_base_path=/tmp", "--port=many"],
    ],
    ids=["missing file", "no base path", "missing parameters", "unknown flag", "no number"],
)
def test_flags_that_cannot_work(flags: list[str]) -> None:
    status, log = run_to_end(*flags)
    assert status != 0
    assert log


def test_grpc_channel_arguments_and_socket(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "grpc.socket"
    with Server(
        "--model_name=two",
        f"--model_base_path={models / 'half_plus_two'}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb",
        f"--grpc_socket_path={path}",
    ) as server:
        server.wait_until_ready()
        assert server.predict("two", {"x": [2.0]})["y"].tolist() == [3.0]
        by_socket = Target(f"unix:{path}")
        assert by_socket.predict("two", {"x": [2.0]})["y"].tolist() == [3.0]
        by_socket.close()
