"""TLS and mutual TLS handshakes, and error messages for invalid keys and certificates."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from serving.proto import ssl_config_pb2
from serving.server.errors import StatusError
from serving.server.operations.tls import checked, server_credentials
from tests.certificates import Party, client_credentials


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def clients_authority() -> trustme.CA:
    return trustme.CA(organization_name="clients")


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Party:
    return Party(authority, "localhost")


def _pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def _config(server: Party, **fields: Any) -> Any:
    return ssl_config_pb2.SSLConfig(**{"server_key": server.key, "server_cert": server.chain, **fields})


@contextmanager
def _serving(config: Any) -> Iterator[int]:
    """A server with one method, whose answer names the peer authenticated by the handshake."""

    def who(request: bytes, context: grpc.ServicerContext) -> bytes:
        return b",".join(context.peer_identities() or ())

    instance = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(who)
    instance.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Who", {"Who": handler}),))
    port = instance.add_secure_port("localhost:0", server_credentials(checked(config)))
    instance.start()
    try:
        yield port
    finally:
        instance.stop(None).wait()


def _ask(port: int, credentials: grpc.ChannelCredentials | None) -> bytes:
    target = f"localhost:{port}"
    with grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target) as channel:
        call: Any = channel.unary_unary("/Who/Who", request_serializer=bytes, response_deserializer=bytes)
        return bytes(call(b"", timeout=20))


def _refused(port: int, credentials: grpc.ChannelCredentials | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(port, credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_tls(authority: trustme.CA, server: Party) -> None:
    with _serving(_config(server)) as port:
        assert _ask(port, client_credentials(authority)) == b""
        _refused(port, None)
        _refused(port, client_credentials(trustme.CA()))


def test_an_authority_alone_requests_no_client_certificate(
    authority: trustme.CA, clients_authority: trustme.CA, server: Party
) -> None:
    with _serving(_config(server, custom_ca=_pem(clients_authority))) as port:
        assert _ask(port, client_credentials(authority)) == b""


def test_mutual_tls(authority: trustme.CA, clients_authority: trustme.CA, server: Party) -> None:
    second = trustme.CA()
    config = _config(server, custom_ca=_pem(clients_authority) + _pem(second), client_verify=True)
    with _serving(config) as port:
        for signer, name in ((clients_authority, "one.example"), (second, "two.example")):
            assert _ask(port, client_credentials(authority, Party(signer, name))) == name.encode()
        _refused(port, client_credentials(authority))
        _refused(port, client_credentials(authority, Party(trustme.CA(), "one.example")))
        _refused(port, client_credentials(authority, Party(authority, "one.example")))
        _refused(port, None)


def test_chain_with_an_intermediate_authority(authority: trustme.CA) -> None:
    party = Party(authority.create_child_ca(), "localhost")
    assert party.chain.count("BEGIN CERTIFICATE") == 2
    with _serving(_config(party)) as port:
        assert _ask(port, client_credentials(authority)) == b""


def test_notes_around_the_certificates(authority: trustme.CA, server: Party) -> None:
    notes = "Subject: CN=日本 – сервер\n"
    with _serving(_config(server, server_cert=notes + server.chain, custom_ca=notes + _pem(authority))) as port:
        assert _ask(port, client_credentials(authority)) == b""


def _garble(pem: str) -> str:
    """The same form, but its content is no longer a key or certificate."""
    lines = pem.strip().splitlines()
    return "\n".join([lines[0], *("A" * len(line) for line in lines[1:-1]), lines[-1]]) + "\n"


def _encrypted(party: Party) -> str:
    key = serialization.load_pem_private_key(party.key.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


def _wrong_configs(server: Party, authority: trustme.CA) -> dict[str, tuple[dict[str, Any], str]]:
    other = Party(authority, "localhost")
    return {
        "no key": ({"server_key": ""}, "server_key is missing"),
        "no certificate": ({"server_cert": ""}, "server_cert is missing"),
        "file name for a key": ({"server_key": "/etc/key.pem"}, "server_key holds no PEM"),
        "file name for a certificate": ({"server_cert": "/etc/cert.pem"}, "server_cert holds no PEM"),
        "key for a certificate": ({"server_cert": server.key}, "server_cert holds no PEM"),
        "certificate for a key": ({"server_key": server.chain}, "server_key holds no PEM"),
        "another key": ({"server_key": other.key}, "server_key is not the key of"),
        "garbled key": ({"server_key": _garble(server.key)}, "server_key can't be read"),
        "truncated key": ({"server_key": server.key[:80]}, "server_key can't be read"),
        "encrypted key": ({"server_key": _encrypted(server)}, "server_key is encrypted"),
        "garbled certificate": ({"server_cert": _garble(server.chain)}, "server_cert can't be read"),
        "certificate cut": ({"server_cert": server.chain.replace("M", "*", 1)}, "server_cert can't be read"),
        "garbled second certificate": (
            {"server_cert": server.chain + _garble(server.chain)},
            "certificate 2 of server_cert can't be read",
        ),
        "invalid authority": ({"custom_ca": "/etc/ca.pem"}, "custom_ca holds no PEM"),
        "garbled authority": ({"custom_ca": _garble(_pem(authority))}, "custom_ca can't be read"),
        "verifying without an authority": ({"client_verify": True}, "client_verify needs custom_ca"),
    }


def test_invalid_configurations_are_reported_at_startup(authority: trustme.CA, server: Party) -> None:
    for name, (fields, reported) in _wrong_configs(server, authority).items():
        with pytest.raises(StatusError) as caught:
            checked(_config(server, **fields))
        assert reported in caught.value.message, name
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        # Errors are logged: no key may be in them.
        assert server.key.splitlines()[1] not in str(caught.value)
