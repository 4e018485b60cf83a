"""Closed forms against enumeration in plain Python, and against many samples."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.simulation.behaviour import (
    MEASURES,
    Appeal,
    best_order,
    expected,
    expected_at_random,
    most_clicks,
    sample,
)
from benchmarks.simulation.draws import Floats
from benchmarks.simulation.settings import Behaviour, Examination
from tests.benchmarks.simulation.worlds import CASCADE, CRASWELL, MODELS, PBM

_BEHAVIOUR = Behaviour()


def _appeal(shape: tuple[int, int], seed: int = 0) -> Appeal:
    random = np.random.default_rng(seed)
    attraction, purchase, satisfaction = random.uniform(0.02, 0.9, (3, *shape))
    dwell = 60 * np.exp(2.0 * (satisfaction - 0.5) + 0.32)
    return Appeal(attraction, purchase, satisfaction, dwell, random.uniform(5, 50, shape))


def _paths(model: Examination, attraction: list[float]) -> Iterator[tuple[list[int], float]]:
    """All possible clicks on a list, with their probabilities."""
    if model.model == "pbm":
        chances = [a * (1 / rank) ** model.decay for rank, a in enumerate(attraction, 1)]
        for clicks in itertools.product((0, 1), repeat=len(attraction)):
            yield list(clicks), math.prod(p if c else 1 - p for p, c in zip(chances, clicks, strict=True))
        return

    def onward(place: int, clicks: list[int], probability: float) -> Iterator[tuple[list[int], float]]:
        if place == len(attraction):
            yield clicks, probability
            return
        for clicked, chance in ((1, attraction[place]), (0, 1 - attraction[place])):
            then = [*clicks[:place], clicked, *clicks[place + 1 :]]
            goes_on = model.after_click if clicked else model.after_skip
            yield then, probability * chance * (1 - goes_on)
            yield from onward(place + 1, then, probability * chance * goes_on)

    yield from onward(0, [0] * len(attraction), 1.0)


def _by_paths(model: Examination, appeal: Appeal, row: int) -> Floats:
    """[5, k]"""
    clicks = np.zeros(appeal.attraction.shape[1])
    total = 0.0
    for path, probability in _paths(model, appeal.attraction[row].tolist()):
        clicks += probability * np.array(path)
        total += probability
    assert total == pytest.approx(1.0)
    paid = appeal.purchase[row] * appeal.price[row]
    each = [np.ones(len(clicks)), appeal.purchase[row], appeal.satisfaction[row], appeal.dwell[row], paid]
    return np.array([clicks * reward for reward in each])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_expectations_are_those_of_all_paths(model: Examination) -> None:
    appeal = _appeal((4, 5))
    found = expected(model, appeal)
    for row in range(4):
        np.testing.assert_allclose(found[:, row], _by_paths(model, appeal, row), rtol=1e-12)


def test_craswell_s_cascade_has_the_published_form() -> None:
    """P(click at r) = a_r prod_(i < r) (1 - a_i)."""
    appeal = _appeal((1, 4))
    a = appeal.attraction[0]
    published = [a[0], a[1] * (1 - a[0]), a[2] * (1 - a[0]) * (1 - a[1])]
    np.testing.assert_allclose(expected(CRASWELL, appeal)[0, 0, :3], published)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_samples_agree_with_expectations_at_each_place(model: Examination) -> None:
    rows = 60_000
    one = _appeal((1, 6), seed=3)
    appeal = Appeal(*(np.repeat(getattr(one, name), rows, axis=0) for name in one.__dataclass_fields__))
    # The drawn time depends on the satisfaction by the settings, of which `_appeal` has the default ones.
    outcome = sample(_BEHAVIOUR.model_copy(update={"examination": model}), appeal, np.random.default_rng(1))
    drawn = (
        outcome.clicked,
        outcome.purchased,
        outcome.satisfaction,
        outcome.dwell,
        outcome.purchased * appeal.price,
    )
    exact = expected(model, one)[:, 0]
    for name, values, wanted in zip(MEASURES, drawn, exact, strict=True):
        errors = values.std(axis=0) / math.sqrt(rows)
        assert (np.abs(values.mean(axis=0) - wanted) < 4 * errors).all(), name
    assert outcome.rated.sum() / outcome.clicked.sum() == pytest.approx(0.3, abs=0.01)
    assert not (outcome.clicked & ~outcome.examined).any()
    assert not ((outcome.purchased | outcome.rated | (outcome.dwell > 0)) & ~outcome.clicked).any()
    ratings = 1 + 4 * outcome.satisfaction[outcome.clicked]
    assert set(ratings.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("places", [1, 3, 5])
def test_a_list_at_random_is_the_mean_of_all_lists(model: Examination, places: int) -> None:
    appeal = _appeal((2, 5), seed=1)
    wanted = np.zeros((5, 2, places))
    lists = list(itertools.permutations(range(5), places))
    for chosen in lists:
        wanted += expected(model, _part(appeal, chosen)) / len(lists)
    np.testing.assert_allclose(expected_at_random(model, appeal, places), wanted, rtol=1e-11)


def test_lists_at_random_of_a_large_catalogue() -> None:
    """Also where the symmetric polynomials are large: against the mean over drawn lists."""
    appeal = _appeal((1, 500), seed=2)
    found = expected_at_random(CASCADE, appeal, 10)[0, 0]
    random = np.random.default_rng(0)
    drawn = np.array(
        [expected(CASCADE, _part(appeal, random.permutation(500)[:10].tolist()))[0, 0] for _ in range(3_000)]
    )
    assert (np.abs(drawn.mean(axis=0) - found) < 4 * drawn.std(axis=0) / math.sqrt(3_000)).all()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("measure", MEASURES)
def test_no_list_beats_the_best(model: Examination, measure: str) -> None:
    appeal = _appeal((6, 6), seed=4)
    place = MEASURES.index(measure)
    gains = appeal.attraction * appeal.rewards()[place]
    best = best_order(model, appeal.attraction, gains, 3)
    values = {
        chosen: expected(model, _part(appeal, chosen))[place].sum(axis=1)
        for chosen in itertools.permutations(range(6), 3)
    }
    for row in range(6):
        highest = max(each[row] for each in values.values())
        assert values[tuple(best[row].tolist())][row] == pytest.approx(highest, rel=1e-12)
    if measure == "clicks":
        for row, chosen in enumerate(most_clicks(appeal.attraction, 3).tolist()):
            assert values[tuple(chosen)][row] == pytest.approx(values[tuple(best[row].tolist())][row], rel=1e-12)


@pytest.mark.parametrize("model", [PBM, CASCADE], ids=["pbm", "cascade"])
def test_the_best_list_may_be_the_whole_catalogue(model: Examination) -> None:
    appeal = _appeal((3, 4))
    best = best_order(model, appeal.attraction, appeal.attraction * appeal.purchase, 4)
    assert (np.sort(best, axis=1) == np.arange(4)).all()


def test_another_list_meets_the_same_luck() -> None:
    first, second = _appeal((50, 4), seed=1), _appeal((50, 4), seed=1)
    second.attraction[:, 1:] = 0.0
    found = [sample(_BEHAVIOUR, each, np.random.default_rng(9)) for each in (first, second)]
    np.testing.assert_array_equal(found[0].clicked[:, 0], found[1].clicked[:, 0])
    np.testing.assert_array_equal(found[0].dwell[:, 0], found[1].dwell[:, 0])
    assert not found[1].clicked[:, 1:].any()


def _part(appeal: Appeal, chosen: tuple[int, ...] | list[int]) -> Appeal:
    return Appeal(*(getattr(appeal, name)[:, list(chosen)] for name in appeal.__dataclass_fields__))
