"""A live server with both APIs, both kinds of scripted server, and certificates."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.serving.client.servers import ROUTES, Http, Rpcs, free_port, grpc_server, http_server
from tests.serving.live import LiveServer
from tests.serving.models import copy_version


@dataclass(frozen=True)
class Live:
    """A server and its addresses."""

    server: LiveServer
    rest: str

    @property
    def grpc(self) -> str:
        return self.server.address

    @property
    def unix(self) -> str:
        return f"unix:{self.server.base_path / 'socket'}"


@pytest.fixture(scope="session")
def live(exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    base_path = tmp_path_factory.mktemp("models")
    copy_version(exports[1], base_path / "1")
    port = free_port()
    flags = (f"--rest_api_port={port}", "--enable_grpc_healthcheck_service", f"--grpc_socket_path={base_path}/socket")
    with LiveServer(base_path, *flags) as server:
        server.wait_for_state(1, "AVAILABLE")
        yield Live(server, f"http://localhost:{port}")


@pytest.fixture
def rpcs() -> Iterator[Rpcs]:
    with grpc_server() as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    with http_server(ROUTES) as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def scripted(request: pytest.FixtureRequest) -> Rpcs | Http:
    """Either, with the same answer: ``y`` = [1, 2]."""
    server: Rpcs | Http = request.getfixturevalue("rpcs" if request.param == "grpc" else "http")
    return server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def pems(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, other-ca.pem, client.pem, client.key, other.key, locked.key, garbage.pem."""
    root = tmp_path_factory.mktemp("pems")
    authority.cert_pem.write_to_path(str(root / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(root / "other-ca.pem"))
    client = authority.issue_cert("client@example.org")
    client.cert_chain_pems[0].write_to_path(str(root / "client.pem"))
    client.private_key_pem.write_to_path(str(root / "client.key"))
    authority.issue_cert("b").private_key_pem.write_to_path(str(root / "other.key"))
    key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (root / "locked.key").write_bytes(key.private_bytes(*form, locked))
    (root / "garbage.pem").write_text("no certificate")
    return root
