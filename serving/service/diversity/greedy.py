"""The loop of both methods: always the item with the highest gain."""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from serving.service.diversity.vectors import Array

Admit = Callable[[int], bool]


def everything(number: int) -> bool:
    """Admits each item."""
    return True


class Gains(Protocol):
    """What each item would add to what is chosen."""

    def now(self) -> Array:
        """The gains, [n]."""

    def choose(self, number: int) -> None:
        """Takes an item as chosen."""


def greedy(gains: Gains, items: int, count: int, admit: Admit) -> list[int]:
    """Numbers of the chosen items, in the order of choice.

    Of equal gains the first item's wins. An item that is not admitted is not asked for again.

    Args:
        gains: The gains.
        items: How many there are.
        count: How many to choose at most.
        admit: Whether an item may be chosen.
    """
    is_left = np.ones(items, bool)
    chosen: list[int] = []
    while len(chosen) < count and is_left.any():
        current = np.where(is_left, gains.now(), -math.inf)
        best = int(current.argmax())
        while not admit(best):
            is_left[best] = False
            current[best] = -math.inf
            if not is_left.any():
                return chosen
            best = int(current.argmax())
        is_left[best] = False
        chosen.append(best)
        if len(chosen) < count:
            gains.choose(best)
    return chosen


def first_admitted(items: int, count: int, admit: Admit) -> list[int]:
    """What a strength of 0 chooses: items in their present order."""
    chosen: list[int] = []
    for number in range(items):
        if len(chosen) >= count:
            break
        if admit(number):
            chosen.append(number)
    return chosen
