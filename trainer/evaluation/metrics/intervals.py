"""Bootstrap confidence intervals of means over users."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
CONFIDENCE = 0.95
# Maximum weights in memory: 4 Mi float64 are 32 MiB.
_BLOCK_WEIGHTS = 1 << 22


def bootstrap_means(values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Means of the columns over users drawn with replacement.

    Every column sees the same draws, so differences between columns are paired. NaN means that a user
    has no value in that column: users without any value are not drawn, and a column's mean is over the
    drawn users that have one.

    Args:
        values: [U, M].
        resamples: number of draws, R.
        seed: of the random generator; the same seed gives the same result on any machine.

    Returns:
        [R, M]; NaN if no drawn user has a value.
    """
    if values.ndim != 2:
        raise ValueError(f"expected values of [users, metrics], received shape {values.shape}")
    known = ~np.isnan(values)
    return bootstrap_ratios(np.where(known, values, 0.0), known.astype(np.float64), resamples=resamples, seed=seed)


def bootstrap_ratios(
    sums: NDArray[np.float64], counts: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Ratios of two totals over users drawn with replacement, such as means over the drawn users' events.

    Args:
        sums: [U, M], each user's part of the numerators.
        counts: [U, M], of the denominators; users without any are not drawn.
        resamples: number of draws, R.
        seed: as in `bootstrap_means`.

    Returns:
        [R, M]; NaN where the drawn users' denominators are all 0.
    """
    if sums.ndim != 2 or sums.shape != counts.shape:
        raise ValueError(f"expected two arrays of [users, columns], received shapes {sums.shape} and {counts.shape}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, received {resamples}")
    drawable = counts.any(axis=1)
    sums, counts = sums[drawable], counts[drawable]
    users, columns = sums.shape
    ratios = np.full((resamples, columns), np.nan)
    if users == 0:
        return ratios
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_WEIGHTS // users)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, users, size=(rows, users))
        drawn += np.arange(rows)[:, None] * users
        weights = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)
        with np.errstate(invalid="ignore"):
            ratios[start : start + rows] = (weights @ sums) / (weights @ counts)
    return ratios


def percentile_interval(means: NDArray[np.float64], *, confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """The middle `confidence` of each column of [R, M] resampled means, as [M, 2] (low, high).

    The percentile bootstrap of Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13. A
    column that is NaN throughout gives NaN.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, received {confidence}")
    tail = 50.0 * (1.0 - confidence)
    interval = np.full((means.shape[1], 2), np.nan)
    usable = ~np.isnan(means).all(axis=0)
    if usable.any():
        interval[usable] = np.nanpercentile(means[:, usable], [tail, 100.0 - tail], axis=0).T
    return interval


def bootstrap_interval(
    values: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Percentile intervals of the means of the columns of [U, M], as [M, 2]; see `bootstrap_means`."""
    return percentile_interval(bootstrap_means(values, resamples=resamples, seed=seed), confidence=confidence)
