"""TLS of the gRPC port, from TensorFlow Serving's ``SSLConfig`` (``--ssl_config_file``).

gRPC detects a garbled key or certificate only at the first client's handshake, and then reports nothing. So everything
is checked here, at startup, by the ``ssl`` module.
"""

import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from serving.native.front import Tls
from serving.proto import ssl_config_pb2
from serving.server.errors import StatusError, invalid_argument

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_MISMATCH = "KEY_VALUES_MISMATCH"


def checked(config: ssl_config_pb2.SSLConfig) -> Tls:
    """The settings of an ``SSLConfig``, interpreted like ``tensorflow_serving/model_servers/server.cc`` does.

    With ``client_verify`` each client must present a certificate signed by an authority of ``custom_ca``; without
    it no client certificate is requested, regardless of ``custom_ca``.

    Args:
        config: an ``SSLConfig``; its values are PEM texts.

    Raises:
        StatusError: INVALID_ARGUMENT, naming the field that is missing, garbled or does not match.
    """
    _check(config)
    return Tls(config.server_key, config.server_cert, config.custom_ca, config.client_verify)


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials for a secure port of grpcio's server."""
    return grpc.ssl_server_credentials(
        [(tls.key.encode(), tls.certificate.encode())],
        root_certificates=tls.authorities.encode() or None,
        require_client_auth=tls.verify,
    )


def _check(config: ssl_config_pb2.SSLConfig) -> None:
    if not config.server_key:
        raise _wrong("server_key is missing. Remedy: give the private key's PEM text, not its file name")
    if not config.server_cert:
        raise _wrong("server_cert is missing. Remedy: give the certificate's PEM text, not its file name")
    if not _KEY.search(config.server_key):
        raise _wrong("server_key holds no PEM private key (-----BEGIN PRIVATE KEY----- ...)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The required key strength is up to gRPC.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    _load_certificates(context, "server_cert", config.server_cert)
    if config.custom_ca:
        _load_certificates(context, "custom_ca", config.custom_ca)
    elif config.client_verify:
        raise _wrong(
            "client_verify needs custom_ca: without an authority every client would be refused. Remedy: put the "
            "certificates of the authorities that sign clients' certificates into custom_ca"
        )
    with _files(config.server_cert, config.server_key) as (certificate, key):
        try:
            context.load_cert_chain(certificate, key, password=_refuse_password)
        except ssl.SSLError as error:
            if error.reason == _MISMATCH:
                raise _wrong("server_key is not the key of (the first certificate of) server_cert") from None
            raise _wrong(f"server_key can't be read ({_reason(error)})") from None


def _load_certificates(context: ssl.SSLContext, field: str, text: str) -> None:
    found = _CERTIFICATE.findall(text)
    if not found:
        raise _wrong(f"{field} holds no PEM certificate (-----BEGIN CERTIFICATE----- ...)")
    for number, pem in enumerate(found, 1):
        try:
            context.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(pem))
        except (ValueError, ssl.SSLError) as error:  # from base64, and from its content
            place = f"certificate {number} of {field}" if len(found) > 1 else field
            raise _wrong(f"{place} can't be read ({_reason(error)})") from None


@contextmanager
def _files(*texts: str) -> Iterator[list[Path]]:
    """Texts as files that only this user can read, for functions that only take files."""
    with tempfile.TemporaryDirectory() as name:
        paths = []
        for number, text in enumerate(texts):
            path = Path(name, str(number))
            path.touch(0o600)
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        yield paths


def _refuse_password() -> str:
    raise _wrong("server_key is encrypted, and there is no way to ask for its password. Remedy: decrypt it")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).replace("_", " ").lower()


def _wrong(message: str) -> StatusError:
    return invalid_argument(f"SSLConfig: {message}.")
