"""The people of a world: tastes that turn, languages, countries, activity."""

from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.draws import Booleans, Floats, Integers, Stream, normalised, quotas, stream, unit_vectors
from benchmarks.simulation.settings import WorldSettings


@dataclass(frozen=True, eq=False)
class People:
    """N people in a latent space of D dimensions, with L languages.

    Attributes:
        ids: N user ids.
        language: [N], the first language, a place in the settings' languages.
        reads: [N, L], whether a person reads a language.
        country: N codes, ISO 3166-1 alpha-2.
        community: [N].
        visits_a_day: [N], the mean.
        taste: [N, D], unit vectors: on day 0.
        turns_to: [N, D], unit vectors at right angles to ``taste``.
        speed: [N], radians a day.
    """

    ids: tuple[str, ...]
    language: Integers
    reads: Booleans
    country: tuple[str, ...]
    community: Integers
    visits_a_day: Floats
    taste: Floats
    turns_to: Floats
    speed: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def tastes(self, people: Integers, day: int) -> Floats:
        """Unit vectors [n, D] of these people on a day.

        A taste turns evenly in a plane of its own: taste(day) = cos(speed day) taste + sin(speed day) turns_to, so the
        cosine of a person's tastes of two days is cos(speed (day - other day)).
        """
        angle = (self.speed[people] * day)[:, np.newaxis]
        return np.asarray(np.cos(angle) * self.taste[people] + np.sin(angle) * self.turns_to[people])

    def languages(self, person: int, tags: tuple[str, ...]) -> list[str]:
        """What a person reads, the first language first."""
        first = int(self.language[person])
        return [tags[first], *(tags[each] for each in np.flatnonzero(self.reads[person]) if each != first)]


def make_people(settings: WorldSettings, seed: int) -> People:
    """Draws the people.

    Activity is Lomax, then scaled within each language so that its share of the expected visits is exactly the setting.
    """
    own, languages = settings.people, list(settings.languages.values())
    random = stream(seed, Stream.PEOPLE)
    centres = unit_vectors(stream(seed, Stream.SPACE), own.communities, settings.dimensions)
    shares = [each.share for each in languages]
    language = random.permutation(np.repeat(np.arange(len(languages)), quotas(own.count, shares)))
    community = random.integers(own.communities, size=own.count)
    deviation = random.standard_normal((own.count, settings.dimensions)) / np.sqrt(settings.dimensions)
    taste = normalised(centres[community] + own.spread * deviation)
    turns_to = random.standard_normal(taste.shape)
    turns_to = normalised(turns_to - (turns_to * taste).sum(axis=1, keepdims=True) * taste)
    # The mean of a half-normal is sqrt(2 / pi) of its scale.
    speed = own.drift * np.sqrt(np.pi / 2) * np.abs(random.standard_normal(own.count))
    activity = random.pareto(own.activity_shape, own.count)
    country = np.empty(own.count, object)
    for place, each in enumerate(languages):
        members = np.flatnonzero(language == place)
        activity[members] *= own.count * own.visits_a_day * each.share / activity[members].sum()
        names = np.repeat(list(each.countries), quotas(len(members), list(each.countries.values())))
        country[members] = random.permutation(names)
    reads = language[:, np.newaxis] == np.arange(len(languages))
    second = random.choice(len(languages), own.count, p=shares)
    bilingual = random.random(own.count) < own.second_language
    reads[np.flatnonzero(bilingual), second[bilingual]] = True
    return People(
        ids=tuple(f"u{number}" for number in range(own.count)),
        language=language,
        reads=reads,
        country=tuple(str(each) for each in country),
        community=community,
        visits_a_day=activity,
        taste=taste,
        turns_to=turns_to,
        speed=speed,
    )
