import itertools
from collections import Counter

import numpy as np
import pytest

from benchmarks.simulation.lists import EMPTY, Distribution, certain, mixed, random_lists, uniform


def _mixture(rows: int) -> Distribution:
    lists = np.array([[0, 1, 2], [2, 1, 0]])[:, np.newaxis].repeat(rows, axis=1)
    probabilities = np.array([0.5, 0.2])[:, np.newaxis].repeat(rows, axis=1)
    return Distribution(lists, probabilities, np.array([0, 1, 2, 5]), np.full(rows, 0.3))


def test_lists_are_drawn_with_their_probabilities() -> None:
    rows = 60_000
    shown = _mixture(rows).draw(np.random.default_rng(0))
    drawn = list(map(tuple, shown.lists.tolist()))
    counts = Counter(drawn)
    for chosen in itertools.permutations([0, 1, 2, 5], 3):
        wanted = 0.3 / 24 + {(0, 1, 2): 0.5, (2, 1, 0): 0.2}.get(chosen, 0.0)
        assert counts.pop(chosen) / rows == pytest.approx(wanted, abs=4 * (wanted / rows) ** 0.5)
        assert shown.list_propensities[drawn.index(chosen)] == pytest.approx(wanted)
    assert not counts
    # In the first place: 0 by the first list, 2 by the second, 0.3 / 4 each at random.
    for item, wanted in ((0, 0.575), (2, 0.275), (1, 0.075), (5, 0.075)):
        first = shown.lists[:, 0] == item
        assert shown.propensities[first, 0] == pytest.approx(wanted)
        assert first.mean() == pytest.approx(wanted, abs=0.01)


def test_what_is_certain_has_the_propensity_1() -> None:
    shown = certain(np.array([[3, 1], [2, EMPTY]])).draw(np.random.default_rng(0))
    assert shown.lists.tolist() == [[3, 1], [2, EMPTY]]
    assert shown.propensities.tolist() == [[1, 1], [1, 1]]
    assert shown.list_propensities.tolist() == [1, 1]


@pytest.mark.parametrize("count", [3, 5, 40])
def test_lists_at_random_are_uniform(count: int) -> None:
    candidates = 10 + np.arange(count)
    lists = random_lists(np.random.default_rng(1), candidates, 20_000, 3)
    assert all(len(set(row)) == 3 for row in lists.tolist())
    for place in range(3):
        found = np.bincount(lists[:, place] - 10, minlength=count)
        wanted = 20_000 / count
        assert (np.abs(found - wanted) < 4.5 * wanted**0.5).all()
    pairs = Counter(map(tuple, lists[:, :2].tolist()))
    assert len(pairs) == count * (count - 1)


def test_impossible_distributions() -> None:
    lists = np.zeros((1, 1, 2), np.int64)
    with pytest.raises(ValueError, match="sum to 1"):
        Distribution(lists, np.array([[0.5]]), np.arange(3), np.array([0.4]))
    with pytest.raises(ValueError, match="don't fill"):
        uniform(np.arange(1), 1, 2)
    with pytest.raises(ValueError, match="at random itself"):
        mixed(uniform(np.arange(3), 1, 2), 0.1, np.arange(3))
