"""Fixtures of the conformance tests: models built once, and one server for all tests that change nothing."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import models as builders
from tests.conformance.server import ADDRESS, COMMAND, IS_BABELREC, Server, Target

METRICS_PATH = "/monitoring/prometheus/metrics"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "babelrec_only: tests a documented extra of, or difference to, TensorFlow Serving; skipped against it",
    )
    config.addinivalue_line("markers", "own_server: starts servers; skipped when only a running one is given")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Other parts of the test suite are collected with these.
    for item in items:
        if item.get_closest_marker("babelrec_only") and not IS_BABELREC:
            item.add_marker(pytest.mark.skip(reason="an extra feature of Babelrec's server"))
        if item.get_closest_marker("own_server") and ADDRESS and not COMMAND:
            item.add_marker(pytest.mark.skip(reason="BABELREC_CONFORMANCE_SERVER gives no command to start a server"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models; built by the first worker of the session that needs it."""
    given = os.environ.get("BABELREC_CONFORMANCE_MODELS")
    if given:
        return Path(given).resolve()
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "conformance-models"
    with (shared / "conformance-models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "models.config").exists():
            builders.build_all(folder)
    return folder


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with all models; tests must not change it."""
    if ADDRESS:
        address, _, rest_address = ADDRESS.partition(",")
        target = Target(address, rest_address)
        yield target
        target.close()
        return
    folder: Path = request.getfixturevalue("models")
    monitoring = tmp_path_factory.mktemp("monitoring") / "monitoring.config"
    monitoring.write_text(f"prometheus_config {{ enable: true, path: '{METRICS_PATH}' }}")
    with Server(
        f"--monitoring_config_file={monitoring}",
        "--allow_version_labels_for_unavailable_models=true",
        config=builders.models_config(folder),
    ) as started:
        yield started.wait_until_ready()
