import functools

import pytest

from benchmarks.harness.timing import Seconds, in_turn, note_of_other_work, percentiles


def test_the_order_of_calls_alternates() -> None:
    order: list[str] = []

    def call(name: str) -> Seconds:
        order.append(name)
        return Seconds(len(order), 0.0)

    steps: list[None] = []
    found = in_turn({name: functools.partial(call, name) for name in "ba"}, 3, lambda: steps.append(None))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [seconds.wall for seconds in found["a"]] == [1, 4, 5]
    assert len(steps) == 6


def test_percentiles_are_interpolated() -> None:
    assert percentiles([4.0, 1.0, 3.0, 2.0]) == {
        "p5": pytest.approx(1.15),
        "p50": 2.5,
        "p95": pytest.approx(3.85),
        "samples": 4,
    }
    assert percentiles([7.0], (99,)) == {"p99": 7.0, "samples": 1}


def test_other_work_is_noted() -> None:
    assert note_of_other_work({"load_average": 1.0, "cores": 2}) == []
    assert "load 1.1" in note_of_other_work({"load_average": 1.1, "cores": 2})[0]
