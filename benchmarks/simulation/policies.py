"""Policies: what answers requests with lists. Baselines with known probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.draws import Integers
from benchmarks.simulation.lists import EMPTY, Distribution, Shown, certain, mixed, uniform
from benchmarks.simulation.world import Requests, World


class Policy(ABC):
    """Anything that answers requests.

    Args:
        name: For tables.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self, day: int) -> None:  # noqa: B027  most have nothing to do
        """Called before the first request of a day: the catalogue may have changed."""

    @abstractmethod
    def show(self, requests: Requests, random: np.random.Generator) -> Shown:
        """A list for each request."""

    def heard(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:  # noqa: B027
        """Called with what people did with lists, its own or another policy's."""


class KnownPolicy(Policy):
    """A policy whose probabilities are known, so that its value is too."""

    @abstractmethod
    def distribution(self, requests: Requests) -> Distribution:
        """What it may show to each request."""

    def show(self, requests: Requests, random: np.random.Generator) -> Shown:
        """A draw from the distribution."""
        return self.distribution(requests).draw(random)


class FunctionPolicy(KnownPolicy):
    """A function from requests to lists [n, k] or to distributions over lists, which does not learn."""

    def __init__(self, name: str, function: Callable[[Requests], Integers | Distribution]) -> None:
        super().__init__(name)
        self._function = function

    def distribution(self, requests: Requests) -> Distribution:
        """The function's; a list is shown with certainty."""
        found = self._function(requests)
        return found if isinstance(found, Distribution) else certain(found)


class RandomPolicy(KnownPolicy):
    """Any different items of the day's catalogue in any order."""

    def __init__(self, world: World, places: int = 10) -> None:
        super().__init__("random")
        self._world = world
        self._places = places

    def distribution(self, requests: Requests) -> Distribution:
        """Uniform."""
        return uniform(self._world.catalogue(requests.day), len(requests), self._places)


class Popularity(KnownPolicy):
    """The items with the most clicks so far by people with the same language.

    Where these are equal the clicks of all people count, then the order of arrival, the newest first.
    """

    def __init__(self, world: World, places: int = 10) -> None:
        super().__init__("popularity")
        self._world = world
        self._places = places
        self._clicks = np.zeros((len(world.languages), len(world.items)))
        self._top: Integers | None = None
        self._day = -1

    def distribution(self, requests: Requests) -> Distribution:
        """The same list for everybody of a language."""
        if self._top is None or self._day != requests.day:
            present, self._day = self._world.catalogue(requests.day), requests.day
            clicks = self._clicks[:, present]
            everybody = clicks.sum(axis=0) / (1.0 + clicks.sum())
            order = np.argsort(-(clicks + everybody)[:, ::-1], axis=1, kind="stable")[:, : self._places]
            self._top = present[::-1][order]
        return certain(self._top[requests.language])

    def heard(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:
        """Counts clicks."""
        rows, places = np.nonzero(outcome.clicked)
        pairs = requests.language[rows] * self._clicks.shape[1] + shown.lists[rows, places]
        self._clicks += np.bincount(pairs, minlength=self._clicks.size).reshape(self._clicks.shape)
        self._top = None


class Oracle(KnownPolicy):
    """The best list for each visit, by the truth."""

    def __init__(self, world: World, places: int = 10, measure: str = "clicks") -> None:
        super().__init__("oracle" if measure == "clicks" else f"oracle ({measure})")
        self._world = world
        self._places = places
        self._measure = measure

    def distribution(self, requests: Requests) -> Distribution:
        """`World.best`."""
        return certain(self._world.best(requests, self._places, self._measure))


class EpsilonGreedy(KnownPolicy):
    """With probability epsilon a list at random, else that of another policy."""

    def __init__(self, world: World, base: KnownPolicy, epsilon: float) -> None:
        super().__init__(f"{base.name}, epsilon {epsilon:g}")
        self._world = world
        self._base = base
        self._epsilon = epsilon

    def begin(self, day: int) -> None:
        """Tells the other policy."""
        self._base.begin(day)

    def distribution(self, requests: Requests) -> Distribution:
        """The mixture."""
        return mixed(self._base.distribution(requests), self._epsilon, self._world.catalogue(requests.day))

    def heard(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:
        """Tells the other policy."""
        self._base.heard(requests, shown, outcome)


def shown_items(lists: Integers) -> Integers:
    """Number of items of each list: [n]."""
    return np.asarray((lists != EMPTY).sum(axis=1))
