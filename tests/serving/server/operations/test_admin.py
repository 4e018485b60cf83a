"""Who may reload the configuration and record profiles, and which files a request may write."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from serving.native.library import why_not
from serving.proto import profiler_service_pb2, profiler_service_pb2_grpc
from serving.server.errors import StatusError
from serving.server.operations.admin import is_local, read_tokens
from tests.certificates import Party, client_credentials, ssl_config_flag
from tests.serving.live import LiveServer, own_channel
from tests.serving.models import copy_version

_SECONDS = 120.0
_TOKENS = "# one for each of us", "0123456789abcdef", "fedcba9876543210fedcba98"
_WAYS = [pytest.param("on", marks=pytest.mark.skipif(why_not() is not None, reason=str(why_not()))), "off"]
_DENIED = grpc.StatusCode.PERMISSION_DENIED


def own_address() -> str:
    """A non-loopback address of this machine: the source address of packets to the outside (none is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError as error:
            pytest.skip(f"this machine has no address but loopback's ({error})")
        return str(probe.getsockname()[0])


class Admin:
    """Sends an administrative request to an address with headers."""

    def __init__(
        self, address: str, model: str, base_path: Path, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.channel = own_channel(address, credentials)
        self._request = model_management_pb2.ReloadConfigRequest()
        self.model = self._request.config.model_config_list.config.add(
            name=model, base_path=str(base_path), model_platform="tensorflow"
        )

    def reload(self, **headers: str) -> grpc.StatusCode:
        call: Any = model_service_pb2_grpc.ModelServiceStub(self.channel).HandleReloadConfigRequest
        return self._code(call, self._request, headers)

    def profile(self, directory: Path, **headers: str) -> grpc.StatusCode:
        request = profiler_service_pb2.ProfileRequest(
            repository_root=str(directory), session_id="s", host_name="h", opts={"duration_ms": 1}
        )
        call: Any = profiler_service_pb2_grpc.ProfilerServiceStub(self.channel).Profile
        return self._code(call, request, headers)

    def _code(self, call: Any, request: Any, headers: dict[str, str]) -> grpc.StatusCode:
        metadata = [(key.replace("_", "-"), value) for key, value in headers.items()]
        try:
            call(request, timeout=_SECONDS, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            self.details = str(error.details())
            return error.code()
        return grpc.StatusCode.OK


class Served:
    """A server, and its addresses from this machine and as if from another one."""

    def __init__(self, server: LiveServer, base: Path) -> None:
        self.server = server
        self._base = base

    def near(self) -> Admin:
        return Admin(self.server.address, self.server.model_name, self._base)

    def far(self) -> Admin:
        port = self.server.address.rpartition(":")[2]
        return Admin(f"{own_address()}:{port}", self.server.model_name, self._base)


@pytest.fixture(scope="module", params=_WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How Predict is answered."""
    return str(request.param)


def served(way: str, export: Path, base: Path, access: str, *more: str) -> Iterator[Served]:
    copy_version(export, base / "1")
    tokens = base / "tokens"
    tokens.write_text("\n".join(_TOKENS))
    flags = "--enable_batching", f"--native_predict={way}", f"--admin_access={access}"
    with LiveServer(base, *flags, f"--admin_token_file={tokens}", *more) as server:
        yield Served(server, base)


@pytest.fixture(scope="module")
def by_default(way: str, exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(way, exports[1], tmp_path_factory.mktemp("loopback"), "loopback")


@pytest.fixture(scope="module")
def by_token(way: str, exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base = tmp_path_factory.mktemp("token")
    yield from served(way, exports[1], base, "token", f"--request_log_root={base}/logs")


@pytest.fixture(scope="module")
def by_anybody(way: str, exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(way, exports[1], tmp_path_factory.mktemp("open"), "open")


def test_clients_of_this_machine_are_administrators(by_default: Served, tmp_path: Path) -> None:
    assert by_default.near().reload() is grpc.StatusCode.OK
    assert by_default.near().profile(tmp_path) is grpc.StatusCode.OK
    assert (tmp_path / "s").is_dir()
    assert "HandleReloadConfigRequest by ipv" in by_default.server.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_babelrec_peer": "ipv4:127.0.0.1:1234"},
        {"x_babelrec_peer": "unix:"},
        {"x_babelrec_verified": "1"},
        {"x_forwarded_for": "127.0.0.1"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer 0123456789abcde"},
        {"authorization": f"Bearer {_TOKENS[0]}"},
        {"authorization": f"Basic {_TOKENS[1]}"},
    ],
    ids=str,
)
def test_other_machines_have_no_access(by_default: Served, tmp_path: Path, headers: dict[str, str]) -> None:
    far = by_default.far()
    assert far.reload(**headers) is _DENIED
    assert "--admin_token_file" in far.details
    assert "--admin_access" in far.details
    assert far.profile(tmp_path, **headers) is _DENIED
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("header", [f"Bearer {_TOKENS[1]}", f"bearer  {_TOKENS[2]} "])
def test_a_token_gives_access_anywhere(by_default: Served, by_token: Served, tmp_path: Path, header: str) -> None:
    for admin in by_default.far(), by_token.far(), by_token.near():
        assert admin.reload(authorization=header) is grpc.StatusCode.OK
        assert admin.profile(tmp_path, authorization=header) is grpc.StatusCode.OK


def test_with_tokens_only_loopback_has_no_access(by_token: Served, tmp_path: Path) -> None:
    assert by_token.near().reload() is _DENIED
    assert by_token.near().profile(tmp_path) is _DENIED
    assert _TOKENS[1] not in by_token.server.text


def test_a_verified_certificate_gives_access(
    way: str, exports: dict[int, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    servers, clients = trustme.CA(), trustme.CA()
    base = tmp_path_factory.mktemp("mutual")
    flag = ssl_config_flag(base, Party(servers, "localhost"), clients)
    credentials = client_credentials(servers, Party(clients, "administrator"))
    for served_by in served(way, exports[1], base, "token", flag):
        admin = Admin(served_by.server.address, served_by.server.model_name, base, credentials)
        assert admin.reload() is grpc.StatusCode.OK
        assert admin.profile(tmp_path) is grpc.StatusCode.OK
        served_by.server.wait_for_log("(certificate)")


def test_open_is_like_tensorflow_serving(by_anybody: Served, tmp_path: Path) -> None:
    far = by_anybody.far()
    far.model.logging_config.log_collector_config.filename_prefix = str(tmp_path / "made" / "requests")
    assert far.reload() is grpc.StatusCode.OK
    assert (tmp_path / "made").is_dir()
    assert far.profile(tmp_path) is grpc.StatusCode.OK


def test_a_request_names_no_file_without_a_root(by_default: Served, tmp_path: Path) -> None:
    near = by_default.near()
    near.model.logging_config.log_collector_config.filename_prefix = str(tmp_path / "made" / "requests")
    assert near.reload() is _DENIED
    assert "--request_log_root" in near.details
    assert not (tmp_path / "made").exists()


def test_log_files_stay_below_their_root(by_token: Served, tmp_path: Path) -> None:
    near = by_token.near()
    root = by_token.server.base_path / "logs"
    config = near.model.logging_config.log_collector_config
    authorization = f"Bearer {_TOKENS[1]}"
    for outside in tmp_path / "made" / "requests", root / ".." / "made" / "requests", Path(f"{root}2/made/requests"):
        config.filename_prefix = str(outside)
        assert near.reload(authorization=authorization) is _DENIED
        assert not outside.parent.exists()
    root.mkdir()
    (root / "link").symlink_to(tmp_path, target_is_directory=True)
    config.filename_prefix = str(root / "link" / "made" / "requests")
    assert near.reload(authorization=authorization) is _DENIED
    config.filename_prefix = str(root / "made" / "requests")
    assert near.reload(authorization=authorization) is grpc.StatusCode.OK
    assert (root / "made").is_dir()


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:127.0.0.1:50051", True),
        ("ipv4:127.8.9.10:50051", True),
        ("ipv6:[::1]:50051", True),
        ("ipv6:%5B::1%5D:50051", True),
        ("ipv6:[::ffff:127.0.0.1]:50051", True),
        ("unix:/tmp/a.sock", True),
        ("unix:", True),
        ("ipv4:192.0.2.1:50051", False),
        ("ipv6:[::ffff:192.0.2.1]:50051", False),
        ("ipv6:[2001:db8::1]:50051", False),
        ("ipv4:127.0.0.1.example.org:1", False),
        ("fd:7", False),
        ("", False),
        ("dns:localhost", False),
    ],
)
def test_peers_of_this_machine(peer: str, expected: bool) -> None:
    assert is_local(peer) is expected


@pytest.mark.parametrize(
    "text", [None, "", "# nothing\n\n", "short\n", "0123456789abcdef\nshort\n", "ключ-0123456789ab"]
)
def test_files_without_tokens_are_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(StatusError, match="--admin_token_file="):
        read_tokens(str(path))
