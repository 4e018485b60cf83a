"""What people do with lists: probabilities and expected values in closed form, samples, best lists.

Click models, for a list of k items with attractions a_1 ... a_k (0 for an empty place):

* PBM (Richardson, Dominowska and Ragno 2007; Craswell et al. 2008): P(click at r) = theta_r a_r, places independent.
* Cascade (Craswell et al. 2008, with the continuation of Guo, Liu and Wang 2009): the first place is examined; after
  place r the person continues with probability q_r = after_skip (1 - a_r) + after_click a_r. So place r is examined
  with probability q_1 ... q_(r-1).

What follows a click (purchase, satisfaction, time) depends on person and item alone, so its expectation is that of
clicks times its mean after a click: a *reward* of the item.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.draws import Booleans, Floats, Integers
from benchmarks.simulation.settings import Behaviour, Examination, Logit

MEASURES = ("clicks", "purchases", "satisfaction", "dwell", "revenue")
"""What is known of a list: expected numbers of clicks and purchases, the sum of the satisfactions of clicks (0 to 1
each), seconds, and the sum of prices paid."""


@dataclass(frozen=True, eq=False)
class Appeal:
    """What items are to people at a moment; shape [n, m], or [n, k] for lists.

    Attributes:
        attraction: Probability of a click on the item once it is examined.
        purchase: Probability of a purchase after a click.
        satisfaction: Mean of the satisfaction after a click, 0 to 1.
        dwell: Mean seconds after a click.
        price: What a purchase costs; 0 where there are no prices.
    """

    attraction: Floats
    purchase: Floats
    satisfaction: Floats
    dwell: Floats
    price: Floats

    def rewards(self) -> Floats:
        """Means after a click, of `MEASURES`: [5, n, m]."""
        ones = np.ones_like(self.attraction)
        return np.stack([ones, self.purchase, self.satisfaction, self.dwell, self.purchase * self.price])


def logistic(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), in place."""
    np.negative(values, out=values)
    np.exp(values, out=values)
    values += 1.0
    return np.reciprocal(values, out=values)


def of_items(weights: Logit, quality: Floats, clickbait: Floats, dearness: Floats) -> Floats:
    """The part of a logit that depends on the item alone: [M]."""
    return np.asarray(
        weights.base + weights.quality * quality + weights.clickbait * clickbait + weights.price * dearness
    )


def mean_dwell(behaviour: Behaviour, satisfaction: Floats) -> Floats:
    """Mean of a lognormal: exp(mu + sigma^2 / 2)."""
    return np.asarray(np.exp(dwell_location(behaviour, satisfaction) + behaviour.dwell_spread**2 / 2))


def dwell_location(behaviour: Behaviour, satisfaction: Floats) -> Floats:
    """Mean of the logarithm of the seconds with an item, by the mean satisfaction with it."""
    return np.asarray(np.log(behaviour.dwell_seconds) + behaviour.dwell_growth * (satisfaction - 0.5))


def theta(examination: Examination, places: int) -> Floats:
    """Of the PBM: probabilities [k] with which places are examined."""
    return np.asarray(np.arange(1.0, places + 1) ** -examination.decay)


def going_on(examination: Examination, attraction: Floats) -> Floats:
    """Of the cascade: probability of going on after each item."""
    return np.asarray(examination.after_skip - (examination.after_skip - examination.after_click) * attraction)


def examined(examination: Examination, attraction: Floats) -> Floats:
    """Probabilities [n, k] with which the places of lists are examined."""
    if examination.model == "pbm":
        return np.broadcast_to(theta(examination, attraction.shape[1]), attraction.shape)
    reached = np.ones_like(attraction)
    np.cumprod(going_on(examination, attraction[:, :-1]), axis=1, out=reached[:, 1:])
    return reached


def expected(examination: Examination, appeal: Appeal) -> Floats:
    """Expected `MEASURES` at each place of lists: [5, n, k]."""
    return np.asarray(examined(examination, appeal.attraction) * appeal.attraction * appeal.rewards())


def expected_at_random(examination: Examination, appeal: Appeal, places: int) -> Floats:
    """Expected `MEASURES` [5, n, places] of a list of different items drawn uniformly, in random order.

    PBM: each item has probability 1 / m at each place. Cascade: the mean over all ordered choices of
    w_(i_r) prod_(l < r) q_(i_l) is sum_i w_i e_(r-1)(q without q_i) / (m C(m - 1, r - 1)), with the elementary
    symmetric polynomials e, which are built up item by item (sums of positive terms: no cancellation).

    Args:
        examination: The click model.
        appeal: Of all items, [n, m].
        places: Length of the list, at most m.
    """
    gains = appeal.attraction * appeal.rewards()
    count = gains.shape[2]
    if examination.model == "pbm":
        return np.asarray(gains.mean(axis=2)[:, :, np.newaxis] * theta(examination, places))
    follow = going_on(examination, appeal.attraction)
    # sums[0, r]: e_r of the items so far; sums[1:, r]: sum over them of w_i e_r(without i). Requests are the last axis.
    sums = np.zeros((1 + len(gains), places, len(follow)))
    sums[0, 0] = 1.0
    factors, weights = np.ascontiguousarray(follow.T), np.ascontiguousarray(gains.transpose(2, 0, 1))
    for factor, weight in zip(factors, weights, strict=True):
        with_it = weight[:, np.newaxis] * sums[0]
        sums[:, 1:] += factor * sums[:, :-1]
        sums[1:] += with_it
    choices = np.cumprod(np.concatenate([[1.0], (count - np.arange(1.0, places)) / np.arange(1.0, places)]))
    return np.asarray(sums[1:].transpose(0, 2, 1) / (count * choices))


