"""Ratios over people and their intervals, against formulas worked out person by person."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from serving.service.outcomes import PersonSums, Scale, figure


def by_hand(person: list[int], x: list[float], y: list[float]) -> tuple[int, float, float]:
    """Number of people, ratio and its variance: that of the linearised figures of people, with n - 1."""
    totals: dict[int, list[float]] = {}
    for who, a, b in zip(person, x, y, strict=True):
        total = totals.setdefault(who, [0.0, 0.0])
        total[0] += a
        total[1] += b
    rows = [each for each in totals.values() if each[1] > 0]
    ratio = sum(each[0] for each in rows) / sum(each[1] for each in rows)
    mean = sum(each[1] for each in rows) / len(rows)
    linear = [(each[0] - ratio * each[1]) / mean for each in rows]
    return len(rows), ratio, float(np.var(linear, ddof=1)) / len(rows)


_ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(1, 5)), min_size=2, max_size=40)


@given(_ROWS)
def test_sums_against_people_one_by_one(rows: list[tuple[int, int, int]]) -> None:
    person, x, y = (np.array(column) for column in zip(*rows, strict=True))
    found = PersonSums.of(person, x, y)
    if len(set(person)) < 2:
        assert math.isnan(found.variance)
        return
    people, ratio, variance = by_hand(list(person), list(x), list(y))
    assert found.people == people
    np.testing.assert_allclose([found.ratio, found.variance], [ratio, variance], rtol=1e-9, atol=1e-12)
    # Different people add up.
    low = person < 3
    both = PersonSums.of(person[low], x[low], y[low]) + PersonSums.of(person[~low], x[~low], y[~low])
    assert both == found
    cells = PersonSums.by_cell(low.astype(np.int64), person, x, y, 3)
    assert cells[1] + cells[0] == found
    assert cells[2] == PersonSums()


def test_a_share_of_one_thing_each_is_wilson_s() -> None:
    clicks = np.array([1] * 7 + [0] * 93)
    found = figure(PersonSums.of(np.arange(100), clicks, np.ones(100)), Scale.SHARE)
    assert found.value == 0.07
    # With n - 1 and Student's t it is a little wider than the usual one.
    usual = binomtest(7, 100).proportion_ci(method="wilson")
    assert found.low == pytest.approx(usual.low, rel=0.03)
    assert found.high == pytest.approx(usual.high, rel=0.03)
    assert found.low < usual.low < usual.high < found.high
    assert (found.people, found.count, found.why) == (100, 100.0, "")


def test_people_who_are_alike_within_make_it_wider() -> None:
    """Ten answers of each of forty people, who always or never click, say no more than forty answers."""
    person = np.repeat(np.arange(40), 10)
    clicks = np.repeat(np.arange(40) < 10, 10)
    many = figure(PersonSums.of(person, clicks, np.ones(400)), Scale.SHARE)
    few = figure(PersonSums.of(np.arange(40), np.arange(40) < 10, np.ones(40)), Scale.SHARE)
    assert many.low == pytest.approx(few.low)
    assert many.high == pytest.approx(few.high)


def test_nothing_seen_is_bounded_by_people() -> None:
    person = np.repeat(np.arange(50), 20)
    for scale in (Scale.SHARE, Scale.PART):
        found = figure(PersonSums.of(person, np.zeros(1000), np.ones(1000)), scale)
        quantile = t.ppf(0.975, 49) ** 2
        assert (found.value, found.low) == (0.0, 0.0)
        assert found.high == pytest.approx(quantile / (50 + quantile))
    found = figure(PersonSums.of(person, np.ones(1000), np.ones(1000)), Scale.SHARE)
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(50 / (50 + t.ppf(0.975, 49) ** 2))
    found = figure(PersonSums.of(person, np.zeros(1000), np.ones(1000)), Scale.COUNT)
    assert found.low == 0.0
    assert found.high == pytest.approx(t.ppf(0.975, 49) ** 2 / 50)


def test_counts_and_positive_numbers() -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(0.2, 500)
    found = figure(PersonSums.of(np.arange(500), counts, np.ones(500)), Scale.COUNT)
    assert found.low is not None
    assert found.high is not None
    assert found.low < counts.mean() < found.high
    # The ends solve (R - c)^2 = t^2 D c / n.
    dispersion = max(np.var(counts, ddof=1) / counts.mean(), 1.0)
    for end in (found.low, found.high):
        assert (counts.mean() - end) ** 2 == pytest.approx(t.ppf(0.975, 499) ** 2 * dispersion * end / 500)
    seconds = random.lognormal(4.0, 1.0, 500)
    found = figure(PersonSums.of(np.arange(500), seconds, np.ones(500)), Scale.POSITIVE)
    error = np.std(seconds, ddof=1) / math.sqrt(500) / seconds.mean()
    assert found.low == pytest.approx(seconds.mean() * math.exp(-t.ppf(0.975, 499) * error))
    assert found.high == pytest.approx(seconds.mean() * math.exp(t.ppf(0.975, 499) * error))


def test_no_interval_where_it_would_be_wrong() -> None:
    nine = figure(PersonSums.of(np.arange(9), np.ones(9), np.ones(9)), Scale.SHARE)
    assert (nine.value, nine.low, nine.why) == (1.0, None, "fewer than 10 people")
    # One of a hundred people has nearly all.
    one = figure(PersonSums.of(np.arange(100), np.zeros(100), np.array([1000] + [1] * 99)), Scale.SHARE)
    assert (one.low, one.why) == (None, "a few of the 100 people are most of it")
    none = figure(PersonSums(), Scale.SHARE)
    assert (none.value, none.low, none.why) == (None, None, "nothing to measure")
    alike = figure(PersonSums.of(np.arange(99), np.ones(99), np.ones(99)), Scale.POSITIVE)
    assert (alike.value, alike.low, alike.why) == (1.0, None, "it is the same for all people")
