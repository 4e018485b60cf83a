"""Sums over people, and intervals of ratios made of them."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

LEVEL: Final = 0.95
FEWEST_PEOPLE: Final = 10
"""With an interval; fewer say too little about the differences between people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSums:
    """Sums of two figures x and y of each of n people, of which the ratio of totals is wanted: clicks and items shown.

    Sums of different people add up (`+`); a person must not be in both.

    Attributes:
        people: n, those with y > 0.
        x, y: Sums over people.
        xx, xy, yy: Sums of the products, over people.
    """

    people: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def __add__(self, other: "PersonSums") -> "PersonSums":
        """Of the people of both, who are different ones."""
        return PersonSums(
            people=self.people + other.people,
            x=self.x + other.x,
            y=self.y + other.y,
            xx=self.xx + other.xx,
            xy=self.xy + other.xy,
            yy=self.yy + other.yy,
        )

    @classmethod
    def of(cls, person: npt.NDArray[Any], x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Self:
        """Of rows such as answers.

        Args:
            person: [N], number of each row's person.
            x, y: [N], figures of each row.
        """
        return cls.by_cell(np.zeros(len(person), np.int64), person, x, y, 1)[0]

    @classmethod
    def by_cell(
        cls,
        cell: npt.NDArray[Any],
        person: npt.NDArray[Any],
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        cells: int,
    ) -> list[Self]:
        """Of the rows of each of some cells, 0 to ``cells`` - 1; [N] each, as in `of`."""
        size = int(person.max()) + 1 if len(person) else 1
        pairs, place = np.unique(cell.astype(np.int64) * size + person, return_inverse=True)
        own = pairs // size
        a = np.bincount(place, x, minlength=len(pairs))
        b = np.bincount(place, y, minlength=len(pairs))

        def total(values: npt.NDArray[Any]) -> list[float]:
            sums: list[float] = np.bincount(own, values, minlength=cells).tolist()
            return sums

        columns = (total(1.0 * (b > 0)), total(a), total(b), total(a * a), total(a * b), total(b * b))
        return [
            cls(people=int(n), x=sx, y=sy, xx=sxx, xy=sxy, yy=syy)
            for n, sx, sy, sxx, sxy, syy in zip(*columns, strict=True)
        ]

    @property
    def ratio(self) -> float:
        """The total of x over that of y; NaN without any y."""
        return self.x / self.y if self.y > 0 else math.nan

    @property
    def variance(self) -> float:
        """Of the ratio, by the delta method with people as clusters.

        ``n / (n - 1) * sum (x - ratio y)^2 / (sum y)^2`` (Deng, Knoblich and Lu 2018, "Applying the Delta Method in
        Metric Analytics", section 3.2, multiplied out). NaN for fewer than two people.
        """
        if self.people < 2 or self.y <= 0:
            return math.nan
        ratio = self.ratio
        squares = max(self.xx - 2 * ratio * self.xy + ratio**2 * self.yy, 0.0)
        return self.people / (self.people - 1) * squares / self.y**2

    @property
    def effective_people(self) -> float:
        """As many people with equal y would say as much: ``(sum y)^2 / sum y^2`` (Kish 1965); at most `people`."""
        return self.y**2 / self.yy if self.yy > 0 else 0.0


class Scale(Enum):
    """What values a figure can have, which decides the form of its interval."""

    SHARE = "share of things of which each counts or not"
    PART = "mean of values from 0 to 1"
    COUNT = "number of events"
    POSITIVE = "positive number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with its interval.

    Attributes:
        value: None: there is none.
        low, high: Ends of the interval; None: there is none.
        people: Whose it is.
        count: What it is a mean over: items shown, answers, ...
        why: Why there is no value or no interval; empty otherwise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    people: int = 0
    count: float = 0.0
    why: str = ""


def figure(sums: PersonSums, scale: Scale, level: float = LEVEL) -> Figure:
    """The ratio with its interval.

    The variance is that of the delta method, the quantile Student's t with `effective_people` - 1 degrees of freedom.
    Near 0 and 1 an interval of equal arms would be wrong, so it has the form of Wilson's: of a share
    ``(R - p)^2 = t^2 p (1 - p) / m``, where m is the number of independent things that gives the variance (Korn and
    Graubard 1998), and of a count ``(R - c)^2 = t^2 D c / y``, where D is the variance over Poisson's. A positive
    number's is symmetric in its logarithm. Where all things are alike, so that there is no variance to be seen, each
    person is taken for one thing.
    """
    if sums.y <= 0:
        return Figure(value=None, why="nothing to measure")
    value = sums.ratio
    people = sums.effective_people
    if people < FEWEST_PEOPLE:
        many = sums.people >= FEWEST_PEOPLE
        why = f"a few of the {sums.people} people are most of it" if many else f"fewer than {FEWEST_PEOPLE} people"
        return Figure(value=value, people=sums.people, count=sums.y, why=why)
    if scale is Scale.POSITIVE and not (value > 0 and sums.variance > 0):
        return Figure(value=value, people=sums.people, count=sums.y, why="it is the same for all people")
    quantile = float(stdtrit(people - 1.0, 0.5 + level / 2))
    low, high = _ends(sums, scale, quantile)
    return Figure(value=value, low=low, high=high, people=sums.people, count=sums.y)


def _ends(sums: PersonSums, scale: Scale, quantile: float) -> tuple[float, float]:
    value, variance = sums.ratio, sums.variance
    if scale is Scale.POSITIVE:
        factor = math.exp(quantile * math.sqrt(variance) / value)
        return value / factor, value * factor
    if scale is Scale.COUNT:
        dispersion = variance * sums.y / value if value > 0 else sums.yy / sums.y
        half = quantile**2 * max(dispersion, 1.0) / sums.y / 2
        arm = math.sqrt(half * (2 * value + half))
        return max(value + half - arm, 0.0), value + half + arm
    spread = value * (1 - value)
    things = spread / variance if variance > 0 and spread > 0 else sums.effective_people
    if scale is Scale.SHARE:
        # More than there are would be luck: people's things are alike, if anything.
        things = min(things, sums.y)
    ratio = quantile**2 / things
    centre = (value + ratio / 2) / (1 + ratio)
    arm = math.sqrt(max(ratio * (spread + ratio / 4), 0.0)) / (1 + ratio)
    # The value is inside, also where it is 0 or 1 and rounding puts it a little outside.
    return max(min(centre - arm, value), 0.0), min(max(centre + arm, value), 1.0)
