"""Propensities against how often things happen."""

from collections import Counter

import pytest

from serving.service.recommender.exploring import Explorer

_DRAWS = 40_000


@pytest.mark.parametrize(("share", "positions", "items"), [(0.3, [1, 2, 4], 5), (1.0, [1], 2), (0.05, [3, 7], 1)])
def test_propensities_are_the_probabilities_of_what_is_shown(share: float, positions: list[int], items: int) -> None:
    explorer = Explorer(share, least=1, seed=7)
    unseen = [f"i{number}" for number in range(items)]
    told: dict[tuple[int, str], float] = {}
    happened = Counter[tuple[int, str]]()
    for _ in range(_DRAWS):
        drawn = explorer.draw(positions, unseen)
        assert drawn is not None
        for place in positions:
            is_explored = place == drawn.place
            pair = place, drawn.item_id if is_explored else "own"
            happened[pair] += 1
            propensity = drawn.propensity if is_explored else drawn.kept
            assert told.setdefault(pair, propensity) == propensity
    for place in positions:
        own = {what: p for (where, what), p in told.items() if where == place}
        # With a share of 1 and one place its own item is never shown.
        assert sum(own.values()) == pytest.approx(1.0)
        for what, propensity in own.items():
            spread = (propensity * (1 - propensity) / _DRAWS) ** 0.5
            assert abs(happened[place, what] / _DRAWS - propensity) <= 5 * spread + 1e-9


def test_lists_are_certain_where_nothing_can_be_explored() -> None:
    explorer = Explorer(1.0, least=1)
    assert explorer.draw([], ["a"]) is None
    assert explorer.draw([1], []) is None
    assert Explorer(0.0, least=1).draw([1], ["a"]) is None


def test_items_are_unseen_until_they_have_been_shown_often_enough() -> None:
    explorer = Explorer(0.5, least=2)
    newest = ["c", "b", "a"]
    assert explorer.unseen(newest, lambda item_id: item_id != "b") == ["c", "a"]
    explorer.shown(["a", "c"])
    assert explorer.unseen(newest, lambda _: True) == newest
    explorer.shown(["c"])
    assert explorer.unseen(newest, lambda _: True) == ["b", "a"]
    assert len(explorer.unseen((str(number) for number in range(10_000)), lambda _: True)) == 200
    assert explorer.unseen((str(number) for number in range(10**9)), lambda _: False) == []
