"""Limits of requests."""

import time

import pytest

from serving.service.api.access import rates
from serving.service.api.access.rates import RateLimits
from serving.service.api.problems import ProblemError
from serving.service.errors import InvalidRequestError

_NOON = 1_796_040_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [_NOON]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def _admitted(limits: RateLimits, name: str = "a") -> bool:
    try:
        limits.count_key(name)
    except ProblemError:
        return False
    return True


@pytest.mark.parametrize("into", [0.0, 17.0, 59.5])
def test_a_burst_is_cut_and_the_error_says_when_to_come_back(clock: list[float], into: float) -> None:
    clock[0] += into
    limits = RateLimits("10/minute", "1/second")
    assert [_admitted(limits) for _ in range(12)] == [True] * 10 + [False] * 2
    with pytest.raises(ProblemError, match=r"at most 10 in 60 s\. Remedy: try again in \d+ s") as refused:
        limits.count_key("a")
    assert refused.value.headers is not None
    seconds = int(refused.value.headers["Retry-After"])
    clock[0] += seconds - 1.0
    assert not _admitted(limits)
    clock[0] += 1.0
    assert _admitted(limits)
    assert _admitted(limits, "another")


def test_what_comes_evenly_is_admitted_up_to_the_limit(clock: list[float]) -> None:
    # Time has a rounding error at the edge of a window.
    slow, fast = RateLimits("103/second", "1/second"), RateLimits("100/second", "1/second")
    admitted = 0
    for step in range(2_000):
        clock[0] = _NOON + step / 200.0
        assert step % 2 or _admitted(slow)
        admitted += _admitted(fast)
    # Twice the limit, for ten seconds.
    assert 990 <= admitted <= 1_010


def test_no_window_of_any_position_admits_many_more(clock: list[float]) -> None:
    limits = RateLimits("50/minute", "1/second")
    times = []
    for step in range(3_000):
        clock[0] = _NOON + 0.1 * step
        if _admitted(limits):
            times.append(clock[0])
    most = max(sum(start <= each < start + 60.0 for each in times) for start in times)
    assert 50 <= most <= 75


def test_memory_is_bounded(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_MOST", 2)
    limits = RateLimits("1/minute", "1/minute")
    assert [_admitted(limits, name) for name in "abcba"] == [True, True, True, False, True]


def test_addresses_of_one_network_count_together() -> None:
    limits = RateLimits("9/day", "2/day")
    limits.count_address("2001:db8::1")
    limits.count_address("2001:db8::2")
    limits.count_address("192.0.2.1")
    with pytest.raises(ProblemError):
        limits.count_address("2001:db8:0:0:ffff::3")
    limits.count_address("::ffff:192.0.2.1")
    with pytest.raises(ProblemError):
        limits.count_address("192.0.2.1")


@pytest.mark.parametrize(
    "text", ["", "600", "0/minute", "600/week", "-1/second", "1e3/second", "９/second", "6/minute "]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"--key_limit .* is no rate\. Remedy"):
        RateLimits(text, "1/second")
