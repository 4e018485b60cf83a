"""Impressions: the items shown to a user at one moment, and which of them were clicked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset

_CLICK, _SHOWN = "click", "impression"


@dataclass(frozen=True, eq=False)
class Impressions:
    """I impressions as compressed rows, in chronological order.

    The candidates of impression ``i`` are at positions ``indptr[i]`` to ``indptr[i + 1] - 1``.

    Attributes:
        ids: I impression ids.
        users: I user ids.
        timestamps: Int64 [I], unix seconds.
        indptr: Int64 [I + 1].
        items: Int32 [E], catalogue rows of the candidates.
        clicked: Bool [E].
    """

    ids: list[str]
    users: list[str]
    timestamps: npt.NDArray[np.int64]
    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    clicked: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, catalogue: Catalogue, *, start: int | None = None, stop: int | None = None
    ) -> "Impressions":
        """Reads the impressions with known outcome.

        A candidate that appears twice in an impression counts once, as clicked if either was.

        Args:
            dataset: Interactions with an ``impression_id`` and a value are read.
            catalogue: Maps item ids to rows.
            start: Unix seconds; earlier impressions are left out.
            stop: Unix seconds; impressions at or after this time are left out.
        """
        interactions = dataset.interactions()
        if "impression_id" not in interactions.collect_schema().names():
            return cls([], [], np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, bool))
        shown = interactions.filter(
            pl.col("impression_id").is_not_null()
            & ((pl.col("event") == _CLICK) | ((pl.col("event") == _SHOWN) & pl.col("value").is_not_null()))
        )
        if start is not None:
            shown = shown.filter(pl.col("timestamp") >= start)
        if stop is not None:
            shown = shown.filter(pl.col("timestamp") < stop)
        lists = (
            shown.group_by("impression_id", "item_id", maintain_order=True)
            .agg(
                pl.col("user_id").first(),
                pl.col("timestamp").first(),
                (pl.col("event") == _CLICK).any().alias("clicked"),
            )
            .group_by("impression_id", maintain_order=True)
            .agg(pl.col("user_id").first(), pl.col("timestamp").min(), "item_id", "clicked")
            .sort("timestamp", "impression_id")
            .collect()
        )
        flat = lists.select("item_id", "clicked").explode("item_id", "clicked", empty_as_null=False)
        return cls(
            ids=lists["impression_id"].to_list(),
            users=lists["user_id"].to_list(),
            timestamps=lists["timestamp"].to_numpy(),
            indptr=np.concatenate([[0], np.cumsum(lists["item_id"].list.len().to_numpy())]).astype(np.int64),
            items=catalogue.rows(flat["item_id"]),
            clicked=flat["clicked"].to_numpy(),
        )

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """Int64 [E]: the impression of each candidate."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def only(self, candidates: npt.NDArray[np.bool_]) -> "Impressions":
        """The impressions restricted to some candidates (bool [E]), without those left with only clicks or non-clicks.

        The rest can be scored: each impression has a click and a candidate that was not clicked.
        """
        clicks = self._counts(candidates & self.clicked)
        others = self._counts(candidates & ~self.clicked)
        return self._select((clicks > 0) & (others > 0), candidates)

    def of(self, impressions: npt.NDArray[np.bool_]) -> "Impressions":
        """A subset of the impressions (bool [I]) with all their candidates."""
        return self._select(impressions, np.ones(len(self.items), bool))

    def containing(self, candidates: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Bool [I]: whether any of an impression's candidates is marked in bool [E]."""
        return self._counts(candidates) > 0

    def _counts(self, candidates: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        return np.bincount(self.owners[candidates], minlength=len(self))

    def _select(self, impressions: npt.NDArray[np.bool_], candidates: npt.NDArray[np.bool_]) -> "Impressions":
        chosen = np.flatnonzero(impressions)
        kept = candidates & impressions[self.owners]
        sizes = self._counts(kept)[chosen]
        return Impressions(
            ids=[self.ids[row] for row in chosen],
            users=[self.users[row] for row in chosen],
            timestamps=self.timestamps[chosen],
            indptr=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            items=self.items[kept],
            clicked=self.clicked[kept],
        )
