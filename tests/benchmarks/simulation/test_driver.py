import numpy as np
import pytest

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.draws import Floats, Integers
from benchmarks.simulation.driver import best_ctr, figures, run, standard_errors
from benchmarks.simulation.lists import Shown
from benchmarks.simulation.policies import (
    EpsilonGreedy,
    FunctionPolicy,
    KnownPolicy,
    Oracle,
    Popularity,
    RandomPolicy,
)
from benchmarks.simulation.settings import Fatigue
from benchmarks.simulation.world import Requests, World
from tests.benchmarks.simulation.worlds import Model, small_world


def _policies(world: World) -> list[KnownPolicy]:
    return [
        RandomPolicy(world, 5),
        Popularity(world, 5),
        EpsilonGreedy(world, Popularity(world, 5), 0.3),
        Oracle(world, 5, "satisfaction"),
        Oracle(world, 5),
    ]


@pytest.mark.parametrize("model", ["pbm", "cascade"])
def test_observed_and_exact_figures_agree_and_nobody_beats_the_best(model: Model) -> None:
    world = small_world(model)
    for policy in _policies(world):
        done = run(world, policy, world.days)
        assert abs(standard_errors([done])) < 3.5, policy.name
        difference = (done.observed - done.expected).sum(axis=0)
        errors = np.sqrt(((done.observed - done.expected) ** 2).sum(axis=0))
        assert (np.abs(difference) < 4 * errors).all(), policy.name
        assert (done.expected[:, 0] <= done.best * (1 + 1e-12)).all(), policy.name
        if policy.name == "oracle":
            np.testing.assert_allclose(done.expected[:, 0], done.best)
            assert figures(done, done.expected).ctr == pytest.approx(best_ctr(done))


def test_better_informed_policies_get_more_clicks() -> None:
    settings = small_world().settings
    untiring = settings.behaviour.model_copy(update={"fatigue": Fatigue(shown=0.0, taken=0.0)})
    world = World(settings.model_copy(update={"behaviour": untiring}), 5)
    popularity = Popularity(world, 5)
    random = run(world, RandomPolicy(world, 5), world.days, part=1, listeners=[popularity.heard])
    popular, oracle = (run(world, each, world.days) for each in (popularity, Oracle(world, 5)))
    ctr = [figures(each, each.expected).ctr for each in (random, popular, oracle)]
    assert 2 * ctr[0] < 1.3 * ctr[1] < ctr[2]


def test_figures_by_language_add_up() -> None:
    world = small_world()
    done = run(world, RandomPolicy(world, 5), range(3))
    whole = figures(done, done.observed)
    parts = [figures(done, done.observed, place) for place in range(6)]
    assert sum(each.visits for each in parts) == whole.visits == len(done)
    clicks = sum(each.ctr * each.visits * 5 for each in parts if each.visits)
    assert clicks == pytest.approx(done.observed[:, 0].sum())
    assert whole.satisfied == pytest.approx(whole.satisfaction * done.observed[:, 0].mean())


def test_runs_are_repeated_exactly_and_parts_differ() -> None:
    world = small_world()
    found = [run(world, EpsilonGreedy(world, Popularity(world, 5), 0.3), range(3), part=part) for part in (0, 0, 1)]
    np.testing.assert_array_equal(found[0].observed, found[1].observed)
    assert not np.array_equal(found[0].observed, found[2].observed)
    fast = run(world, EpsilonGreedy(world, Popularity(world, 5), 0.3), range(3), exact=False)
    np.testing.assert_array_equal(fast.observed, found[0].observed)
    assert np.isnan(fast.expected).all()


def test_a_log_with_propensities_estimates_another_policy_s_exact_value() -> None:
    """Inverse propensity scores by place (Li et al. 2018) are unbiased under a PBM: the mean of 20 logs."""
    world = small_world()
    logging = EpsilonGreedy(world, Popularity(world, 5), 0.5)
    target = FunctionPolicy("target", lambda requests: world.best(requests, 5, "purchases"))
    errors = []
    for part in range(20):
        estimates: list[Floats] = []

        def hear(requests: Requests, shown: Shown, outcome: Outcome, kept: list[Floats] = estimates) -> None:
            same = target.distribution(requests).propensities(shown.lists)
            kept.append((outcome.clicked * same / shown.propensities).sum(axis=1))

        done = run(world, logging, range(4), part=part, listeners=[hear], targets=[target])
        errors.append(np.concatenate(estimates).mean() - done.targets["target"][:, 0].mean())
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(len(errors))
    assert done.targets["target"][:, 0].mean() > 1.5 * done.expected[:, 0].mean()


def test_popularity_is_counted_by_language() -> None:
    world = small_world()
    policy = Popularity(world, 3)
    requests = next(iter(world.visits(0).rounds()))
    lists = np.tile(world.catalogue(0)[:3], (len(requests), 1))
    english = requests.language == 0
    clicked = np.zeros(lists.shape, bool)
    clicked[english, 1], clicked[~english, 2] = True, True
    nothing = np.zeros(lists.shape)
    shown = Shown(lists, nothing + 1, np.ones(len(lists)))
    policy.heard(requests, shown, Outcome(clicked, clicked, clicked, nothing, clicked, nothing))
    tops = policy.distribution(requests).lists[0]
    assert set(tops[english, 0].tolist()) == {int(lists[0, 1])}
    assert set(tops[~english, 0].tolist()) == {int(lists[0, 2])}
    # What nobody of the language has clicked follows by everybody's clicks, then the newest first.
    assert set(tops[english, 1].tolist()) == {int(lists[0, 2])}
    assert set(tops[:, 2].tolist()) == {int(world.catalogue(0)[-1])}


def test_only_a_known_policy_s_draws_are_averaged() -> None:
    """A function that returns lists, and one that returns distributions, are the same policy."""
    world = small_world()

    def first(requests: Requests) -> Integers:
        return np.tile(world.catalogue(requests.day)[:5], (len(requests), 1))

    lists = run(world, FunctionPolicy("lists", first), range(2))
    same = FunctionPolicy("same", lambda requests: FunctionPolicy("", first).distribution(requests))
    np.testing.assert_array_equal(run(world, same, range(2)).expected, lists.expected)
    with pytest.raises(ValueError, match="no visits"):
        run(world, FunctionPolicy("lists", first), [])


def test_a_run_tires_people_of_what_it_shows() -> None:
    world, memory = small_world(), small_world().memory()
    shown = world.catalogue(6)[:5]
    done = run(world, FunctionPolicy("same", lambda requests: np.tile(shown, (len(requests), 1))), [5], memory=memory)
    visitors = np.unique(world.visits(5).people)
    factors = memory.factors(visitors, np.full(len(visitors), 6.0), world.catalogue(6))
    assert (factors[:, :5] < 1.0).all()
    assert (factors[:, 5:] == 1.0).all()
    again = run(world, FunctionPolicy("same", lambda requests: np.tile(shown, (len(requests), 1))), [5], memory=memory)
    assert (again.expected[:, 0] < done.expected[:, 0]).all()
