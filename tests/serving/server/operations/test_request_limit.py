"""The bound on requests at once."""

from concurrent.futures import ThreadPoolExecutor

import grpc

from serving.server.operations.request_limit import RequestLimit


def test_as_many_as_the_limit_enter() -> None:
    counted: list[None] = []
    limit = RequestLimit(3, lambda: counted.append(None))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: limit.enter(), range(20)))
    refused = [error for error in answers if error is not None]
    assert len(refused) == len(counted) == 17
    assert {error.code for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert "--max_concurrent_requests" in refused[0].message
    limit.leave()
    assert limit.enter() is None
    assert limit.enter() is not None


def test_a_front_counts_instead() -> None:
    class Full:
        def enter(self) -> bool:
            return False

        def leave(self) -> None:
            raise AssertionError

    assert RequestLimit(1, lambda: None).covers_predict
    limit = RequestLimit(1, lambda: None, Full())
    assert limit.enter() is not None
    assert not limit.covers_predict
