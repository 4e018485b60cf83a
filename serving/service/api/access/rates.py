"""How many requests a key and an address may send."""

import ipaddress
import math
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from serving.service.api.problems import ProblemError
from serving.service.errors import InvalidRequestError

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE: Final = re.compile(rf"(\d{{1,12}})/({'|'.join(_SECONDS)})", re.ASCII)
# Keys and addresses that are counted at most; those that came last longest ago are forgotten first.
_MOST: Final = 100_000


class RateLimits:
    """Counts requests in this process."""

    def __init__(self, key_limit: str, address_limit: str) -> None:
        self._key_limit = _parsed("--key_limit", key_limit)
        self._address_limit = _parsed("--address_limit", address_limit)
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

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

    def _count(self, rate: "_Rate", name: str, shown: str) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = _Counter()
            if len(self._counters) > _MOST:
                self._counters.popitem(last=False)
        self._counters.move_to_end(name)
        wait = counter.hit(rate, time.time())
        if wait <= 0.0:
            return
        seconds = math.ceil(wait)
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Too many requests from {shown}; at most {rate.amount} in {rate.seconds} s. "
            f"Remedy: try again in {seconds} s.",
            {"Retry-After": str(seconds)},
        )


@dataclass(frozen=True, slots=True)
class _Rate:
    """So many requests in so many seconds."""

    amount: int
    seconds: int


@dataclass(slots=True)
class _Counter:
    """Requests of one key or address in the present window of time and in the one before.

    The last ``seconds`` are estimated from both, as if the requests of the window before had come evenly.
    """

    window: int = -1
    before: int = 0
    now: int = 0

    def hit(self, rate: _Rate, moment: float) -> float:
        """Counts a request at a unix time; or, if there were too many, returns the seconds until there may be one."""
        window, into = divmod(moment, rate.seconds)
        if window != self.window:
            self.before = self.now if window == self.window + 1 else 0
            self.window, self.now = int(window), 0
        room = rate.amount - 1 - self.now
        if room >= self.before * (1.0 - into / rate.seconds):
            self.now += 1
            return 0.0
        if room >= 0:
            return rate.seconds * (1.0 - room / self.before) - into
        # In the next window these are the ones before.
        return rate.seconds * (2.0 - (rate.amount - 1) / self.now) - into


def _parsed(flag: str, text: str) -> _Rate:
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]):
        raise InvalidRequestError(
            f"{flag} {text!r} is no rate. Remedy: write it like 600/minute; second, hour and day are known too."
        )
    return _Rate(int(found[1]), _SECONDS[found[2]])


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
