"""Compares two arms by ratios of sums over people, with intervals that hold however often one looks.

**Estimate.** A measure is a ratio of sums: clicks over items shown, purchases over answers, satisfaction over
judgements. The share of the canary grows stage by stage while people's habits change by the day, so only people of one
stage are compared, and stages are pooled by Mantel and Haenszel's rate ratio (Rothman, Greenland and Lash, "Modern
Epidemiology", 2008, chapter 15). With numerators y and denominators x of the canary (c) and of stable (s) in stage k:

    1 + lift = sum_k y_ck x_sk / (x_ck + x_sk)  /  sum_k y_sk x_ck / (x_ck + x_sk)

**Weights.** What a person does n times says less than what n people do once. With the variance s^2 x + t^2 x^2 of a
person's numerator, a person counts 1 / (1 + x t^2 / s^2) times, as in best linear unbiased estimation and generalised
estimating equations (Liang and Zeger 1986). That needs a third of the answers that plain sums do where a few people
make most of the visits, and a crawler counts as little more than one person. s^2 and t^2 are estimated by two moments;
if they are wrong the estimate is less exact and its error still right.

**Its error.** What a person does is correlated, so the variance is that of sums over people (delta method with
clusters: Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018). A person who came into the
canary at a later stage is one cluster with both arms. Deviations are from the rate of both arms together, as in a
score test: an arm without any click must not seem to be free of error.

**Its interval.** With the information I = 1 / se^2, lift * I behaves like a Brownian motion with the drift lift, whose
likelihood ratio against another lift, mixed over normal distributions of the difference, is a martingale that exceeds
1 / alpha at any time with probability alpha at most (Robbins 1970). All lifts for which it does not are an asymptotic
confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, arXiv 2103.06476). One normal distribution
fits one sample size; the mixture here is half of differences of about 3 %, an update that is a little better, and half
of about 30 %, something that is broken. The increments of a ratio over people who come again are independent only
nearly (Shoben and Emerson 2014); `benchmarks.loop.rollout_power` measures what is left of it.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Standard deviations of the differences that are looked for.
_SCALES: Final = (0.03, 0.3)
# t^2 / s^2 at most: beyond, all people count alike whatever they do.
_MOST_ALIKE: Final = 10.0
# Relative variance of denominators below which the two moments are one.
_EVEN: Final = 1e-6
# Halvings of an interval that contains the bound.
_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """R rows, one for each person in a stage and an arm.

    Attributes:
        person: [R], numbers from 0.
        stage: [R], numbers from 0.
        is_canary: [R].
    """

    person: Integers
    stage: Integers
    is_canary: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lift:
    """By how much the canary is better: 0.03 is 3 %.

    Attributes:
        value: The estimate.
        error: Its standard error.
    """

    value: float
    error: float

    def always(self, alpha: float) -> tuple[float, float]:
        """Bounds that hold at all times together with probability 1 - alpha."""
        width = sequence_width(self.error, alpha)
        return self.value - width, self.value + width

    def once(self, alpha: float) -> float:
        """A lower bound that holds with probability 1 - alpha at one time that was fixed before."""
        return self.value - NormalDist().inv_cdf(1.0 - alpha) * self.error


def lift(arms: Arms, numerator: Floats, denominator: Floats) -> Lift | None:
    """The lift of one measure.

    Args:
        arms: Whose rows they are.
        numerator, denominator: [R].

    Returns:
        None if there is nothing to divide by yet.
    """
    if not len(arms.person):
        return None
    weight = _weights(arms.person, numerator, denominator)
    numerator, denominator = weight * numerator, weight * denominator
    stages = int(arms.stage.max()) + 1
    cell = 2 * arms.stage + arms.is_canary
    y = np.bincount(cell, numerator, 2 * stages).reshape(stages, 2)
    x = np.bincount(cell, denominator, 2 * stages).reshape(stages, 2)
    total = x.sum(axis=1)
    # The other arm's part of the stage: 0 where one arm has nothing to be compared with.
    other = np.divide(x[:, ::-1], total[:, np.newaxis], out=np.zeros_like(x), where=total[:, np.newaxis] > 0)
    stable, canary = (y * other).sum(axis=0)
    if not stable > 0.0:
        return None
    rate = np.divide(y.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    ratio = canary / stable
    factor = other * np.array([-ratio, 1.0])
    deviations = (numerator - rate[arms.stage] * denominator) * factor.reshape(-1)[cell]
    variance = np.square(np.bincount(arms.person, deviations)).sum()
    if not variance > 0.0:
        return None
    return Lift(float(ratio - 1.0), math.sqrt(variance) / float(stable))


def _weights(person: Integers, numerator: Floats, denominator: Floats) -> Floats:
    """What each row counts: [R], from 0 to 1."""
    y, x = np.bincount(person, numerator), np.bincount(person, denominator)
    total = x.sum()
    if not total > 0.0:
        return np.ones_like(denominator)
    square = np.square(y - y.sum() / total * x)
    # sum d^2 = s^2 sum x + t^2 sum x^2, and sum d^2 / x = s^2 n + t^2 sum x.
    there = x > 0.0
    moments = np.array([[total, np.square(x).sum()], [np.count_nonzero(there), total]])
    if moments[0, 1] * moments[1, 0] - total**2 <= _EVEN * total**2:
        return np.ones_like(denominator)  # everybody has about as much: all weights are the same
    once, again = np.linalg.solve(moments, [square.sum(), (square[there] / x[there]).sum()])
    if not again > 0.0:
        return np.ones_like(denominator)
    # All variance between people, none within: the limit of large weights, everybody counts alike.
    ratio = again / once if once > 0.0 else _MOST_ALIKE
    return np.asarray(1.0 / (1.0 + min(ratio, _MOST_ALIKE) * x[person]))


def sequence_width(error: float, alpha: float) -> float:
    """Half the width of the interval for an estimate with this standard error.

    The largest difference d for which the mean over scales t of
    (1 + I t^2)^(-1/2) exp(d^2 I / 2 * I t^2 / (1 + I t^2)), where I = 1 / error^2, is at most 1 / alpha.

    Args:
        error: Greater than 0.
        alpha: Probability with which the truth is ever outside.
    """
    spread = np.square(np.array(_SCALES) / error)
    constant = -0.5 * np.log1p(spread) - math.log(len(_SCALES))
    slope = 0.5 * spread / (1.0 + spread)
    limit = -math.log(alpha)
    # In standard errors, squared. Any single part of the mean reaches the limit later than the mean does.
    low, high = 0.0, float(((limit - constant) / slope).min())
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if np.logaddexp.reduce(constant + slope * middle) < limit:
            low = middle
        else:
            high = middle
    return math.sqrt(high) * error
