"""A trained model as a policy of a simulated world: what its service would answer, without the network."""

import numpy as np
import polars as pl

from benchmarks.simulation.behaviour import Outcome
from benchmarks.simulation.draws import Integers
from benchmarks.simulation.lists import EMPTY, Shown, certain
from benchmarks.simulation.policies import Policy
from benchmarks.simulation.world import Requests, World
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.requests import Requests as ModelRequests
from trainer.data.requests import feature_indices
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary, index_of
from trainer.models.assembly import load_over
from trainer.models.ranker import CatalogueRanker
from trainer.runs import Run

_ABSENT = -1


class ModelPolicy(Policy):
    """Answers each visit by whole requests (exact retrieval, ranking, blend), with the person's clicks as history.

    Args:
        name: For tables.
        world: The world.
        places: Length of the lists.
        live: Whether clicks count at once, as in the service; otherwise histories are those at `serve`.
    """

    def __init__(self, name: str, world: World, places: int = 10, *, live: bool = True) -> None:
        super().__init__(name)
        self._world = world
        self._places = places
        self._live = live
        # Of each person: items in the order of their first clicks.
        self._clicked: list[dict[int, None]] = [{} for _ in range(len(world.people))]
        self._frozen: list[dict[int, None]] | None = None
        self._day = _ABSENT

    def serve(self, run: Run, dataset: Dataset) -> None:
        """Answers with a model from now on.

        Args:
            run: A finished run.
            dataset: With all items that have arrived.
        """
        self._catalogue = Catalogue.from_dataset(dataset)
        vocabulary = Vocabulary.load(run.vocabulary)
        model, items = load_over(run, self._catalogue)
        candidates = run.config.export.candidates
        self._ranker = CatalogueRanker(model, items, run.read("blend.json"), candidates=candidates)
        ids = self._world.items.ids
        row_of = {item_id: row for row, item_id in enumerate(self._catalogue.item_ids)}
        self._rows = np.array([row_of.get(each, _ABSENT) for each in ids], np.int64)
        self._items = np.full(len(self._catalogue), EMPTY, np.int64)
        self._items[self._rows[self._rows >= 0]] = np.flatnonzero(self._rows >= 0)
        index, people = index_of(vocabulary.users), self._world.people
        self._users = np.array([index.get(each, 0) for each in people.ids], np.int32)
        languages = [self._world.languages[each] for each in people.language]
        table = pl.DataFrame({"language": languages, "country": list(people.country)})
        self._features = feature_indices(table, vocabulary)
        self._day = _ABSENT
        if not self._live:
            self._frozen = [dict(each) for each in self._clicked]

    def show(self, requests: Requests, random: np.random.Generator) -> Shown:
        """The model's lists of what is there on that day."""
        if requests.day != self._day:
            allowed = np.zeros(len(self._catalogue), bool)
            rows = self._rows[self._world.catalogue(requests.day)]
            allowed[rows[rows >= 0]] = True
            self._ranker, self._day = self._ranker.restricted(allowed), requests.day
        found = self._ranker.rank(self._of(requests), self._places)
        lists = np.where(found >= 0, self._items[found], EMPTY)
        return certain(lists).draw(random)

    def heard(self, requests: Requests, shown: Shown, outcome: Outcome) -> None:
        """Adds clicks to the histories."""
        for row, place in zip(*np.nonzero(outcome.clicked), strict=True):
            self._clicked[requests.people[row]].setdefault(int(shown.lists[row, place]))

    def _of(self, requests: Requests) -> ModelRequests:
        histories = self._clicked if self._frozen is None else self._frozen
        people: Integers = requests.people
        lists = [[row for item in histories[each] if (row := int(self._rows[item])) >= 0] for each in people]
        return ModelRequests(
            UserItems.of_lists(lists),
            self._users[people],
            {name: column[people] for name, column in self._features.items()},
            requests.timestamps.astype(np.int64),
        )
