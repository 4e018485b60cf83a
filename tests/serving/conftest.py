"""Models that are exported once, and a server that most tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from serving.client import RecommenderClient
from tests.serving.live import LiveServer
from tests.serving.models import copy_version, export_contract


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Version directories whose scores are offset by 0, 100 and 200."""
    root = tmp_path_factory.mktemp("exports")
    return {number: export_contract(root / str(number), 100.0 * (number - 1)) for number in (1, 2, 3)}


@pytest.fixture(scope="session")
def server(exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of version 1 that no test may change; it also listens on ``socket`` in its base path."""
    base_path = tmp_path_factory.mktemp("models")
    copy_version(exports[1], base_path / "1")
    with LiveServer(base_path, f"--grpc_socket_path={base_path / 'socket'}") as live:
        yield live


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[RecommenderClient]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def graph(exports: dict[int, Path]) -> Any:
    """The same version called directly, with the TensorFlow 2 loader: the oracle of the parity tests."""
    return tf.saved_model.load(str(exports[1]))
