"""The positives of a dataset in the order of time, each as a request with what was known at its moment."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.query_features import feature_columns, user_profiles
from trainer.data.requests import Requests, feature_indices
from trainer.data.split import counts_as_positive
from trainer.data.user_items import UserItems, by_time
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.ranking import Rankings, rank_in_blocks
from trainer.evaluation.prequential.windows import Window
from trainer.models.ranker import CatalogueRanker

_Ints = npt.NDArray[np.int64]
# Later than any event.
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Questions:
    """E positives as requests, in the order of time.

    Attributes:
        events: The positives: user_id, item_id, timestamp, and the features of requests.
        users: Int64 [E], index of each one's user in `Stream.user_ids`.
        targets: Int64 [E], catalogue rows of the items to find.
        moments: Int64 [E], unix seconds, ascending.
        histories: The user's positives before that second, as catalogue rows.
    """

    events: pl.DataFrame
    users: _Ints
    targets: _Ints
    moments: _Ints
    histories: UserItems

    def __len__(self) -> int:
        return len(self.targets)


class Stream:
    """Every user's positives in the order of time.

    A repeated pair of user and item counts once, at its first time: items of the history are not recommended, so no
    model could find it again.

    Args:
        dataset: The complete one.
        rules: Event -> smallest value that counts as positive, as in `data.positives`.

    Raises:
        BabelrecError: Nothing is positive.
    """

    def __init__(self, dataset: Dataset, rules: dict[str, float | None]) -> None:
        self.catalogue = Catalogue.from_dataset(dataset)
        """N items: all of the dataset, whether known yet or not."""
        interactions = dataset.interactions()
        features = feature_columns(interactions.limit(0).collect())
        found = interactions.filter(counts_as_positive(rules)).select("user_id", "item_id", "timestamp", *features)
        positives = found.collect(engine="streaming").sort("user_id", *by_time(), maintain_order=True)
        if positives.is_empty():
            raise BabelrecError(
                f"No event of {dataset.name} is positive under data.positives = {rules}. Correct the rules in the "
                "run's config."
            )
        positives = positives.unique(["user_id", "item_id"], keep="first", maintain_order=True)
        self.user_ids: list[str] = positives["user_id"].unique(maintain_order=True).to_list()
        # How many of the user's positives precede: those of the same second don't.
        earlier = (pl.col("timestamp").rank("min").over("user_id") - 1).cast(pl.Int64)
        places = pl.DataFrame({"user_id": self.user_ids}).with_row_index("user")
        self.positives = positives.join(places, on="user_id", maintain_order="left").with_columns(earlier=earlier)
        self._items = UserItems.of(positives, self.catalogue, self.user_ids)
        self._profiles = user_profiles(dataset)
        first = interactions.group_by("item_id").agg(pl.col("timestamp").min()).collect(engine="streaming")
        self.arrivals: _Ints = np.full(len(self.catalogue), _NEVER)
        """Int64 [N], unix seconds of each item's first event of any kind: it is known from then on."""
        self.arrivals[self.catalogue.rows(first["item_id"])] = first["timestamp"].to_numpy()

    def questions(self, window: Window, most: int | None, seed: int) -> Questions:
        """The positives of a window.

        Args:
            window: When.
            most: Maximum number, drawn at random; None: all.
            seed: Of the draw.

        Raises:
            BabelrecError: There are none.
        """
        events = self.positives.filter(window.holds())
        if events.is_empty():
            raise BabelrecError(
                f"Window {window.name} has no positive. Use fewer windows (evaluation.prequential.windows), or check "
                "data.positives."
            )
        if most is not None and events.height > most:
            events = events.sample(most, seed=seed + window.number)
        events = events.sort("timestamp", "user_id", "item_id")
        users = events["user"].to_numpy().astype(np.int64)
        sizes = events["earlier"].to_numpy()
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        place = np.arange(bounds[-1]) + np.repeat(self._items.indptr[users] - bounds[:-1], sizes)
        return Questions(
            events,
            users,
            self.catalogue.rows(events["item_id"]).astype(np.int64),
            events["timestamp"].to_numpy(),
            UserItems(bounds, self._items.items[place]),
        )

    def requests(self, questions: Questions, vocabulary: Vocabulary) -> Requests:
        """The questions as requests to a model with a vocabulary."""
        index = index_of(vocabulary.users)
        table = questions.events.join(self._profiles, on="user_id", how="left", maintain_order="left")
        users = np.array([index.get(user, UNKNOWN) for user in table["user_id"]], np.int32)
        return Requests(questions.histories, users, feature_indices(table, vocabulary), questions.moments)

    def rank(self, ranker: CatalogueRanker, questions: Questions, vocabulary: Vocabulary, k: int) -> Rankings:
        """The k best of the items known at each request's moment, without those of its history.

        Returns:
            Int64 [E, k] catalogue rows, best first, -1 pads.
        """
        requests = self.requests(questions, vocabulary)
        known = np.searchsorted(np.sort(self.arrivals), questions.moments, side="right")
        changes = np.flatnonzero(np.diff(known)) + 1
        found = [np.zeros((0, k), np.int64)]
        for part in np.split(np.arange(len(questions)), changes):
            begin, end = int(part[0]), int(part[-1]) + 1
            there = self.arrivals <= questions.moments[begin]
            found.append(ranker.restricted(there).rank(requests[begin:end], k))
        return np.concatenate(found)

    def popularity(self, window: Window) -> npt.NDArray[np.float64]:
        """Float64 [N], positives of each item in the window before."""
        recent = self.positives.filter(pl.col("timestamp").is_between(window.previous, window.begin, closed="left"))
        rows = self.catalogue.rows(recent["item_id"])
        return np.bincount(rows, minlength=len(self.catalogue)).astype(np.float64)

    def rank_popular(self, questions: Questions, counts: npt.NDArray[np.float64], k: int) -> Rankings:
        """As `rank`, by the `popularity` of the items; ties by item id."""

        def score(part: slice) -> npt.NDArray[np.floating]:
            there = self.arrivals <= questions.moments[part, np.newaxis]
            scores: npt.NDArray[np.float64] = np.where(there, counts, -np.inf)
            histories = questions.histories[part]
            scores[histories.users(), histories.items] = -np.inf
            return scores

        return rank_in_blocks(score, len(questions), len(self.catalogue), None, k)