def most_clicks(attraction: Floats, places: int) -> Integers:
    """The lists [n, places] with the most expected clicks, as places among the m items; no list beats them.

    These are the most attractive items, the most attractive first, in both models. PBM: rearrangement inequality, since
    examination never grows with the place. Cascade: exchanging neighbours a > b changes the clicks by
    (a - b) (1 - after_skip) >= 0, and a more attractive item in any place loses less behind it than it gains.

    Args:
        attraction: Of all items, [n, m].
        places: Length of the lists, at most m.
    """
    return _largest(attraction, places)


def best_order(examination: Examination, attraction: Floats, gains: Floats, places: int) -> Integers:
    """The lists [n, places] with the largest expected sum of gains, as places among the m items; no list beats them.

    PBM: the items with the largest gains, the largest in the place that is examined most. Cascade: the order by
    gain / (1 - q), and the choice by dynamic programming over the items in that order (Kempe and Mahdian 2008).

    Args:
        examination: The click model.
        attraction: Of all items, [n, m].
        gains: Attraction times reward, [n, m].
        places: Length of the lists, at most m.
    """
    if examination.model == "pbm":
        return _largest(gains, places)
    return _best_cascade(gains, going_on(examination, attraction), places)


def _largest(values: Floats, places: int) -> Integers:
    """Columns of the largest values, the largest first: [n, places]."""
    if places < values.shape[1]:
        some = np.argpartition(-values, places - 1, axis=1)[:, :places]
    else:
        some = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    order = np.argsort(-np.take_along_axis(values, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _best_cascade(gain: Floats, follow: Floats, places: int) -> Integers:
    rows, count = gain.shape
    order = np.argsort(-gain / np.maximum(1.0 - follow, 1e-300), axis=1, kind="stable")
    gain, follow = np.take_along_axis(gain, order, axis=1), np.take_along_axis(follow, order, axis=1)
    # value[:, s]: best of the items from `item` on in s places; exactly s are filled where there are so many.
    value = np.full((rows, places + 1), -np.inf)
    value[:, 0] = 0.0
    taken = np.zeros((count, rows, places + 1), bool)
    for item in range(count - 1, -1, -1):
        with_it = np.full_like(value, -np.inf)
        with_it[:, 1:] = gain[:, item, np.newaxis] + np.where(
            np.isinf(value[:, :-1]), -np.inf, follow[:, item, np.newaxis] * np.maximum(value[:, :-1], -1e300)
        )
        taken[item] = with_it > value
        value = np.maximum(value, with_it)
    lists = np.zeros((rows, places), np.int64)
    left = np.full(rows, places)
    each = np.arange(rows)
    for item in range(count):
        takes = taken[item, each, left] & (left > 0)
        lists[each[takes], places - left[takes]] = order[takes, item]
        left -= takes
    return lists


@dataclass(frozen=True, eq=False)
class Outcome:
    """What people did with lists; shape [n, k] each.

    Attributes:
        examined: Whether a place was looked at, which no log knows.
        clicked: Whether its item was clicked.
        purchased: After a click.
        satisfaction: After a click 0, 0.25, 0.5, 0.75 or 1; else 0. The rating is 1 + 4 of it.
        rated: Whether the person left a rating.
        dwell: Seconds; 0 without a click.
    """

    examined: Booleans
    clicked: Booleans
    purchased: Booleans
    satisfaction: Floats
    rated: Booleans
    dwell: Floats


def sample(behaviour: Behaviour, appeal: Appeal, random: np.random.Generator) -> Outcome:
    """Draws what people do with lists, [n, k].

    The same number of random numbers is drawn for any list, so that policies can be compared on the same luck.
    Satisfaction is Binomial(4, mean) / 4.
    """
    shape = appeal.attraction.shape
    looks, clicks, buys, rates = random.random((4, *shape))
    likes, dwells = random.random((4, *shape)), random.standard_normal(shape)
    model = behaviour.examination
    would_click = clicks < appeal.attraction
    if model.model == "pbm":
        seen = looks < theta(model, shape[1])
    else:
        follows = looks < np.where(would_click, model.after_click, model.after_skip)
        seen = np.ones(shape, bool)
        np.logical_and.accumulate(follows[:, :-1], axis=1, out=seen[:, 1:])
    clicked = seen & would_click
    location = dwell_location(behaviour, appeal.satisfaction)
    return Outcome(
        examined=seen,
        clicked=clicked,
        purchased=clicked & (buys < appeal.purchase),
        satisfaction=clicked * (likes < appeal.satisfaction).mean(axis=0),
        rated=clicked & (rates < behaviour.rates),
        dwell=clicked * np.exp(location + behaviour.dwell_spread * dwells),
    )
