"""The REST API of a server in a separate process."""

import json
from pathlib import Path

import pytest

from tests.serving.live import LiveServer
from tests.serving.server.rest.rest_models import Client, export_rest_model


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "m"
    export_rest_model(path / "1", offset=1.0)
    return path


def test_end_to_end(base_path: Path, tmp_path: Path) -> None:
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ["--rest_api_port=-1", f"--monitoring_config_file={monitoring}", "--rest_api_enable_cors_support=true"]
    with LiveServer(base_path, *flags, model_name="m") as server:
        client = Client(server.rest_port)
        answer = client.predict({"instances": [1.0, 3.0]})
        assert (answer.status, answer.json) == (200, {"predictions": [1.5, 2.5]})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert client.get("/v1/models/m").json["model_version_status"][0]["state"] == "AVAILABLE"
        assert "serving_default" in json.dumps(client.get("/v1/models/m/metadata").json)
        # Status and metadata count as well.
        assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 3' in client.get("/metrics").text
        missing = client.predict({"instances": [1.0]}, "other")
        assert (missing.status, missing.error) == (404, "Servable not found for request: Latest(other)")
        client.close()
        server.terminate()
        assert server.wait() == 0
        assert "Traceback" not in server.text


def test_timeouts(base_path: Path) -> None:
    with LiveServer(base_path, "--rest_api_port=-1", "--rest_api_timeout_in_ms=200", model_name="m") as server:
        client = Client(server.rest_port)
        answer = client.predict({"signature_name": "spin", "inputs": [2**31 - 1]})
        assert answer.status == 504
        assert answer.error
        assert client.predict({"instances": [1.0]}).status == 200
        client.close()
