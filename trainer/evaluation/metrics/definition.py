"""Definition of a ranking metric and its input."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import Rankings

Floats = NDArray[np.float64]


def popularity_percentiles(training_counts: NDArray[np.integer]) -> Floats:
    """Each item's percentile of training popularity, 0 to 100, [N].

    100 * (items with fewer interactions + half of those with as many, itself included) / N: tied items
    share the middle of their positions (`scipy.stats.percentileofscore` with `kind="mean"`), so
    the mean over the catalogue is exactly 50, and so is the expectation of a random list.
    """
    ordered = np.sort(training_counts)
    below = np.searchsorted(ordered, training_counts, side="left")
    not_above = np.searchsorted(ordered, training_counts, side="right")
    return 50.0 * (below + not_above) / max(ordered.size, 1)


@dataclass(frozen=True, eq=False)
class JudgedLists:
    """The lists of U users over N items, and their hits.

    Attributes:
        items: int64 [U, K], best first, padded with -1.
        relevant: the test items of each user.
        training_counts: int [N], training interactions of each item; None: unknown.
    """

    items: Rankings
    relevant: ItemSets
    training_counts: NDArray[np.integer] | None = None

    @cached_property
    def hits(self) -> NDArray[np.bool_]:
        """Bool [U, K], whether the item at each position is one of the user's test items."""
        return self.relevant.contains(self.items)

    @cached_property
    def hit_counts(self) -> NDArray[np.int64]:
        """Int64 [U, K], the hits among the first 1, 2, ..., K."""
        return np.cumsum(self.hits, axis=1)

    @cached_property
    def sizes(self) -> NDArray[np.integer]:
        """Int [U], test items of each user."""
        return self.relevant.sizes()

    @cached_property
    def popularity(self) -> Floats:
        """Float64 [N], each item's percentile of training popularity; for metrics that need counts."""
        assert self.training_counts is not None
        return popularity_percentiles(self.training_counts)

    def possible(self, k: int) -> NDArray[np.integer]:
        """Int [U], maximum hits of a list of k; 1 for users without test items, whose values are ignored."""
        return np.where(self.sizes > 0, np.minimum(self.sizes, k), 1)


@dataclass(frozen=True, kw_only=True)
class RankingMetric:
    """A metric of full-catalogue rankings at a cut-off k.

    A new one is a module of ``trainer.evaluation.metrics.ranked`` that defines ``METRIC``, or any object whose import
    path is listed in a config's ``evaluation.metrics``.

    Attributes:
        name: as in `evaluation.json`, without ``@k``.
        label: as in tables and plots.
        note: short explanation.
        per_user: (lists, k) -> float64 [U]; values of users without test items are ignored.
        total: (lists, k) -> one value for all users with test items; either this or ``per_user``.
        needs_counts: whether it reads the lists' ``training_counts``; it is skipped if they are unknown.
        is_accuracy: whether it measures ranking quality rather than the content of the lists.
        decimals: decimal places in tables.
        order: sort key of the columns.
    """

    name: str
    label: str
    note: str
    per_user: Callable[[JudgedLists, int], Floats] | None = None
    total: Callable[[JudgedLists, int], float] | None = None
    needs_counts: bool = False
    is_accuracy: bool = True
    decimals: int = 4
    order: int = 100

    def __post_init__(self) -> None:
        if (self.per_user is None) == (self.total is None):
            raise ValueError(f"metric {self.name!r} needs per_user or total, but not both")
        if not self.name or "@" in self.name:
            raise ValueError(f"a metric's name must not be empty or contain @, received {self.name!r}")
