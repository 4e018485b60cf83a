"""Certificates for a test's own servers and clients, and what they are handed over as."""

import datetime
import json
from pathlib import Path

import grpc
import trustme


class Party:
    """A certificate and its key, as PEM texts."""

    def __init__(self, authority: trustme.CA, *names: str, not_after: datetime.datetime | None = None) -> None:
        issued = authority.issue_cert(*names, not_after=not_after)
        self.key = issued.private_key_pem.bytes().decode()
        self.chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)


def ssl_config_flag(folder: Path, server: Party, clients: trustme.CA | None = None) -> str:
    """Writes an ``SSLConfig``, of mutual TLS where an authority of clients is given; the flag that names it."""
    fields = {"server_key": server.key, "server_cert": server.chain}
    if clients is not None:
        fields["custom_ca"] = clients.cert_pem.bytes().decode()
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items())
    path = folder / "ssl.config"
    path.write_text(text + f"client_verify: {'true' if clients is not None else 'false'}\n")
    return f"--ssl_config_file={path}"


def client_credentials(root: trustme.CA, party: Party | None = None) -> grpc.ChannelCredentials:
    """Credentials of a client that trusts an authority, and shows a certificate if it has one."""
    own = (party.key.encode(), party.chain.encode()) if party is not None else (None, None)
    return grpc.ssl_channel_credentials(root.cert_pem.bytes(), *own)
