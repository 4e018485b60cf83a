"""Shared base of the blocking and asyncio clients."""

from collections.abc import Sequence
from typing import Any

from serving.client.calls import Call, CallFailed, Deadline
from serving.client.errors import BadRequestError, ServingError, from_status
from serving.client.operations import Operations
from serving.client.options import DEFAULT_RETRY, Keepalive, RetryPolicy, checked_metadata
from serving.client.protocols import FallbackProtocol, GrpcProtocol, ServingProtocol
from serving.client.rest import RestProtocol
from serving.client.settings import GivenMetadata, Settings, check_timeout, make_settings
from serving.client.targets import Target, Transport
from serving.client.tls import TlsOptions


class Client:
    """Base client for a model server that speaks TensorFlow Serving's gRPC or REST API.

    Args:
        target: the server's address. gRPC: ``host:port``, ``grpcs://host:port`` (TLS), ``unix:/path``,
            ``dns:///host:port`` (round-robin over all addresses of a name); REST: ``http://host:port``, ``https://host:port``.
        model_name: the served model's name.
        timeout: seconds within which each call must be answered, including retries and fallback; None waits forever.
        version: a specific version of the model; None uses the newest.
        channel: a gRPC channel to use instead of opening one (for interceptors); never closed here. It keeps its own
            options: the gRPC options below have no effect.
        version_label: use the version with this label in the server's configuration, such as ``stable``.
        metadata: headers for every call: keys and values of printable ASCII, or bytes under keys that end in ``-bin``.
        tls: certificates; if given, the connection uses TLS. ``grpcs://`` and ``https://`` alone trust the public
            certificate authorities.
        retry: when to retry failed calls; None for never.
        fallback: REST address to use when the gRPC one can't be reached (no server, or a proxy without HTTP/2).
        fallback_seconds: how long the fallback is tried first after it was needed.
        wait_for_ready: gRPC waits for a server until the deadline instead of failing when there is none.
        keepalive: gRPC keepalive pings; None sends none.
        load_balancing: gRPC's policy, ``pick_first`` or ``round_robin``; None uses ``round_robin`` for targets that
            may resolve to several addresses (``dns:``, ``ipv4:``, ``ipv6:``), else gRPC's default.
        compression: ``gzip`` to compress requests (and, over REST, to ask for compressed responses).
        channel_options: extra gRPC channel options; they override those derived from the above.

    Raises:
        BadRequestError: a value is wrong, or a certificate file can't be used.
    """

    def __init__(
        self,
        target: str = "localhost:8500",
        model_name: str = "recommender",
        timeout: float | None = 10.0,
        version: int | None = None,
        channel: Any = None,
        *,
        version_label: str | None = None,
        metadata: GivenMetadata | None = None,
        tls: TlsOptions | None = None,
        retry: RetryPolicy | None = DEFAULT_RETRY,
        fallback: str | None = None,
        fallback_seconds: float = 60.0,
        wait_for_ready: bool = False,
        keepalive: Keepalive | None = None,
        load_balancing: str | None = None,
        compression: str | None = None,
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._settings = make_settings(
            target,
            model_name,
            timeout,
            version,
            has_channel=channel is not None,
            version_label=version_label,
            metadata=metadata,
            tls=tls,
            retry=retry,
            fallback=fallback,
            fallback_seconds=fallback_seconds,
            wait_for_ready=wait_for_ready,
            keepalive=keepalive,
            load_balancing=load_balancing,
            compression=compression,
            channel_options=channel_options,
        )
        self._is_closed = False
        self._operations = Operations(_protocol(self._settings))
        self._open(self._settings, rest_target(self._settings), channel)

    def _open(self, settings: Settings, rest: Target | None, channel: Any) -> None:
        raise NotImplementedError

    def _call(self, timeout: float | None, metadata: GivenMetadata | None) -> Call:
        """Deadline and headers of a call that starts now."""
        if self._is_closed:
            raise ServingError("this client is closed: create a new one")
        check_timeout(timeout)
        limit = self._settings.timeout if timeout is None else timeout
        return Call(Deadline(limit), checked_metadata(metadata))

    def _error(self, failure: CallFailed, call: Call) -> ServingError:
        return from_status(
            failure.code, failure.details, failure.target, self._settings.model_name, call.deadline.seconds
        )


def has_grpc(settings: Settings) -> bool:
    """Whether the client uses gRPC."""
    return settings.target.transport is Transport.GRPC


def rest_target(settings: Settings) -> Target | None:
    """The REST address, if there is one."""
    return settings.fallback if has_grpc(settings) else settings.target


def _protocol(settings: Settings) -> ServingProtocol:
    rest = rest_target(settings)
    if rest is None:
        return GrpcProtocol(settings)
    if not has_grpc(settings):
        return RestProtocol(rest, settings)
    if not settings.fallback_seconds >= 0:
        raise BadRequestError(f"fallback_seconds must be at least 0, got {settings.fallback_seconds}")
    return FallbackProtocol(GrpcProtocol(settings), RestProtocol(rest, settings), settings.fallback_seconds)
