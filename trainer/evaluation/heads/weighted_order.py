"""Ranking metrics of binary predictions under many weightings of the same pairs: sorted once, not each time."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class WeightedOrder:
    """Pairs in the order of their scores.

    The results are exactly those of scikit-learn's `roc_auc_score` and `average_precision_score` with
    ``sample_weight``, as long as the weights are whole numbers, whose sums are exact.

    Args:
        labels: [E] of 0 and 1.
        scores: [E], a higher one for a more probable 1.
    """

    def __init__(self, labels: Floats, scores: Floats) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._labels = labels[self._order].astype(np.float64)
        ordered = scores[self._order]
        # The last pair of each distinct score: equal scores have no order.
        self._ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), ordered.size - 1)

    def auc(self, weights: Floats) -> float:
        """Area under the ROC curve, by trapezoids; pairs of both classes must have a weight.

        Args:
            weights: Whole numbers [E].
        """
        true, false = self._positives(weights)
        if true.size > 2:
            # Points on a straight line don't change the area.
            corners = np.concatenate([[True], (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), [True]])
            true, false = true[corners], false[corners]
        true, false = (np.concatenate([[0.0], each / each[-1]]) for each in (true, false))
        return float(np.trapezoid(true, false))

    def average_precision(self, weights: Floats) -> float:
        """Sum of the precision at each distinct score times the recall gained there; arguments as for `auc`."""
        true, false = self._positives(weights)
        precision, recall = true / (true + false), np.concatenate([[0.0], true / true[-1]])
        return float(max(0.0, np.sum(np.diff(recall)[::-1] * precision[::-1])))

    def _positives(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weights of the true and false positives down to each distinct score with a weight."""
        ordered = weights[self._order]
        true = np.cumsum(ordered * self._labels)[self._ends]
        every = np.cumsum(ordered)[self._ends]
        there = np.diff(every, prepend=0.0) > 0.0
        return true[there], (every - true)[there]
