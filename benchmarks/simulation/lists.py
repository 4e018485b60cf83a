"""Distributions over lists: what a policy that decides at random does, with its exact probabilities."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.simulation.draws import Floats, Integers

EMPTY = -1
"""In a list: a place without an item."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Lists as they were shown.

    Attributes:
        lists: [n, k], items; `EMPTY` where a list is shorter.
        propensities: [n, k], probability that this item was shown in this place.
        list_propensities: [n], probability of the whole list; NaN: not known.
        ids: n ids of the answers; empty: they are named after the visits.
    """

    lists: Integers
    propensities: Floats
    list_propensities: Floats
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Distribution:
    """For each of n requests a mixture of given lists and a list of candidates at random.

    At random: k different candidates in random order, all choices equally probable.

    Attributes:
        lists: [s, n, k], given lists.
        probabilities: [s, n].
        candidates: [m], what is drawn from at random.
        at_random: [n], probability of a list at random. With ``probabilities`` it sums to 1.
    """

    lists: Integers
    probabilities: Floats
    candidates: Integers
    at_random: Floats

    def __post_init__(self) -> None:
        total = self.probabilities.sum(axis=0) + self.at_random
        if (self.probabilities < 0).any() or (self.at_random < 0).any() or not np.allclose(total, 1.0, atol=1e-9):
            raise ValueError("the probabilities of a distribution over lists must be at least 0 and sum to 1")
        if (self.at_random > 0).any() and len(self.candidates) < self.places:
            raise ValueError(f"{len(self.candidates)} candidates don't fill {self.places} places")

    @property
    def places(self) -> int:
        """Length of the lists."""
        return int(self.lists.shape[2])

    def draw(self, random: np.random.Generator) -> Shown:
        """A list for each request."""
        rows, places = self.lists.shape[1:]
        lists = random_lists(random, self.candidates, rows, places) if self.at_random.any() else self.lists[0].copy()
        if len(self.probabilities):
            which = (random.random(rows) >= np.cumsum(self.probabilities, axis=0)).sum(axis=0)
            given = np.flatnonzero((which < len(self.lists)) | (self.at_random == 0.0))
            # Rounding may leave a draw above the sum of probabilities that are all there is.
            lists[given] = self.lists[np.minimum(which[given], len(self.lists) - 1), given]
        return Shown(lists, self.propensities(lists), self.list_propensities(lists))

    def propensities(self, lists: Integers) -> Floats:
        """Probability of each item in its place: [n, k]."""
        found: Floats = np.einsum("sn,snk->nk", self.probabilities, (self.lists == lists).astype(np.float64))
        if self.at_random.any():
            drawn = np.isin(lists, self.candidates)
            found += (self.at_random / len(self.candidates))[:, np.newaxis] * drawn
        return found

    def list_propensities(self, lists: Integers) -> Floats:
        """Probability of each whole list: [n]."""
        found: Floats = np.einsum("sn,sn->n", self.probabilities, (self.lists == lists).all(axis=2).astype(np.float64))
        if self.at_random.any():
            count = float(len(self.candidates))
            orders = np.prod(count - np.arange(self.places))
            found += self.at_random / orders * np.isin(lists, self.candidates).all(axis=1)
        return found


def certain(lists: Integers) -> Distribution:
    """One list for each request: [n, k]."""
    rows = len(lists)
    return Distribution(lists[np.newaxis], np.ones((1, rows)), np.zeros(0, np.int64), np.zeros(rows))


def uniform(candidates: Integers, rows: int, places: int) -> Distribution:
    """Lists at random for ``rows`` requests."""
    nothing = np.zeros((0, rows, places), np.int64)
    return Distribution(nothing, np.zeros((0, rows)), candidates, np.ones(rows))


def mixed(base: Distribution, at_random: float, candidates: Integers) -> Distribution:
    """With probability ``at_random`` a list of ``candidates`` at random, else one of ``base`` (which draws none)."""
    if base.at_random.any():
        raise ValueError("the base of a mixture must not draw at random itself")
    rows = base.lists.shape[1]
    return Distribution(base.lists, (1.0 - at_random) * base.probabilities, candidates, np.full(rows, at_random))


def random_lists(random: np.random.Generator, candidates: Integers, rows: int, places: int) -> Integers:
    """Different candidates in random order, uniformly: [rows, places]."""
    count = len(candidates)
    if count < places * places:
        return candidates[np.argsort(random.random((rows, count)), axis=1)[:, :places]]
    # Repetitions are rare: drawing such lists again is uniform too, and does not touch all candidates.
    drawn = random.integers(count, size=(rows, places))
    again = np.arange(rows)
    while len(again := again[_repeats(drawn[again])]):
        drawn[again] = random.integers(count, size=(len(again), places))
    return candidates[drawn]


def _repeats(lists: Integers) -> npt.NDArray[np.bool_]:
    ordered = np.sort(lists, axis=1)
    return np.asarray((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
