"""The requests behind impressions, and baseline scores of their candidates."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.impressions import Impressions
from trainer.data.requests import Requests
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.text.unit_vectors import unit

_Floats = npt.NDArray[np.float64]
# Prior impressions of every article, at the mean click-through rate, so that an article shown once is not immediately
# the best or the worst.
_PRIOR = 10.0


def impression_requests(
    impressions: Impressions,
    positives: pl.DataFrame,
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    profiles: pl.DataFrame | None,
) -> Requests:
    """The request that led to each impression, [I].

    Args:
        impressions: I impressions.
        positives: Histories of their users: user_id, item_id, timestamp.
        catalogue: Maps item ids to rows.
        vocabulary: The model's vocabulary.
        profiles: From `trainer.data.query_features.user_profiles`.
    """
    users, owners = np.unique(impressions.users, return_inverse=True)
    requests = Requests.of_users(users.tolist(), positives, catalogue, vocabulary, profiles=profiles)
    return replace(requests.at(owners), timestamps=impressions.timestamps)


def mean_history_scores(
    impressions: Impressions,
    histories: UserItems,
    history_vectors: npt.NDArray[np.float32],
    candidate_vectors: npt.NDArray[np.float32],
) -> _Floats:
    """Cosine of each candidate and the mean of the history's unit vectors; 0 without a history.

    Args:
        impressions: E candidates.
        histories: One of each impression.
        history_vectors: [N, T] sentence vectors of the items as read in the histories.
        candidate_vectors: [N, T], the same as ranked.
    """
    history, candidates = unit(history_vectors), unit(candidate_vectors)
    sums = np.zeros((len(histories), history.shape[1]))
    np.add.at(sums, histories.users(), history[histories.items])
    profiles = unit(sums)
    scores: _Floats = np.einsum("ed,ed->e", profiles[impressions.owners], candidates[impressions.items])
    return scores


def click_through(impressions: Impressions, training: Impressions, size: int) -> _Floats:
    """Click-through rate of each candidate in the training impressions, smoothed towards the mean, [E].

    Args:
        impressions: E candidates.
        training: Impressions to count in.
        size: N, number of catalogue items.
    """
    shown = np.bincount(training.items, minlength=size)
    clicks = np.bincount(training.items[training.clicked], minlength=size)
    mean = clicks.sum() / max(shown.sum(), 1)
    rates: _Floats = (clicks + _PRIOR * mean) / (shown + _PRIOR)
    return rates[impressions.items]
