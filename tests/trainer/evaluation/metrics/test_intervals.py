import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from trainer.evaluation.metrics import intervals
from trainer.evaluation.metrics.intervals import bootstrap_interval, bootstrap_means, percentile_interval


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(7).exponential(size=60)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap_interval(values[:, None], resamples=20_000)[0]
    # Two draws of 20,000 differ by their own noise, some hundredths of the standard error.
    noise = 0.06 * values.std() / np.sqrt(60)
    assert ours == pytest.approx([theirs.low, theirs.high], abs=noise)
    narrower = bootstrap_interval(values[:, None], resamples=20_000, confidence=0.5)[0]
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", confidence_level=0.5,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert narrower == pytest.approx([theirs.low, theirs.high], abs=noise)


def test_draws_follow_the_exact_distribution() -> None:
    values = [0.0, 1.0, 4.0]
    exact = Counter(round(sum(draw) / 3, 9) for draw in itertools.product(values, repeat=3))
    means = bootstrap_means(np.array(values)[:, None], resamples=27_000)[:, 0]
    found = Counter(np.round(means, 9).tolist())
    assert set(found) == set(exact)
    for mean, ways in exact.items():
        # Five standard deviations of a binomial count.
        assert abs(found[mean] - 1_000 * ways) < 5 * np.sqrt(1_000 * ways)


def test_columns_share_the_draws() -> None:
    column = np.random.default_rng(0).random(30)
    means = bootstrap_means(np.stack([column, 1 - column], axis=1), resamples=200)
    assert means.sum(axis=1) == pytest.approx(np.ones(200))


def test_seed_decides_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((31, 2))
    first = bootstrap_means(values, resamples=100, seed=4)
    assert (bootstrap_means(values, resamples=100, seed=4) == first).all()
    assert (bootstrap_means(values, resamples=100, seed=5) != first).any()
    monkeypatch.setattr(intervals, "_BLOCK_WEIGHTS", 31 * 7)
    assert bootstrap_means(values, resamples=100, seed=4) == pytest.approx(first)


def test_users_without_a_value_are_left_out() -> None:
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan], [2.0, 5.0]])
    without = bootstrap_means(values[[0, 1, 3], :1], resamples=300)
    means = bootstrap_means(values, resamples=300)
    assert means[:, 0] == pytest.approx(without[:, 0])
    # Only two users have the second figure: either one is drawn, and the mean is 5, or none is.
    drawn = ~np.isnan(means[:, 1])
    assert (means[drawn, 1] == 5.0).all()
    assert 0 < (~drawn).sum() < 40
    assert bootstrap_interval(values, resamples=300)[1].tolist() == [5.0, 5.0]


def test_nothing_to_draw_gives_nan() -> None:
    assert np.isnan(bootstrap_interval(np.full((3, 2), np.nan), resamples=10)).all()
    assert np.isnan(bootstrap_interval(np.zeros((0, 1)), resamples=10)).all()


def test_a_constant_has_no_width() -> None:
    assert bootstrap_interval(np.full((9, 1), 0.25), resamples=50).tolist() == [[0.25, 0.25]]


def test_interval_is_the_middle_of_the_draws() -> None:
    means = np.arange(101.0)[:, None]
    assert percentile_interval(means, confidence=0.9).tolist() == [pytest.approx([5.0, 95.0])]


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_means(np.zeros(3)),
        lambda: bootstrap_means(np.zeros((3, 1)), resamples=0),
        lambda: percentile_interval(np.zeros((3, 1)), confidence=95),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="received"):
        call()
