import math

import numpy as np
import pytest

from benchmarks.simulation.draws import quotas
from benchmarks.simulation.people import make_people
from benchmarks.simulation.settings import People, WorldSettings


def test_a_language_of_two_percent_has_its_share_of_the_traffic() -> None:
    settings = WorldSettings(people=People(count=500))
    people = make_people(settings, 3)
    for place, language in enumerate(settings.languages.values()):
        mine = people.visits_a_day[people.language == place].sum()
        assert mine / people.visits_a_day.sum() == pytest.approx(language.share, abs=1e-12)
        countries = {people.country[each] for each in np.flatnonzero(people.language == place)}
        assert countries == set(language.countries)
    assert (people.language == 5).sum() == 10
    assert people.visits_a_day.mean() == pytest.approx(0.5)


def test_activity_is_heavy_tailed() -> None:
    people = make_people(WorldSettings(people=People(count=20_000)), 1)
    activity = np.sort(people.visits_a_day)
    # Lomax with shape 2.5: the upper 1 % have more than the exponential distribution's 5.6 %.
    assert activity[-200:].sum() / activity.sum() > 0.08
    assert np.median(activity) < 0.6 * activity.mean()


def test_everybody_reads_the_first_language_and_some_a_second() -> None:
    settings = WorldSettings(people=People(count=4_000))
    people = make_people(settings, 1)
    assert people.reads[np.arange(4_000), people.language].all()
    number = people.reads.sum(axis=1)
    shares = np.array([each.share for each in settings.languages.values()])
    # A second language that is the first again does not count.
    assert number.max() == 2
    assert (number == 2).mean() == pytest.approx(0.25 * (1 - (shares**2).sum()), abs=0.02)
    person = int(np.flatnonzero(number == 2)[0])
    tags = people.languages(person, tuple(settings.languages))
    assert tags[0] == list(settings.languages)[people.language[person]]
    assert len(tags) == 2


def test_tastes_turn_by_the_documented_angle() -> None:
    people = make_people(WorldSettings(people=People(count=3_000, drift=0.05)), 2)
    everybody = np.arange(3_000)
    early, late = people.tastes(everybody, 3), people.tastes(everybody, 10)
    np.testing.assert_allclose(np.linalg.norm(late, axis=1), 1.0)
    angles = np.arccos(np.clip((early * late).sum(axis=1), -1.0, 1.0))
    for person in range(50):
        turned = 7 * people.speed[person]
        assert math.cos(angles[person]) == pytest.approx(math.cos(turned), abs=1e-9)
    assert people.speed.mean() == pytest.approx(0.05, rel=0.05)
    still = make_people(WorldSettings(people=People(count=50, drift=0.0)), 2)
    np.testing.assert_array_equal(still.tastes(np.arange(50), 0), still.tastes(np.arange(50), 20))


def test_people_of_a_community_are_alike() -> None:
    people = make_people(WorldSettings(people=People(count=600)), 4)
    cosines = people.taste @ people.taste.T
    same = people.community[:, None] == people.community
    np.fill_diagonal(same, False)
    assert cosines[same].mean() > cosines[~same].mean() + 0.4


@pytest.mark.parametrize(
    ("count", "shares", "parts"),
    [
        (10, [0.5, 0.3, 0.2], [5, 3, 2]),
        (7, [0.5, 0.3, 0.2], [4, 2, 1]),
        (10, [0.98, 0.02], [9, 1]),
        (1, [0.6, 0.4], [1, 0]),
        (0, [0.6, 0.4], [0, 0]),
    ],
)
def test_quotas(count: int, shares: list[float], parts: list[int]) -> None:
    assert quotas(count, shares).tolist() == parts
