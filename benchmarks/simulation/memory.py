"""What people have seen lately, which makes it less attractive."""

import copy

import numpy as np

from benchmarks.simulation.draws import Booleans, Floats, Integers
from benchmarks.simulation.lists import EMPTY
from benchmarks.simulation.settings import Fatigue


class Memory:
    """Loads of fatigue of N people with M items.

    The load of an item at a time t is the sum over its past appearances at times s of w exp(-(t - s) / days), with the
    weight w of `Fatigue`. Kept is the sum of w exp(s / days), which no passing of time changes (forward decay: Cormode
    et al. 2009), so that a visit touches only the items of its list.

    Args:
        people: N.
        items: M.
        settings: Weights and time.
    """

    def __init__(self, people: int, items: int, settings: Fatigue) -> None:
        self._settings = settings
        self._kept = np.zeros((people, items))

    def copy(self) -> "Memory":
        """The same loads, which change separately from now on."""
        other = copy.copy(self)
        other._kept = self._kept.copy()
        return other

    def factors(self, people: Integers, times: Floats, items: Integers) -> Floats:
        """exp(-load): what is left of the attraction.

        Args:
            people: [n].
            times: [n], days since the world's start.
            items: [n, k], or [m] for the same items for all.

        Returns:
            [n, k] or [n, m].
        """
        kept = self._kept[people[:, np.newaxis], items]
        return np.asarray(np.exp(-kept * np.exp(-times / self._settings.days)[:, np.newaxis]))

    def remember(self, people: Integers, times: Floats, lists: Integers, clicked: Booleans) -> None:
        """Adds what was shown and taken.

        Args:
            people: [n], each once.
            times: [n], days since the world's start.
            lists: [n, k].
            clicked: [n, k].

        Raises:
            ValueError: Somebody is there twice, whose second list would have been answered without the first.
        """
        if len(np.unique(people)) < len(people):
            raise ValueError("a person is there twice: answer the visits of a day in rounds (`Requests.rounds`)")
        rows, places = np.nonzero(lists != EMPTY)
        weights = self._settings.shown + self._settings.taken * clicked[rows, places]
        # Each pair of person and item is there once.
        self._kept[people[rows], lists[rows, places]] += weights * np.exp(times / self._settings.days)[rows]
