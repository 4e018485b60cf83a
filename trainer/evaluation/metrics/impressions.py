"""Metrics of impressions (protocol P3), as MIND defines them (Wu et al., 2020, doi 10.18653/v1/2020.acl-main.331).

For an impression with P clicked candidates, ranked by decreasing score, the r-th clicked one at rank p_r:

* `auc`: share of the pairs of a clicked and another candidate in which the clicked one scores higher; ties count half.
* `mrr`: (1 / P) * sum of 1 / p_r. Unlike the common definition it uses all clicks, not only the first.
* `ndcg@k`: sum of 1 / log2(p_r + 1) over p_r <= k, divided by the same sum for clicks at the first min(k, P) ranks.

Candidates with equal scores share their ranks: each gets the mean gain of the ranks that they occupy together,
which is its expectation under a random order.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.data.impressions import Impressions

KS = (5, 10)
_Floats = npt.NDArray[np.float64]


def impression_metrics(
    impressions: Impressions, scores: npt.NDArray[np.floating], ks: Sequence[int] = KS
) -> dict[str, _Floats]:
    """One value per impression and metric.

    Args:
        impressions: I impressions, each with a click and a candidate that was not clicked.
        scores: [E], one per candidate.
        ks: Cut-offs of NDCG.

    Returns:
        ``auc``, ``mrr``, ``ndcg@5``, ...: float64 [I].

    Raises:
        ValueError: There is not one finite score for each candidate, or an impression can't be evaluated.
    """
    if scores.shape != impressions.clicked.shape:
        raise ValueError(f"expected {len(impressions.clicked)} scores, received shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    found: dict[str, _Floats] = {
        name: np.empty(len(impressions)) for name in ("auc", "mrr", *(f"ndcg@{k}" for k in ks))
    }
    for number, (begin, end) in enumerate(zip(impressions.indptr[:-1], impressions.indptr[1:], strict=True)):
        clicked = impressions.clicked[begin:end]
        if clicked.all() or not clicked.any():
            raise ValueError(f"impression {impressions.ids[number]} has no click or only clicks")
        for name, value in _one(clicked, scores[begin:end], ks).items():
            found[name][number] = value
    return found


def _one(clicked: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating], ks: Sequence[int]) -> dict[str, float]:
    size, clicks = len(clicked), int(clicked.sum())
    _, group, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    places = np.arange(1, size + 1)
    # For each clicked candidate, how many others rank above it and tie with it.
    above_or_level = np.cumsum(np.bincount(group[~clicked], minlength=len(counts)))
    level = np.bincount(group[~clicked], minlength=len(counts))
    beaten = (size - clicks) - above_or_level[group[clicked]] + 0.5 * level[group[clicked]]

    def gained(gains: _Floats) -> float:
        means = np.add.reduceat(gains, ends - counts) / counts
        return float(means[group[clicked]].sum())

    discounts = 1.0 / np.log2(places + 1)
    values = {"auc": float(beaten.mean()) / (size - clicks), "mrr": gained(1.0 / places) / clicks}
    for k in ks:
        values[f"ndcg@{k}"] = gained(np.where(places <= k, discounts, 0.0)) / float(discounts[: min(k, clicks)].sum())
    return values
