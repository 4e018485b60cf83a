"""TLS: certificates from files, checked before the first connection.

gRPC finds a garbled file only during a handshake, and then says little. So the ``ssl`` module reads all of them first.
"""

import ssl
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import grpc

from serving.client.errors import BadRequestError

_PathLike = str | PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How the server is verified, and how the client identifies itself. All files are PEM.

    Attributes:
        ca: certificates of the authorities trusted to sign the server's; None uses the public ones (those that come
            with gRPC, or certifi's for REST).
        certificate: the client's certificate, followed by any intermediate certificates, for servers that require one
            (mTLS).
        key: its private key, not encrypted.
        server_name: the name that the server's certificate is for, when it is not the one in the address.
    """

    ca: _PathLike | None = None
    certificate: _PathLike | None = None
    key: _PathLike | None = None
    server_name: str | None = None


def check(options: TlsOptions) -> None:
    """Reads all files.

    Raises:
        BadRequestError: a file is missing or has the wrong content; the message names it.
    """
    if (options.certificate is None) != (options.key is None):
        missing = "key" if options.key is None else "certificate"
        raise BadRequestError(f"TLS: a client certificate needs both files, but `{missing}` is missing")
    context = ssl.create_default_context()
    if options.ca is not None:
        _read("ca", options.ca)
    _load(context, options)


def grpc_credentials(options: TlsOptions) -> grpc.ChannelCredentials:
    """Credentials of a gRPC channel.

    Raises:
        BadRequestError: see ``check``.
    """
    check(options)
    return grpc.ssl_channel_credentials(
        root_certificates=None if options.ca is None else _read("ca", options.ca),
        private_key=None if options.key is None else _read("key", options.key),
        certificate_chain=None if options.certificate is None else _read("certificate", options.certificate),
    )


def http_context(options: TlsOptions) -> Any:
    """An ``ssl.SSLContext`` for HTTPS.

    Raises:
        BadRequestError: see ``check``.
    """
    import httpx

    check(options)
    context = httpx.create_ssl_context() if options.ca is None else ssl.create_default_context(cafile=options.ca)
    _load(context, options)
    return context


def _load(context: ssl.SSLContext, options: TlsOptions) -> None:
    if options.ca is not None:
        try:
            context.load_verify_locations(options.ca)
        except ssl.SSLError as error:
            raise BadRequestError(
                f"TLS: ca file {options.ca} holds no PEM certificates (-----BEGIN CERTIFICATE-----): {_reason(error)}"
            ) from None
    if options.certificate is None or options.key is None:
        return
    _read("certificate", options.certificate)
    _read("key", options.key)
    try:
        context.load_cert_chain(options.certificate, options.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadRequestError(
                f"TLS: key file {options.key} is not the key of the first certificate of {options.certificate}"
            ) from None
        raise BadRequestError(
            f"TLS: certificate file {options.certificate} or key file {options.key} can't be read: {_reason(error)}. "
            "Both must be PEM"
        ) from None


def _read(what: str, path: _PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadRequestError(f"TLS: {what} file {path} can't be read: {error.strerror or error}") from None


def _no_password() -> str:
    raise BadRequestError("TLS: the key file is encrypted, and there is no way to ask for its password: decrypt it")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
