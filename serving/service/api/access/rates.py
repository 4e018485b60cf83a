"""How many requests a key and an address may send."""

import ipaddress
import math
import time
from http import HTTPStatus

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from serving.service.api.problems import ProblemError
from serving.service.errors import InvalidRequestError


class RateLimits:
    """Counts requests in this process."""

    def __init__(self, key_limit: str, address_limit: str) -> None:
        self._key_limit = _parsed("--key_limit", key_limit)
        self._address_limit = _parsed("--address_limit", address_limit)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_key(self, name: str) -> None:
        """Counts a request of a key.

        Raises:
            ProblemError: there were too many.
        """
        self._count(self._key_limit, f"key:{name}", "this key")

    def count_address(self, address: str) -> None:
        """Counts a request of a browser.

        Raises:
            ProblemError: there were too many.
        """
        self._count(self._address_limit, f"address:{_group(address)}", "this address")

    def _count(self, limit: RateLimitItem, name: str, shown: str) -> None:
        if self._limiter.hit(limit, name):
            return
        seconds = max(1, math.ceil(self._limiter.get_window_stats(limit, name).reset_time - time.time()))
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Too many requests from {shown}; at most {limit.amount} in {limit.get_expiry()} s. "
            f"Remedy: try again in {seconds} s.",
            {"Retry-After": str(seconds)},
        )


def _parsed(flag: str, text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise InvalidRequestError(f"{flag} {text!r} is no rate. Remedy: write it like 600/minute.") from None


def _group(address: str) -> str:
    """What counts as one address: with IPv6 a client has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
