"""TLS and mutual TLS by --ssl_config_file. Source: ssl_config.proto."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from tests.certificates import Party, client_credentials, ssl_config_flag
from tests.conformance.server import SECONDS, Server, Target, predict_request, run_to_end, wait_for

pytestmark = pytest.mark.own_server


def _flags(models: Path) -> list[str]:
    return ["--model_name=half", f"--model_base_path={models / 'half_plus_two'}"]


def _start(server: Server) -> Server:
    wait_for(lambda: all(server._is_open(port) for port in server.ports), "the ports")
    return server


@pytest.fixture(scope="module", params=[[], ["--enable_batching"]], ids=["alone", "batching"])
def more(request: pytest.FixtureRequest) -> list[str]:
    """Flags that select different listeners."""
    return list(request.param)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    return trustme.CA(organization_name="clients")


@pytest.fixture(scope="module")
def tls(
    models: Path, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, more: list[str]
) -> Iterator[Server]:
    flag = ssl_config_flag(tmp_path_factory.mktemp("tls"), Party(authority, "localhost"))
    with Server(*_flags(models), flag, *more) as server:
        yield _start(server)


@pytest.fixture(scope="module")
def mtls(
    models: Path,
    authority: trustme.CA,
    clients: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
    more: list[str],
) -> Iterator[Server]:
    flag = ssl_config_flag(tmp_path_factory.mktemp("mtls"), Party(authority, "localhost"), clients)
    with Server(*_flags(models), flag, *more) as server:
        yield _start(server)


def _ask(server: Server, credentials: grpc.ChannelCredentials | None) -> float:
    target = Target(server.address, credentials=credentials)
    try:
        response = target.prediction.Predict(predict_request("half", {"x": [2.0]}), timeout=SECONDS)
    finally:
        target.close()
    (y,) = response.outputs["y"].float_val
    return float(y)


def _refused(server: Server, credentials: grpc.ChannelCredentials | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(server, credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_tls(tls: Server, authority: trustme.CA, clients: trustme.CA) -> None:
    assert _ask(tls, client_credentials(authority)) == 3.0
    _refused(tls, None)
    _refused(tls, client_credentials(clients))
    assert _ask(tls, client_credentials(authority)) == 3.0


def test_mutual_tls(mtls: Server, authority: trustme.CA, clients: trustme.CA) -> None:
    assert _ask(mtls, client_credentials(authority, Party(clients, "client"))) == 3.0
    _refused(mtls, client_credentials(authority))
    _refused(mtls, client_credentials(authority, Party(authority, "client")))
    _refused(mtls, None)
    # All kinds of calls, regardless of what answers them.
    target = Target(mtls.address, credentials=client_credentials(authority, Party(clients, "client")))
    assert target.available("half") == [123]
    target.close()


def test_expired_client_certificate(mtls: Server, authority: trustme.CA, clients: trustme.CA) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    _refused(mtls, client_credentials(authority, Party(clients, "client", not_after=yesterday)))
    assert _ask(mtls, client_credentials(authority, Party(clients, "client"))) == 3.0


def test_rest_has_no_tls(tls: Server) -> None:
    # SSLConfig applies to the gRPC port only.
    assert tls.post("/v1/models/half:predict", {"instances": [2.0]}) == {"predictions": [3.0]}


def test_ssl_config_that_cannot_work(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "ssl.config"
    for text in ("server_key: 'no key' server_cert: 'no certificate'", "server_cert 5"):
        path.write_text(text)
        status, log = run_to_end(*_flags(models), f"--ssl_config_file={path}")
        assert status != 0
        assert log
