"""A REST API over models that run through the C API, in this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.protos import model_server_config_pb2
from serving.server import assembly
from serving.server.api.handlers import Handlers
from serving.server.lifecycle.core import CoreOptions, ServerCore
from serving.server.lifecycle.loader import LoaderOptions, ModelLoader
from serving.server.lifecycle.source import StoragePath
from serving.server.operations.metrics import Metrics
from serving.server.options import ServerOptions
from serving.server.rest import RestOptions, RestServer, start_rest
from tests.serving.example_models import export_examples
from tests.serving.server.rest.rest_models import Client, export_rest_model

METRICS_PATH = "/monitoring/prometheus/metrics"


def rest_options(**options: Any) -> RestOptions:
    """Settings of a REST API on a free port with four threads, as the flags give them."""
    return assembly.rest_options(ServerOptions(**{"rest_api_port": -1, "rest_api_num_threads": 4} | options))


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerCore[Any]]:
    """Models ``m`` (versions 1 and 2, labels ``old`` and ``neu-新``), ``a/b c`` and ``examples``."""
    root = tmp_path_factory.mktemp("rest")
    export_rest_model(root / "m" / "1", offset=1.0)
    export_rest_model(root / "m" / "2")
    export_rest_model(root / "slash" / "7", offset=7.0)
    export_examples(root / "examples" / "123")
    config = model_server_config_pb2.ModelServerConfig()
    add = config.model_config_list.config.add
    model = add(name="m", base_path=str(root / "m"), model_platform="tensorflow")
    model.model_version_policy.all.SetInParent()
    model.version_labels.update({"old": 1, "neu-新": 2})
    add(name="a/b c", base_path=str(root / "slash"), model_platform="tensorflow")
    add(name="examples", base_path=str(root / "examples"), model_platform="tensorflow")

    def make_loader(name: str, storage: StoragePath, model: object) -> ModelLoader:
        return ModelLoader(name, storage.version, storage.path, LoaderOptions())

    core: ServerCore[Any] = ServerCore(
        make_loader,
        CoreOptions(max_num_load_retries=0, allow_version_labels_for_unavailable_models=True),
    )
    core.start(config)
    yield core
    core.stop(10.0)


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="session")
def handlers(core: Any, metrics: Metrics) -> Handlers:
    return Handlers(core, None, metrics)


@pytest.fixture(scope="session")
def rest(handlers: Handlers, metrics: Metrics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    monitoring: Path = tmp_path_factory.mktemp("monitoring") / "config"
    monitoring.write_text("prometheus_config { enable: true }")
    server = start_rest(
        rest_options(monitoring_config_file=str(monitoring), max_request_bytes=1 << 25), handlers, metrics
    )
    yield server
    server.stop(5.0)


@pytest.fixture
def client(rest: RestServer) -> Iterator[Client]:
    opened = Client(rest.port)
    yield opened
    opened.close()
