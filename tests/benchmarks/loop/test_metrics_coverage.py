"""How often the service's intervals have the truth of a simulated world in them; the benchmark has more worlds."""

import pytest

from benchmarks.loop.metrics_coverage import METRICS, Cell, coverage, of_sampled_people, through_the_store


def least(intervals: float) -> float:
    """Two standard errors below 95 %, the share of so many intervals that should have the truth."""
    return float(0.95 - 2 * (0.95 * 0.05 / intervals) ** 0.5)


def test_intervals_of_sampled_people() -> None:
    found = coverage(of_sampled_people(10, people=10_000))
    assert found["all"]["intervals"] > 100
    assert found["all"]["share"] > least(found["all"]["intervals"])


def test_intervals_through_the_store() -> None:
    cells = through_the_store(1, days=5)
    # A world, two policies, six languages.
    assert len(cells) == 12 * len(METRICS)
    found = coverage(cells)
    assert found["all"]["intervals"] >= 20
    assert found["all"]["share"] > least(found["all"]["intervals"])


def test_coverage() -> None:
    ends = [(0.0, 0.2), (0.2, 0.3), (None, None)]
    cells = [Cell(metric, "a world", 0.1, 0.1, low, high) for metric in METRICS for low, high in ends]
    found = coverage(cells)
    assert found["ctr"] == {"share": 0.5, "intervals": 2, "without": 1}
    assert found["all"] == {"share": 0.5, "intervals": 6, "without": 3}
    assert coverage([])["all"]["share"] == pytest.approx(float("nan"), nan_ok=True)
