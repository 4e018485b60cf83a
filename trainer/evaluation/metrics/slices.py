"""The same metrics over parts of the test items or of the users.

By items (language, cold or warm): rankings stay those of the full catalogue, and a user's test items are
restricted to the slice. So recall@k of the slice "ko" is the number of Korean test items among the first k
places, divided by min(k, the user's Korean test items); users without a test item in the slice are excluded.

By users (activity): rankings and test items are unchanged, and only the users of the slice are averaged.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics.definition import RankingMetric
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import KS, PerUserMetrics, ranking_metrics
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.registry import METRICS

ITEM_LANGUAGE = "item_language"
ITEM_TEMPERATURE = "item_temperature"
ITEM_TEMPERATURE_ALONE = "item_temperature_alone"
"""As `ITEM_TEMPERATURE`, but each group is ranked without the other: the easier question of cold-start papers."""
USER_ACTIVITY = "user_activity"

COLD, WARM = "cold", "warm"
UNDETERMINED = "und"
"""BCP 47's subtag for an unknown language."""

_ACTIVITY_BOUNDS = (0, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class SliceSize:
    """The amount of data behind a slice's metrics.

    Attributes:
        users: users with a test item in the slice.
        items: catalogue items in the slice; of a user slice, distinct test items of its users.
        positives: (user, test item) pairs in the slice; of impressions, clicks.
        impressions: number of impressions, if averages are over impressions.
    """

    users: int
    items: int
    positives: int
    impressions: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One part of the data and the metrics over it."""

    size: SliceSize
    metrics: PerUserMetrics


def language_labels(languages: Sequence[str | None]) -> list[str]:
    """Each item's language code, `und` if missing or empty."""
    return [language or UNDETERMINED for language in languages]


def temperature_labels(trained: NDArray[np.bool_]) -> list[str]:
    """`warm` for items that had a training interaction ([I], true), `cold` for the others."""
    return [WARM if seen else COLD for seen in trained]


def activity_labels(train: ItemSets) -> list[str]:
    """Each user's number of training items as a range: `0`, `1-5`, `6-10`, `11-20`, ... `101+`."""
    names = ["0"] + [f"{low + 1}-{high}" for low, high in itertools.pairwise(_ACTIVITY_BOUNDS)]
    names.append(f"{_ACTIVITY_BOUNDS[-1] + 1}+")
    return [names[position] for position in np.searchsorted(_ACTIVITY_BOUNDS, train.sizes())]


def slice_by_items(
    rankings: Rankings,
    relevant: ItemSets,
    labels: Sequence[str],
    *,
    ks: Sequence[int] = KS,
    metrics: Sequence[RankingMetric] = tuple(METRICS.values()),
) -> dict[str, Slice]:
    """Metrics of each group of items; groups without a test item are left out.

    Args:
        rankings: [U, K] full-catalogue rankings.
        relevant: all test items of each user.
        labels: one group name per item.
        ks: cut-offs.
        metrics: metrics to compute.

    Returns:
        Group -> slice, the group with the most test items first. Without coverage and popularity, which
        are properties of whole lists.

    Raises:
        ValueError: there is not one label for each item.
    """
    groups = _groups(labels, relevant.num_items, "item")
    slices = {}
    for name, mask in groups.items():
        part = relevant.only_items(mask)
        if part.indices.size:
            size = SliceSize(int((part.sizes() > 0).sum()), int(mask.sum()), part.indices.size)
            found = ranking_metrics(rankings, part, ks=ks, metrics=metrics)
            slices[name] = Slice(size, PerUserMetrics(found.values, {}))
    return _largest_first(slices)


def slice_by_users(metrics: PerUserMetrics, relevant: ItemSets, labels: Sequence[str]) -> dict[str, Slice]:
    """The same metrics over each group of users; groups without a test item are left out.

    Args:
        metrics: of all users.
        relevant: the test items that they were computed with.
        labels: one group name per user.

    Returns:
        Group -> slice, the group with the most test items first. Without coverage, which depends on the
        number of users.

    Raises:
        ValueError: there is not one label for each user.
    """
    groups = _groups(labels, relevant.num_users, "user")
    slices = {}
    for name, mask in groups.items():
        part = relevant.only_users(mask)
        if part.indices.size:
            users, items = int((part.sizes() > 0).sum()), np.unique(part.indices).size
            values = {metric: np.where(mask, column, np.nan) for metric, column in metrics.values.items()}
            slices[name] = Slice(SliceSize(users, items, part.indices.size), PerUserMetrics(values, {}))
    return _largest_first(slices)


def codes_of(labels: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct labels, sorted, and each label's position among them."""
    # `np.unique` would compare all of them as Python objects.
    names = sorted(set(labels))
    place = {name: code for code, name in enumerate(names)}
    return names, np.fromiter(map(place.__getitem__, labels), np.int64, len(labels))


def _groups(labels: Sequence[str], size: int, what: str) -> dict[str, NDArray[np.bool_]]:
    if len(labels) != size:
        raise ValueError(f"expected one label for each of {size} {what}s, received {len(labels)}")
    names, codes = codes_of(labels)
    return {name: codes == code for code, name in enumerate(names)}


def _largest_first(slices: dict[str, Slice]) -> dict[str, Slice]:
    return dict(sorted(slices.items(), key=lambda item: (-item[1].size.positives, item[0])))
