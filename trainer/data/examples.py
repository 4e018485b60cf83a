"""Training examples: interactions as numbers, with what each needs to know about its user."""

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.ids import looked_up
from trainer.data.query_features import feature_columns, user_profiles
from trainer.data.requests import feature_indices
from trainer.data.split import Split
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.training.settings import TransferConfig

_Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Examples:
    """E interactions; ``start`` and ``length`` delimit the positives usable as their history."""

    user: _Ints
    features: dict[str, _Ints]
    item: _Ints
    timestamp: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    length: _Ints
    skip: _Ints
    labels: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.user)

    def at(self, rows: npt.NDArray[np.integer]) -> "Examples":
        """Some of them."""
        features = {name: column[rows] for name, column in self.features.items()}
        columns = {each.name: getattr(self, each.name)[rows] for each in fields(self) if each.name != "features"}
        return Examples(features=features, **columns)


def replayed(examples: Examples, config: TransferConfig, seed: int) -> Examples:
    """The examples since `TransferConfig.since`, and a sample of the older ones."""
    if config.since is None or config.replayed is None:
        return examples
    is_new = examples.timestamp >= config.since
    old = np.flatnonzero(~is_new)
    most = math.ceil(config.replayed * int(is_new.sum()))
    drawn = np.random.default_rng(seed).permutation(old)[:most]
    return examples.at(np.sort(np.concatenate([drawn, np.flatnonzero(is_new)])))


class ExampleBuilder:
    """Makes examples of events. Ids are looked up once for each table; all else is by numbers."""

    def __init__(
        self, dataset: Dataset, catalogue: Catalogue, vocabulary: Vocabulary, split: Split, config: Config
    ) -> None:
        self._catalogue = catalogue
        self._vocabulary = vocabulary
        self._causal = config.training.history == "causal"
        self._users = pl.DataFrame({"user_id": vocabulary.users}, schema={"user_id": pl.String}).with_row_index("user")
        self._profiles = self._users.join(user_profiles(dataset), on="user_id", how="left", maintain_order="left")
        numbered = self._numbered(split.train)
        # A split is sorted by time for each user.
        numbered = numbered.with_columns(split.train["timestamp"]).sort("user", maintain_order=True)
        sizes = np.bincount(numbered["user"].to_numpy(), minlength=len(vocabulary.users))
        self.histories = UserItems.of_sizes(sizes, numbered["item"].to_numpy())
        self._positives = numbered.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int32).over("user"))

    def _numbered(self, table: pl.DataFrame) -> pl.DataFrame:
        """``user``, int64 place in the vocabulary, and ``item``, int32 catalogue row, of rows with ids."""
        users = looked_up(table["user_id"], self._places)
        return pl.DataFrame({"user": users, "item": self._catalogue.rows(table["item_id"])})

    def _places(self, user_ids: pl.Series) -> pl.Series:
        ids = user_ids.to_frame("user_id")
        return ids.join(self._users, on="user_id", how="left", maintain_order="left")["user"].cast(pl.Int64)

    def build(self, events: pl.DataFrame, labels: pl.DataFrame) -> Examples:
        """Examples of ``events`` (user_id, item_id, timestamp, and features where there are any)."""
        names = [name for name in labels.columns if name.startswith("label_")]
        numbered = self._numbered(events)
        pair = ["user", "item"]
        skip = numbered.join(self._positives.select(*pair, "place"), on=pair, how="left", maintain_order="left")
        if events is labels:
            known = labels.select(names)
        else:
            of_pairs = self._numbered(labels).hstack(labels.select(names))
            known = numbered.join(of_pairs, on=pair, how="left", maintain_order="left").select(names)
        user = numbered["user"].to_numpy()
        start = self.histories.indptr[user]
        length = (self.histories.indptr[user + 1] - start).astype(np.int32)
        skip_places = skip["place"].fill_null(-1).to_numpy()
        if self._causal:
            # A positive's history is what precedes it in the user's order; many share one second.
            earlier = self._earlier(user, events["timestamp"].to_numpy())
            length = np.where(skip_places >= 0, skip_places, earlier).astype(np.int32)
            skip_places = np.full_like(skip_places, -1)
        return Examples(
            user=(user + 1).astype(np.int32),
            features=feature_indices(self._with_profiles(events, user), self._vocabulary),
            item=numbered["item"].to_numpy(),
            timestamp=events["timestamp"].to_numpy(),
            start=start,
            length=length,
            skip=skip_places,
            labels=known.to_numpy().astype(np.float32).reshape(events.height, len(names)),
        )

    def _with_profiles(self, events: pl.DataFrame, users: npt.NDArray[np.int64]) -> pl.DataFrame:
        """The columns of the events, and of their users, that are features."""
        profiles = self._profiles.drop("user", "user_id")
        # Without columns a frame has no rows either.
        return events.select("timestamp", *feature_columns(events)).hstack(profiles[users] if profiles.width else [])

    def _earlier(self, users: npt.NDArray[np.int64], timestamps: npt.NDArray[np.int64]) -> _Ints:
        """How many positives of the user are strictly older than each row."""
        times = self._positives["timestamp"].to_numpy()
        first = times.min()
        span = times.max() - first + 2
        # One increasing number for a user's positives after another's: all are searched at once.
        known = self._positives["user"].to_numpy() * span + (times - first)
        wanted = users * span + np.clip(timestamps - first, 0, span - 1)
        places: npt.NDArray[np.int64] = np.searchsorted(known, wanted)
        return (places - self.histories.indptr[users]).astype(np.int32)
