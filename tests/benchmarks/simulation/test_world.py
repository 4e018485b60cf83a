import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulation.behaviour import MEASURES
from benchmarks.simulation.lists import EMPTY, certain, mixed, uniform
from benchmarks.simulation.memory import Memory
from benchmarks.simulation.settings import Fatigue, Items, Logit, People, WorldSettings
from benchmarks.simulation.world import Requests, World
from tests.benchmarks.simulation.worlds import Model, small_world
from trainer.errors import BabelrecError


def _lists(world: World, requests: Requests, places: int = 4, seed: int = 0) -> np.ndarray:
    return uniform(world.catalogue(requests.day), len(requests), places).draw(np.random.default_rng(seed)).lists


def _logistic(weights: Logit, cosine: float, world: World, item: int) -> float:
    items = world.items
    logit = weights.base + weights.taste * cosine + weights.quality * float(items.quality[item])
    logit += weights.clickbait * float(items.clickbait[item]) + weights.price * float(items.dearness[item])
    return 1 / (1 + math.exp(-logit))


def test_one_visit_by_hand() -> None:
    """Attraction and what follows a click, in plain Python, after two lists with clicks."""
    world = small_world()
    behaviour, people, items = world.settings.behaviour, world.people, world.items
    person = next(each for each in range(60) if not people.reads[each].all())
    memory = world.memory()
    start = world.settings.start
    lists = np.array([[0, 1, 2, 3, 4, 5]])
    for seconds, clicked in ((1_000, [1, 0, 0, 0, 0, 0]), (90_000, [0, 0, 1, 0, 0, 0])):
        visit = _visit(world, person, seconds, memory)
        world.remember(visit, np.array([[0, 1, 2, EMPTY, EMPTY, EMPTY]]), np.array([clicked], bool))
    now = 3 * 86_400 + 50
    appeal = world.appeal(_visit(world, person, now, memory), lists)
    readers = set(people.languages(person, world.languages))
    angle = 3 * people.speed[person]
    taste = math.cos(angle) * people.taste[person] + math.sin(angle) * people.turns_to[person]
    seen_first, seen_second = (math.exp(-(now - each) / 86_400 / 3.0) for each in (1_000, 90_000))
    loads = {0: 1.1 * seen_first + 0.1 * seen_second, 1: 0.1 * (seen_first + seen_second)}
    loads[2] = 0.1 * seen_first + 1.1 * seen_second
    for item in range(6):
        cosine = sum(float(a) * float(b) for a, b in zip(taste, items.vectors[item], strict=True))
        attraction = _logistic(behaviour.attraction, cosine, world, item)
        attraction *= 1.0 if readers & set(items.titles[item]) else 0.05
        attraction *= math.exp(-loads.get(item, 0.0))
        satisfaction = _logistic(behaviour.satisfaction, cosine, world, item)
        dwell = 60 * math.exp(2.0 * (satisfaction - 0.5) + 0.8**2 / 2)
        found = (appeal.attraction, appeal.satisfaction, appeal.dwell, appeal.purchase, appeal.price)
        wanted = (
            attraction,
            satisfaction,
            dwell,
            _logistic(behaviour.purchase, cosine, world, item),
            float(items.price[item]),
        )
        for each, value in zip(found, wanted, strict=True):
            assert float(each[0, item]) == pytest.approx(value, rel=1e-12)
    assert start == 1_735_689_600
    assert any(not readers & set(items.titles[item]) for item in range(6))
    catalogue = world.catalogue(3)
    all_items = world.attraction(_visit(world, person, now, memory), catalogue)
    for item in range(6):
        if item in catalogue:
            place = int(np.flatnonzero(catalogue == item)[0])
            assert all_items[0, place] == pytest.approx(appeal.attraction[0, item], rel=1e-12)


