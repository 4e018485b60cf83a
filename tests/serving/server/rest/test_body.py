"""Bodies: malicious gzip, and the memory that all of them share."""

import gzip
import random
import time

import pytest

from serving.server.rest.body import BodyError, Budget, gunzip

_LIMIT = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 70_000, _LIMIT])
def test_gzip_in_one_and_in_many_members(size: int) -> None:
    content = random.Random(size).randbytes(size)
    budget = Budget(2 * _LIMIT, _LIMIT)
    for members in (1, 2, 1000):
        step = max(-(-size // members), 1)
        packed = b"".join(gzip.compress(content[start : start + step]) for start in range(0, size, step))
        assert gunzip(packed, budget) == content
        assert budget.taken == size
        budget.give(size)


def test_empty_members_take_no_time() -> None:
    packed = gzip.compress(b"") * 100_000
    started = time.process_time()
    with pytest.raises(BodyError, match="more than 1024 members"):
        gunzip(packed, Budget(_LIMIT, _LIMIT))
    # 4.2 s for 2 MB when each member copied everything after it.
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("packed", "limit", "status", "why"),
    [
        (gzip.compress(bytes(_LIMIT)), _LIMIT - 1, "413", "larger than"),
        (gzip.compress(b"text")[:-9], _LIMIT, "400", "ends early"),
        (b"no gzip", _LIMIT, "400", "incorrect header"),
        (gzip.compress(b"text") + b"rest", _LIMIT, "400", "incorrect header"),
        (gzip.compress(bytes(_LIMIT)), _LIMIT, "503", "try again later"),
    ],
    ids=["too large", "cut", "no gzip", "rest", "no memory"],
)
def test_invalid_gzip_takes_nothing(packed: bytes, limit: int, status: str, why: str) -> None:
    budget = Budget(_LIMIT // 2 if status == "503" else 1 << 30, limit)
    with pytest.raises(BodyError, match=why) as caught:
        gunzip(packed, budget)
    assert caught.value.status.startswith(status)
    assert budget.taken == 0


def test_the_budget_is_shared() -> None:
    budget = Budget(10, 10)
    budget.take(6)
    with pytest.raises(BodyError, match="rest_api_max_memory_bytes"):
        budget.take(5)
    budget.give(6)
    budget.take(10)
    assert budget.taken == 10


def test_refusals_are_counted_by_their_flags() -> None:
    budget = Budget(10, 8)
    for size in (9, 100):
        with pytest.raises(BodyError, match="max_request_bytes"):
            budget.check(size)
    budget.check(8)
    budget.take(8)
    with pytest.raises(BodyError, match="rest_api_max_memory_bytes"):
        budget.take(8)
    assert budget.refused == {"rest_api_max_memory_bytes": 1, "max_request_bytes": 2}
