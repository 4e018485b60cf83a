"""gRPC channels and calls, blocking or in an event loop."""

import json
from typing import Any

import grpc

from serving.client import tls
from serving.client.calls import CallFailed, Rpc, RpcMethod, joined
from serving.client.options import RetryPolicy
from serving.client.settings import Settings

_UNLIMITED = -1
# gRPC does not retry requests larger than this (256 KiB by default). It keeps a reference to the request's memory,
# not a copy, so the bound is the largest value that the option accepts.
_RETRY_BUFFER_BYTES = 2**31 - 1


class GrpcConnection:
    """A channel for blocking calls. Thread-safe.

    Args:
        settings: the client's settings.
        channel: to use instead of opening one; never closed here.

    Raises:
        BadRequestError: a TLS file can't be used.
    """

    def __init__(self, settings: Settings, channel: grpc.Channel | None = None) -> None:
        self._settings = settings
        self._owns_channel = channel is None
        if channel is None:
            credentials, options = _security(settings), channel_options(settings)
            address, compression = settings.target.address, _compression(settings)
            if credentials is None:
                channel = grpc.insecure_channel(address, options, compression)
            else:
                channel = grpc.secure_channel(address, credentials, options, compression)
        self._channel = channel
        self._methods: dict[RpcMethod, Any] = {}

    def perform(self, rpc: Rpc) -> Any:
        """Makes a call.

        Raises:
            CallFailed: it failed.
        """
        try:
            return _method(self._methods, self._channel, rpc.method)(rpc.request, **_arguments(self._settings, rpc))
        except grpc.RpcError as error:
            raise _failure(error, self._settings) from None

    def close(self) -> None:
        """Closes the connection."""
        if self._owns_channel:
            self._channel.close()


class AioGrpcConnection:
    """A channel of the event loop in which it is first used.

    Args:
        settings: the client's settings.
        channel: to use instead of opening one; never closed here.

    Raises:
        BadRequestError: a TLS file can't be used.
    """

    def __init__(self, settings: Settings, channel: grpc.aio.Channel | None = None) -> None:
        self._settings = settings
        self._owns_channel = channel is None
        self._channel = channel
        self._credentials = _security(settings) if channel is None else None
        self._methods: dict[RpcMethod, Any] = {}

    async def perform(self, rpc: Rpc) -> Any:
        """Makes a call.

        Raises:
            CallFailed: it failed.
        """
        if self._channel is None:
            self._channel = self._open()
        method = _method(self._methods, self._channel, rpc.method)
        try:
            return await method(rpc.request, **_arguments(self._settings, rpc))
        except grpc.RpcError as error:
            raise _failure(error, self._settings) from None

    async def close(self) -> None:
        """Closes the connection."""
        if self._owns_channel and self._channel is not None:
            await self._channel.close(None)

    def _open(self) -> grpc.aio.Channel:
        # Not in the constructor: a channel belongs to the running loop.
        settings = self._settings
        address, options, compression = settings.target.address, channel_options(settings), _compression(settings)
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options, compression)
        return grpc.aio.secure_channel(address, self._credentials, options, compression)


def channel_options(settings: Settings) -> list[tuple[str, Any]]:
    """gRPC's options for a client's channel; the caller's own come last and win."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", _UNLIMITED),
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.service_config", json.dumps(service_config(settings))),
    ]
    if settings.retry is None:
        options.append(("grpc.enable_retries", 0))
    else:
        options.append(("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES))
    if settings.keepalive is not None:
        options += [
            ("grpc.keepalive_time_ms", round(settings.keepalive.seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(settings.keepalive.timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", int(settings.keepalive.without_calls)),
            # Otherwise pings stop after two with no data in between.
            ("grpc.http2.max_pings_without_data", 0),
        ]
    if settings.tls is not None and settings.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    own = dict(settings.channel_options)
    return [option for option in options if option[0] not in own] + list(settings.channel_options)


def service_config(settings: Settings) -> dict[str, Any]:
    """gRPC's service config (https://github.com/grpc/grpc-proto, ``service_config.proto``)."""
    config: dict[str, Any] = {}
    balancing = settings.load_balancing or ("round_robin" if settings.target.is_multiple else None)
    if balancing is not None:
        config["loadBalancingConfig"] = [{balancing: {}}]
    if settings.retry is not None:
        # An empty name matches all methods.
        config["methodConfig"] = [{"name": [{}], "retryPolicy": _retry_policy(settings.retry)}]
        if settings.retry.max_tokens:
            config["retryThrottling"] = {
                "maxTokens": settings.retry.max_tokens,
                "tokenRatio": settings.retry.token_ratio,
            }
    return config


def _retry_policy(policy: RetryPolicy) -> dict[str, Any]:
    return {
        "maxAttempts": policy.max_attempts,
        "initialBackoff": f"{policy.initial_backoff:.3f}s",
        "maxBackoff": f"{policy.max_backoff:.3f}s",
        "backoffMultiplier": policy.backoff_multiplier,
        "retryableStatusCodes": list(policy.codes),
    }


def _security(settings: Settings) -> grpc.ChannelCredentials | None:
    if settings.tls is not None:
        return tls.grpc_credentials(settings.tls)
    return tls.grpc_credentials(tls.TlsOptions()) if settings.target.is_secure else None


def _compression(settings: Settings) -> grpc.Compression | None:
    return grpc.Compression.Gzip if settings.compression == "gzip" else None


def _method(methods: dict[RpcMethod, Any], channel: Any, method: RpcMethod) -> Any:
    callable_ = methods.get(method)
    if callable_ is None:
        callable_ = methods[method] = channel.unary_unary(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
    return callable_


def _arguments(settings: Settings, rpc: Rpc) -> dict[str, Any]:
    return {
        "timeout": rpc.call.deadline.left(),
        "metadata": joined(settings.metadata, rpc.call.metadata) or None,
        "wait_for_ready": settings.wait_for_ready or None,
    }


def _failure(error: grpc.RpcError, settings: Settings) -> CallFailed:
    return CallFailed(error.code(), error.details() or "", settings.target.text)
