"""The validated settings of both clients."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.client.calls import Metadata
from serving.client.errors import BadRequestError
from serving.client.options import Keepalive, RetryPolicy, checked_metadata
from serving.client.targets import Target, Transport, parse_target
from serving.client.tls import TlsOptions

GivenMetadata = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]
_COMPRESSIONS = (None, "gzip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of ``RecommenderClient``; see there."""

    target: Target
    fallback: Target | None
    fallback_seconds: float
    model_name: str
    version: int | None
    version_label: str | None
    timeout: float | None
    metadata: Metadata
    tls: TlsOptions | None
    retry: RetryPolicy | None
    wait_for_ready: bool
    keepalive: Keepalive | None
    load_balancing: str | None
    compression: str | None
    channel_options: tuple[tuple[str, Any], ...]


def make_settings(
    target: str,
    model_name: str,
    timeout: float | None,
    version: int | None,
    *,
    has_channel: bool,
    version_label: str | None,
    metadata: GivenMetadata | None,
    tls: TlsOptions | None,
    retry: RetryPolicy | None,
    fallback: str | None,
    fallback_seconds: float,
    wait_for_ready: bool,
    keepalive: Keepalive | None,
    load_balancing: str | None,
    compression: str | None,
    channel_options: Sequence[tuple[str, Any]],
) -> Settings:
    """Validates a client's arguments.

    Raises:
        BadRequestError: a value is wrong or two conflict.
    """
    # With the caller's own channel the address is only a name for messages.
    parsed = Target(target, Transport.GRPC, target, False) if has_channel else parse_target(target)
    if not isinstance(model_name, str) or not model_name:
        raise BadRequestError(f"model_name must be the served model's name, got {model_name!r}")
    if version is not None and version_label is not None:
        raise BadRequestError("give version or version_label, not both")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
        raise BadRequestError(f"version must be an int of at least 0, got {version!r}")
    check_timeout(timeout)
    if compression not in _COMPRESSIONS:
        raise BadRequestError(f"compression must be 'gzip' or None, got {compression!r}")
    second = None if fallback is None else parse_target(fallback)
    if second is not None:
        if second.transport is not Transport.REST or parsed.transport is not Transport.GRPC:
            raise BadRequestError(
                "fallback is the REST address (http://host:8501) of a server whose gRPC address is the target, "
                f"got {target} and {fallback}"
            )
        if wait_for_ready:
            raise BadRequestError("with wait_for_ready gRPC never gives up, so a fallback would never be used")
    rest = second or (parsed if parsed.transport is Transport.REST else None)
    if rest is not None and importlib.util.find_spec("httpx") is None:
        raise BadRequestError(f"REST ({rest.text}) needs a package that is not installed. Remedy: `pip install httpx`")
    secured = [each for each in (parsed, second) if each is not None and each.is_secure]
    if tls is not None and has_channel and not secured:
        raise BadRequestError("tls has no effect on a channel of your own: make that one secure")
    if tls is not None and parsed.transport is Transport.REST and not secured:
        raise BadRequestError(f"TLS options are given, but {target} is without TLS: write https://")
    if tls is not None and parsed.text.startswith("grpc://"):
        raise BadRequestError(f"TLS options are given, but {target} is without TLS: write grpcs://")
    return Settings(
        target=parsed,
        fallback=second,
        fallback_seconds=fallback_seconds,
        model_name=model_name,
        version=version,
        version_label=version_label,
        timeout=timeout,
        metadata=checked_metadata(metadata),
        tls=tls,
        retry=retry if retry is not None and retry.max_attempts > 1 else None,
        wait_for_ready=wait_for_ready,
        keepalive=keepalive,
        load_balancing=load_balancing,
        compression=compression,
        channel_options=tuple(channel_options),
    )


def check_timeout(timeout: float | None) -> None:
    """Rejects an invalid timeout.

    Raises:
        BadRequestError: it is neither None nor a positive number of seconds.
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise BadRequestError(f"timeout must be a positive number of seconds, or None to wait forever; got {timeout!r}")
