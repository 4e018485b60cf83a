"""The sequential test against oracles in plain Python and against the truth of simulated arms."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, stats

from serving.service.rollout.sequential import Arms, Lift, lift, sequence_width

Floats = npt.NDArray[np.float64]


def _arms(person: list[int], stage: list[int], canary: list[bool]) -> Arms:
    return Arms(np.array(person, int), np.array(stage, int), np.array(canary, bool))


def test_the_lift_by_hand() -> None:
    """Two stages with the same people a row, all with as many items: no weights."""
    arms = _arms([0, 1, 2, 3, 0, 1, 2, 3], [0] * 4 + [1] * 4, [True, False, False, False, True, True, False, False])
    clicks = np.array([3.0, 1, 2, 3, 2, 3, 1, 2])
    items = np.full(8, 10.0)
    found = lift(arms, clicks, items)
    assert found is not None
    # Stage 0: 3/10 against 6/30, stage 1: 5/20 against 3/20.
    canary = 3 * 30 / 40 + 5 * 20 / 40
    stable = 6 * 10 / 40 + 3 * 20 / 40
    assert found.value == pytest.approx(canary / stable - 1)
    ratio, rates = canary / stable, (9 / 40, 8 / 40)
    terms = {
        0: (3 - 10 * rates[0]) * 30 / 40 + (2 - 10 * rates[1]) / 2,
        1: -ratio * (1 - 10 * rates[0]) * 10 / 40 + (3 - 10 * rates[1]) / 2,
        2: -ratio * ((2 - 10 * rates[0]) * 10 / 40 + (1 - 10 * rates[1]) / 2),
        3: -ratio * ((3 - 10 * rates[0]) * 10 / 40 + (2 - 10 * rates[1]) / 2),
    }
    assert found.error == pytest.approx(math.sqrt(sum(each**2 for each in terms.values())) / stable)


def test_a_growing_share_and_a_busy_day_are_no_lift() -> None:
    """On the second day everybody clicks twice as often, and the share is larger: Simpson's paradox."""
    person = list(range(200)) * 2
    canary = [each < 20 for each in range(200)] + [each < 100 for each in range(200)]
    clicks = np.concatenate([np.tile([1.0, 3.0], 100), np.tile([2.0, 6.0], 100)])
    found = lift(_arms(person, [0] * 200 + [1] * 200, canary), clicks, np.full(400, 50.0))
    assert found is not None
    assert found.value == pytest.approx(0.0, abs=1e-12)


def test_there_is_none_without_something_to_divide_by() -> None:
    arms = _arms([0, 1, 2, 3], [0] * 4, [True, False, True, False])
    nothing, some = np.zeros(4), np.array([1.0, 0, 2, 0])
    assert lift(arms, nothing, np.ones(4)) is None
    assert lift(arms, some, np.ones(4)) is None
    assert lift(arms, nothing, nothing) is None
    assert lift(_arms([], [], []), np.zeros(0), np.zeros(0)) is None
    # A stage in which all are stable compares nobody, and disturbs nothing.
    both = _arms([0, 1, 2, 3, 0, 1], [1] * 4 + [0, 0], [True, False, True, False, False, False])
    values, items = np.array([1.0, 2, 3, 1, 5, 9]), np.full(6, 10.0)
    found = lift(both, values, items)
    assert found is not None
    assert math.isfinite(found.value)


def test_no_click_in_the_canary_is_no_certainty() -> None:
    canary = [True] * 3 + [False] * 300
    clicks = np.array([0.0] * 3 + [1.0, 0.0] * 150)
    found = lift(_arms(list(range(303)), [0] * 303, canary), clicks, np.full(303, 10.0))
    assert found is not None
    assert found.value == -1.0
    assert found.always(0.03)[1] > 0.0


def test_the_width_is_where_the_mixture_meets_the_limit() -> None:
    for error in (3.0, 0.3, 0.03, 0.003):
        for alpha in (0.3, 0.03, 0.001):

            def excess(width: float, error: float = error, alpha: float = alpha) -> float:
                """By a ratio of normal densities: the estimate's under a difference from N(0, t^2), and under none."""
                under_none = stats.norm.logpdf(width, 0, error)
                some, more = (stats.norm.logpdf(width, 0, math.hypot(error, t)) - under_none for t in (0.03, 0.3))
                return float(np.logaddexp(some, more)) - math.log(2) + math.log(alpha)

            expected = optimize.brentq(excess, 0.0, 60 * error)
            assert sequence_width(error, alpha) == pytest.approx(expected, rel=1e-6)


def test_bounds_of_one_time_are_the_normal_ones() -> None:
    assert Lift(0.02, 0.01).once(0.05) == pytest.approx(0.02 - 1.6448536 * 0.01)
    low, high = Lift(0.02, 0.01).always(0.03)
    assert 0.02 - low == pytest.approx(high - 0.02)
    assert low < Lift(0.02, 0.01).once(0.015)


def test_the_truth_leaves_the_interval_at_any_of_many_looks_as_seldom_as_said() -> None:
    """A Brownian motion, looked at 400 times from a thousandth of its end on: what the interval is derived for."""
    random, alpha, repetitions = np.random.default_rng(5), 0.1, 1_000
    information = np.geomspace(10.0, 1e4, 400)
    steps = np.diff(information, prepend=0.0)
    widths = np.array([sequence_width(1.0 / math.sqrt(each), alpha) for each in information])
    paths = np.cumsum(random.standard_normal((repetitions, len(steps))) * np.sqrt(steps), axis=1) / information
    outside = (np.abs(paths) > widths).any(axis=1).sum()
    # Not more than said, and not so much less that the interval would be useless.
    assert stats.binomtest(int(outside), repetitions, alpha, alternative="greater").pvalue > 0.001
    assert outside > 0.02 * repetitions


def test_people_who_come_often_do_not_decide_alone() -> None:
    """One crawler in the canary that never clicks: weighted, it is one person, unweighted a loss of a third."""
    random = np.random.default_rng(3)
    rate = 0.1 * random.gamma(4.0, 0.25, 2_000)
    items = (10.0 * (1 + random.poisson(3.0, 2_000))).astype(np.float64)
    clicks = random.binomial(items.astype(int), np.minimum(rate, 1.0)).astype(np.float64)
    items[0], clicks[0] = 20_000.0, 0.0
    canary = np.arange(2_000) < 1_000
    found = lift(Arms(np.arange(2_000), np.zeros(2_000, int), canary), clicks, items)
    plain = (clicks[canary].sum() / items[canary].sum()) / (clicks[~canary].sum() / items[~canary].sum()) - 1
    assert found is not None
    assert plain < -0.25
    assert abs(found.value) < 0.1
