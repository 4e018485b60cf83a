"""A world with a known truth: who visits when, what they do with a list, and what is expected of any list."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.simulation import behaviour
from benchmarks.simulation.behaviour import Appeal, Outcome
from benchmarks.simulation.draws import Booleans, Floats, Integers, Stream, stream
from benchmarks.simulation.items import make_items
from benchmarks.simulation.lists import EMPTY, Distribution
from benchmarks.simulation.memory import Memory
from benchmarks.simulation.people import make_people
from benchmarks.simulation.settings import Logit, WorldSettings
from trainer.errors import BabelrecError

DAY: Final = 86_400
# More than a day has.
_VISITS: Final = 100_000_000
# 2 GB of loads.
_LARGEST_MEMORY: Final = 250_000_000


@dataclass(frozen=True, eq=False)
class Requests:
    """n visits of one day, in the order of time, each of which asks for one list.

    Attributes:
        day: Of all of them.
        ids: [n], numbers that no other visit of the world has.
        people: [n].
        timestamps: [n], unix seconds.
        language: [n], that of the page: the person's first.
        memory: What people have seen up to now; None: nothing. It is part of the truth: no policy of a real system
            knows it.
    """

    day: int
    ids: Integers
    people: Integers
    timestamps: Integers
    language: Integers
    memory: Memory | None = None

    def __len__(self) -> int:
        return len(self.people)

    def some(self, which: Booleans | Integers) -> "Requests":
        """A part of them."""
        return replace(
            self,
            ids=self.ids[which],
            people=self.people[which],
            timestamps=self.timestamps[which],
            language=self.language[which],
        )

    def rounds(self) -> Iterator["Requests"]:
        """Everybody's first visit, then everybody's second, ...: what came before is then known to each.

        People don't influence each other, so only the order of each person's visits matters to what they do.
        """
        order = np.argsort(self.people, kind="stable")
        sorted_people = self.people[order]
        first = np.searchsorted(sorted_people, sorted_people)
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order)) - first
        for round_ in range(int(number.max(initial=-1)) + 1):
            yield self.some(number == round_)


class World:
    """People, items and behaviour; equal for equal settings and seeds, bit by bit.

    Items and people are named by their places in `items` and `people`; a list is a row of items, with
    `benchmarks.simulation.lists.EMPTY` in places without one. Nothing here changes: what people have seen is in a
    separate `Memory`, so that many policies can be tried on one world.

    Args:
        settings: What kind of world.
        seed: Which one of them.

    Attributes:
        settings, seed: As given.
        languages: L tags, BCP 47.
        people: Their tastes, languages and activity.
        items: Their text and latent features.
        days: Its history.

    Raises:
        BabelrecError: Its items can't be had.
    """

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.languages = tuple(settings.languages)
        self.people = make_people(settings, seed)
        self.items = make_items(settings, seed)
        self.days = range(settings.days)
        known = self.items
        self._logits = {
            name: behaviour.of_items(weights, known.quality, known.clickbait, known.dearness)
            for name, weights in self._weights().items()
        }
        self._prices = np.nan_to_num(known.price)
        # Languages as bits: whether a person reads an item is one operation.
        bits = 1 << np.arange(len(self.languages))
        self._reads = self.people.reads @ bits
        self._written = self.items.written @ bits

    def catalogue(self, day: int) -> Integers:
        """The items that are there on a day."""
        return self.items.present(day)

    def visits(self, day: int) -> Requests:
        """All visits of a day: Poisson for each person, at times uniform over the day.

        Raises:
            ValueError: The world has no such day.
        """
        if day not in self.days:
            raise ValueError(f"day {day}, where the world has days 0 to {self.days[-1]}")
        random = stream(self.seed, Stream.VISITS, day)
        people = np.repeat(np.arange(len(self.people)), random.poisson(self.people.visits_a_day))
        seconds = random.integers(DAY, size=len(people))
        order = np.argsort(seconds, kind="stable")
        people = people[order]
        return Requests(
            day=day,
            ids=day * _VISITS + np.arange(len(people)),
            people=people,
            timestamps=self.settings.start + day * DAY + seconds[order],
            language=self.people.language[people],
        )

    def memory(self) -> Memory:
        """An empty one.

        Raises:
            BabelrecError: It would be too large.
        """
        entries = len(self.people) * len(self.items)
        if entries > _LARGEST_MEMORY:
            raise BabelrecError(
                f"{len(self.people):,} people and {len(self.items):,} items have {entries:,} loads of fatigue, and "
                f"{_LARGEST_MEMORY:,} are possible. Remedy: lower `people.count` or `items.count`."
            )
        return Memory(len(self.people), len(self.items), self.settings.behaviour.fatigue)

    def remember(self, requests: Requests, lists: Integers, clicked: Booleans) -> None:
        """Adds lists and clicks to the requests' memory, if they have one."""
        if requests.memory is not None:
            requests.memory.remember(requests.people, self._times(requests), lists, clicked)

    def attraction(self, requests: Requests, items: Integers) -> Floats:
        """Probabilities with which people click on items that they examine.

        logistic(weights . (1, cosine, quality, clickbait)) * language * fatigue, where language is 1 if the person
        reads one of the item's titles, else `Behaviour.unreadable`, and fatigue is exp(-load).

        Args:
            requests: n of them.
            items: [n, k], with empty places, or [m] for the same items for all.

        Returns:
            [n, k] or [n, m].
        """
        return self._attraction(requests, items, self._cosines(requests, items))

    def appeal(self, requests: Requests, items: Integers) -> Appeal:
        """All that is true of items, for each request; shapes as of `attraction`."""
        cosines, settings = self._cosines(requests, items), self.settings.behaviour
        satisfaction = self._probability("satisfaction", cosines, items)
        return Appeal(
            attraction=self._attraction(requests, items, cosines),
            purchase=self._probability("purchase", cosines, items),
            satisfaction=satisfaction,
            dwell=behaviour.mean_dwell(settings, satisfaction),
            price=np.broadcast_to(self._prices[items], cosines.shape),
        )

    def respond(self, requests: Requests, lists: Integers, random: np.random.Generator) -> Outcome:
        """Draws what people do with lists. It is not remembered: see `remember`.

        Args:
            requests: n of them.
            lists: [n, k].
            random: Which luck; the same generator state gives the same for the same lists.

        Raises:
            ValueError: A list is malformed, or has an item that is not there on this day.
        """
        self._check(requests, lists)
        return behaviour.sample(self.settings.behaviour, self.appeal(requests, lists), random)

    def expected(self, requests: Requests, lists: Integers) -> Floats:
        """Exact expectations of `behaviour.MEASURES` at each place of lists: [5, n, k].

        Raises:
            ValueError: As in `respond`.
        """
        self._check(requests, lists)
        return behaviour.expected(self.settings.behaviour.examination, self.appeal(requests, lists))

    def value(self, requests: Requests, distribution: Distribution) -> Floats:
        """Exact expectations of `behaviour.MEASURES` under a distribution over lists: [5, n, k].

        This is the truth for off-policy evaluation: the value of a policy on these requests, in the state in which
        they came.
        """
        parts = zip(distribution.probabilities, distribution.lists, strict=True)
        found = np.zeros((len(behaviour.MEASURES), len(requests), distribution.places))
        for probabilities, lists in parts:
            found += probabilities[:, np.newaxis] * self.expected(requests, lists)
        if distribution.at_random.any():
            self._check(requests, distribution.candidates[np.newaxis])
            appeal = self.appeal(requests, distribution.candidates)
            model = self.settings.behaviour.examination
            by_place = behaviour.expected_at_random(model, appeal, distribution.places)
            found += distribution.at_random[:, np.newaxis] * by_place
        return found

    def best(self, requests: Requests, places: int, measure: str = "clicks") -> Integers:
        """The lists [n, places] of the day's items whose expected measure no list exceeds.

        Best for this visit: the fatigue that they leave for later ones is not weighed.
        """
        candidates = self.catalogue(requests.day)
        if places > len(candidates):
            raise ValueError(f"{len(candidates)} items don't fill {places} places")
        attraction = self.attraction(requests, candidates)
        if measure == "clicks":
            return candidates[behaviour.most_clicks(attraction, places)]
        gains = attraction * self.appeal(requests, candidates).rewards()[behaviour.MEASURES.index(measure)]
        return candidates[behaviour.best_order(self.settings.behaviour.examination, attraction, gains, places)]

    def _weights(self) -> dict[str, Logit]:
        settings = self.settings.behaviour
        return {
            "attraction": settings.attraction,
            "purchase": settings.purchase,
            "satisfaction": settings.satisfaction,
        }

    def _cosines(self, requests: Requests, items: Integers) -> Floats:
        tastes = self.people.tastes(requests.people, requests.day)
        vectors = self.items.vectors[items]
        return tastes @ vectors.T if items.ndim == 1 else np.einsum("nd,nkd->nk", tastes, vectors)

    def _probability(self, name: str, cosines: Floats, items: Integers) -> Floats:
        return behaviour.logistic(self._weights()[name].taste * cosines + self._logits[name][items])

    def _attraction(self, requests: Requests, items: Integers, cosines: Floats) -> Floats:
        found = self._probability("attraction", cosines, items)
        reads = (self._reads[requests.people][:, np.newaxis] & self._written[items]) != 0
        found *= np.where(reads, 1.0, self.settings.behaviour.unreadable)
        if requests.memory is not None:
            found *= requests.memory.factors(requests.people, self._times(requests), items)
        if items.ndim == 2:
            found *= items != EMPTY
        return found

    def _times(self, requests: Requests) -> Floats:
        return np.asarray((requests.timestamps - self.settings.start) / DAY)

    def _check(self, requests: Requests, lists: npt.NDArray[np.int64]) -> None:
        if lists.ndim != 2 or len(lists) not in (1, len(requests)) or lists.dtype.kind != "i":
            raise ValueError(f"lists of shape {lists.shape} and type {lists.dtype} for {len(requests)} requests")
        if lists.size and (lists.min() < EMPTY or lists.max() >= len(self.items)):
            raise ValueError(f"items from {lists.min()} to {lists.max()}, where there are {len(self.items)}")
        there = (self.items.arrives[lists] <= requests.day) & (requests.day < self.items.leaves[lists])
        if not (there | (lists == EMPTY)).all():
            raise ValueError(f"a list has an item that is not there on day {requests.day}")
        ordered = np.sort(lists, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != EMPTY)).any():
            raise ValueError("a list has an item twice")
