"""What is chosen after what: the counts, and the scores of a history's followers."""

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf

from trainer.data.user_items import UserItems
from trainer.models.settings import TransitionsConfig
from trainer.models.transitions import Transitions

_KNOWN = 40


def _histories(seed: int = 0) -> list[list[int]]:
    """Users with up to 30 different items, of whom one has a single item and one none."""
    draws = np.random.default_rng(seed)
    made = [draws.permutation(_KNOWN)[: draws.integers(2, 30)].tolist() for _ in range(60)]
    return [*made, [3], []]


def _shares(histories: list[list[int]], window: int) -> dict[int, dict[int, float]]:
    """Item -> item -> share among what followed it, one pair at a time."""
    counts: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for items in histories:
        for place, item in enumerate(items):
            for distance, other in enumerate(items[place + 1 : place + 1 + window], start=1):
                counts[item][other] += distance**-0.5
    return {
        item: {other: value / (sum(row.values()) + 20.0) for other, value in row.items()}
        for item, row in counts.items()
    }


def _score(history: list[int], candidate: int, shares: dict[int, dict[int, float]], length: int) -> float:
    """History newest first."""
    weights = [1.0 / (1.0 + place) for place in range(min(length, len(history)))]
    found = [weight * shares.get(item, {}).get(candidate, 0.0) for weight, item in zip(weights, history, strict=False)]
    return sum(found) / sum(weights) if weights else 0.0


def _fitted(histories: list[list[int]], **settings: int) -> Transitions:
    model = Transitions(_KNOWN, TransitionsConfig(**{"successors": _KNOWN, "window": 5, "history": 4} | settings))
    model.fit(UserItems.of_lists(histories))
    return model


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_weighted_mean_of_what_followed(seed: int) -> None:
    histories = _histories(seed)
    model, shares = _fitted(histories), _shares(histories, 5)
    asked = [[5, 7, 9, 11, 13, 15], [2], [], [0, 39, 1]]
    rows = tf.constant([[item + 1 for item in items] + [-1] * (6 - len(items)) for items in asked], tf.int32)
    everything = tf.tile(tf.range(_KNOWN + 1)[tf.newaxis], [len(asked), 1])
    found = model(rows, everything).numpy()
    expected = np.array([[_score(items, item, shares, 4) for item in range(_KNOWN)] for items in asked])
    # The unit is common to all.
    unit = found[0].sum() / expected[0].sum()
    np.testing.assert_allclose(found[:, 1:], expected * unit, rtol=1e-4, atol=1e-6)
    assert (found[:, 0] == 0.0).all(), "nothing is known of an unknown item"
    assert (found[2] == 0.0).all(), "nor of an empty history"


def test_the_unit_is_the_mean_of_the_users_scores() -> None:
    histories = _histories()
    model = _fitted(histories)
    newest = [items[::-1] for items in histories]
    rows = tf.constant([[item + 1 for item in items[:4]] + [-1] * (4 - len(items)) for items in newest], tf.int32)
    found = model(rows, tf.tile(tf.range(1, _KNOWN + 1)[tf.newaxis], [len(newest), 1])).numpy()
    assert found[found > 0].mean() == pytest.approx(1.0, rel=1e-4)


def test_the_largest_shares_are_kept_and_an_unknown_item_takes_its_place_in_the_history() -> None:
    histories = _histories()
    shares = _shares(histories, 5)
    model = _fitted(histories, successors=6)
    for item in range(_KNOWN):
        kept = model.successors.numpy()[item + 1]
        kept = kept[kept <= _KNOWN] - 1
        assert list(kept) == sorted(kept)
        assert min(shares[item][other] for other in kept) >= sorted(shares[item].values())[-6]
    alone, second = (model(tf.constant([row], tf.int32), tf.range(1, _KNOWN + 1)[tf.newaxis]) for row in ([8], [0, 8]))
    # 1 / 2 of 1 + 1 / 2.
    np.testing.assert_allclose(second, alone / 3.0, rtol=1e-5)


@pytest.mark.parametrize("histories", [[], [[]], [[4]], [[4], [7]]], ids=["nobody", "nothing", "one", "no pair"])
def test_without_pairs_every_score_is_zero(histories: list[list[int]]) -> None:
    model = _fitted(histories)
    assert not model(tf.constant([[5, 8]], tf.int32), tf.range(_KNOWN + 1)[tf.newaxis]).numpy().any()
    assert np.isfinite(model.shares.numpy()).all()
    assert model(tf.zeros([0, 3], tf.int32), tf.zeros([0, 5], tf.int32)).shape == (0, 5)
    assert model(tf.zeros([2, 0], tf.int32), tf.zeros([2, 5], tf.int32)).shape == (2, 5)
