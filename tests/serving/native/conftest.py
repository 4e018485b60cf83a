"""Fronts, one per test."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.native.front import Front
from serving.protos import config_pb2
from serving.runtime.session import SavedModelSession
from tests.serving.native.front_server import SECONDS, Behind, Served, export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `front_server.export`, built once per test file."""
    return export(tmp_path_factory.mktemp("native") / "1")


@pytest.fixture
def serve(exported: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts a front with non-default options, in front of its own server; both end with the test."""
    ends: list[Callable[[], object]] = []

    def make(**options: object) -> Served:
        usual: dict[str, Any] = {
            "groups": 1,
            "max_rows": 8,
            "max_waiting": 64,
            "timeout_micros": 0,
            "max_concurrent": 0,
            "max_connections": 1000,
            "pad": True,
            "channel_arguments": [("grpc.max_receive_message_length", -1)],
        }
        front = Front(**(usual | options))
        port = front.listen("localhost:0")
        assert port
        behind = Behind()
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((behind,))
        address = f"unix:{tmp_path}/behind.sock"
        server.add_insecure_port(address)
        server.start()
        front.start(address)
        session = SavedModelSession(exported, ["serve"], config_pb2.ConfigProto())
        channel = grpc.insecure_channel(f"localhost:{port}", options=[("grpc.max_receive_message_length", -1)])
        served = Served(front, behind, channel, session, tmp_path)
        model = served.model(5)
        front.serve("m", {5: model})

        def end() -> None:
            channel.close()
            server.stop(0).wait()
            assert front.close(SECONDS)
            front.serve("m", {})
            model.close()
            session.close()

        ends.append(end)
        return served

    yield make
    for end in ends:
        end()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """A front with default options: groups of up to eight rows, no waiting, padding."""
    return serve()