def _visit(world: World, person: int, seconds: int, memory: Memory | None) -> Requests:
    people = np.array([person])
    times = np.array([world.settings.start + seconds])
    found = Requests(seconds // 86_400, np.array([0]), people, times, world.people.language[people])
    return replace(found, memory=memory)


def test_the_same_seed_gives_the_same_world_bit_by_bit() -> None:
    settings = small_world().settings
    one, same, other = World(settings, 5), World(settings, 5), World(settings, 6)
    for day in (0, 4):
        for name in ("ids", "people", "timestamps", "language"):
            np.testing.assert_array_equal(getattr(one.visits(day), name), getattr(same.visits(day), name))
        assert one.visits(day).people.tolist() != other.visits(day).people.tolist()
    for part in ("people", "items"):
        found, again, different = (getattr(each, part) for each in (one, same, other))
        for name in found.__dataclass_fields__:
            values = getattr(found, name)
            if isinstance(values, np.ndarray):
                np.testing.assert_array_equal(values, getattr(again, name), err_msg=name)
            else:
                assert values == getattr(again, name), name
        assert any(
            not np.array_equal(getattr(found, name), getattr(different, name)) for name in ("taste", "vectors")
            if hasattr(found, name)
        )  # fmt: skip
    requests = one.visits(2)
    lists = _lists(one, requests)
    answers = [each.respond(requests, lists, np.random.default_rng(1)) for each in (one, same)]
    for name in answers[0].__dataclass_fields__:
        np.testing.assert_array_equal(getattr(answers[0], name), getattr(answers[1], name))


def test_a_change_of_one_part_leaves_the_others() -> None:
    settings = small_world().settings
    more = settings.model_copy(update={"items": Items(count=50, fresh_days=4)})
    np.testing.assert_array_equal(World(more, 5).people.taste, small_world().people.taste)
    np.testing.assert_array_equal(World(more, 5).visits(3).timestamps, small_world().visits(3).timestamps)


def test_visits_are_poisson_at_times_of_their_day() -> None:
    settings = WorldSettings(people=People(count=300, visits_a_day=2.0), days=28)
    world = World(settings, 1)
    days = [world.visits(day) for day in world.days]
    total = sum(map(len, days))
    assert total == pytest.approx(28 * 600, abs=4 * math.sqrt(28 * 600))
    for day, requests in enumerate(days):
        seconds = requests.timestamps - settings.start - day * 86_400
        assert (np.diff(seconds) >= 0).all()
        assert seconds.min() >= 0
        assert seconds.max() < 86_400
        np.testing.assert_array_equal(requests.language, world.people.language[requests.people])
    ids = np.concatenate([each.ids for each in days])
    assert len(np.unique(ids)) == total
    korean = np.concatenate([each.language for each in days]) == 5
    assert korean.mean() == pytest.approx(0.02, abs=4 * math.sqrt(0.02 * 0.98 / total))


def test_rounds_have_everybody_once_and_keep_each_person_s_order() -> None:
    requests = small_world().visits(1)
    rounds = list(requests.rounds())
    assert len(rounds) == np.bincount(requests.people).max()
    assert all(len(set(each.people.tolist())) == len(each) for each in rounds)
    assert sorted(np.concatenate([each.ids for each in rounds]).tolist()) == requests.ids.tolist()
    last: dict[int, int] = {}
    for each in rounds:
        for person, time in zip(each.people.tolist(), each.timestamps.tolist(), strict=True):
            assert time >= last.get(person, 0)
            last[person] = time
    with pytest.raises(ValueError, match="is there twice"):
        small_world().remember(
            replace(requests, memory=small_world().memory()),
            _lists(small_world(), requests),
            np.zeros((len(requests), 4), bool),
        )


def test_fatigue_falls_with_time_and_is_the_person_s_own() -> None:
    world = small_world()
    memory = world.memory()
    before = _visit(world, 7, 100, memory)
    item = np.array([[3]])
    fresh = world.attraction(_visit(world, 7, 100, None), item)[0, 0]
    world.remember(before, item, np.array([[True]]))
    ratios = [
        world.attraction(_visit(world, 7, seconds, memory), item)[0, 0]
        / world.attraction(_visit(world, 7, seconds, None), item)[0, 0]
        for seconds in (100, 100 + 3 * 86_400 - 200, 6 * 86_400)
    ]
    assert ratios[0] == pytest.approx(math.exp(-1.1))
    assert ratios[1] == pytest.approx(math.exp(-1.1 * math.exp(-(3 - 200 / 86_400) / 3)))
    assert ratios[0] < ratios[1] < ratios[2] < 1
    assert fresh > 0
    other = _visit(world, 8, 100, memory)
    assert world.attraction(other, item)[0, 0] == world.attraction(replace(other, memory=None), item)[0, 0]


@pytest.mark.parametrize("model", ["pbm", "craswell", "cascade"])
def test_the_value_of_a_mixture_is_the_mean_of_its_lists(model: Model) -> None:
    world = small_world(model)
    requests = world.visits(2).some(np.arange(3))
    candidates = world.catalogue(2)[:5]
    base = certain(np.tile(candidates[:3], (3, 1)))
    found = world.value(requests, mixed(base, 0.4, candidates))
    wanted = 0.6 * world.expected(requests, base.lists[0])
    lists = list(itertools.permutations(candidates.tolist(), 3))
    for chosen in lists:
        wanted += 0.4 / len(lists) * world.expected(requests, np.tile(chosen, (3, 1)))
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


@pytest.mark.parametrize("model", ["pbm", "craswell", "cascade"])
def test_samples_agree_with_the_value_of_a_policy(model: Model) -> None:
    """From a request to clicks, purchases, satisfaction: 300 times, by place."""
    world = small_world(model)
    requests = world.visits(3)
    catalogue = world.catalogue(3)
    policy = mixed(certain(world.best(requests, 5)), 0.5, catalogue)
    exact = world.value(requests, policy).sum(axis=1)
    random, sums = np.random.default_rng(3), []
    for _ in range(300):
        shown = policy.draw(random)
        outcome = world.respond(requests, shown.lists, random)
        paid = outcome.purchased * world.items.price[shown.lists]
        parts = (outcome.clicked, outcome.purchased, outcome.satisfaction, outcome.dwell, paid)
        sums.append([part.sum(axis=0, dtype=np.float64) for part in parts])
    drawn = np.array(sums)
    errors = drawn.std(axis=0) / math.sqrt(len(sums))
    assert (np.abs(drawn.mean(axis=0) - exact) < 4 * errors).all(), MEASURES


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("model", ["pbm", "cascade"])
def test_no_list_beats_the_best_of_a_world(model: Model, measure: str) -> None:
    world = small_world(model)
    requests, place = world.visits(5), MEASURES.index(measure)
    best = world.expected(requests, world.best(requests, 6, measure))[place].sum(axis=1)
    for seed in range(10):
        other = world.expected(requests, _lists(world, requests, 6, seed))[place].sum(axis=1)
        assert (other <= best * (1 + 1e-12)).all()
    backwards = world.best(requests, 6, measure)[:, ::-1].copy()
    assert (world.expected(requests, backwards)[place].sum(axis=1) <= best * (1 + 1e-12)).all()


def test_an_empty_place_is_worth_nothing_and_hides_nothing() -> None:
    world = small_world("craswell")
    requests = world.visits(0)
    lists = _lists(world, requests, 3)
    gaps = np.insert(lists, 1, EMPTY, axis=1)
    found = world.expected(requests, gaps)
    np.testing.assert_array_equal(found[:, :, 1], 0.0)
    np.testing.assert_allclose(found[:, :, [0, 2, 3]], world.expected(requests, lists))
    assert not world.respond(requests, gaps, np.random.default_rng(0)).clicked[:, 1].any()


def test_malformed_lists() -> None:
    world = small_world()
    requests = world.visits(6)
    lists = _lists(world, requests)
    absent = int(np.flatnonzero(world.items.leaves == 6)[0])
    for column, item, message in ((0, absent, "not there on day 6"), (1, 10_000, "items from"), (1, -2, "items from")):
        wrong = lists.copy()
        wrong[3, column] = item
        with pytest.raises(ValueError, match=message):
            world.expected(requests, wrong)
    twice = lists.copy()
    twice[2, 1] = twice[2, 0]
    with pytest.raises(ValueError, match="an item twice"):
        world.respond(requests, twice, np.random.default_rng(0))
    with pytest.raises(ValueError, match="lists of shape"):
        world.expected(requests, lists[:5])
    with pytest.raises(ValueError, match="don't fill"):
        world.best(requests, 41)
    with pytest.raises(ValueError, match="days 0 to 6"):
        world.visits(7)


def test_a_memory_that_would_be_too_large() -> None:
    settings = WorldSettings(people=People(count=300_000), items=Items(count=1_000))
    with pytest.raises(BabelrecError, match=r"loads of fatigue.*Remedy"):
        World(settings, 1).memory()


def test_without_fatigue_nothing_is_tiring() -> None:
    settings = small_world().settings
    behaviour = settings.behaviour.model_copy(update={"fatigue": Fatigue(shown=0.0, taken=0.0)})
    world = World(settings.model_copy(update={"behaviour": behaviour}), 5)
    memory = world.memory()
    visit = _visit(world, 1, 10, memory)
    before = world.attraction(visit, np.array([[1, 2]]))
    world.remember(visit, np.array([[1, 2]]), np.array([[True, False]]))
    np.testing.assert_array_equal(world.attraction(visit, np.array([[1, 2]])), before)
