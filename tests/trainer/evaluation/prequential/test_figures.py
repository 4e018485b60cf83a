"""Averages over events, then windows, and their intervals, against sums by hand."""

import itertools
from collections import Counter

import numpy as np
import pytest

from trainer.evaluation.metrics.intervals import bootstrap_means, bootstrap_ratios
from trainer.evaluation.prequential.figures import Answered, Figures


def _windows() -> list[Answered]:
    first = Answered(
        np.array([0, 0, 0, 2]),
        {
            "updated": {"recall@10": np.array([1.0, 0.0, 1.0, 1.0]), "ndcg@10": np.array([0.5, 0.0, 0.25, 1.0])},
            "frozen": {"recall@10": np.array([0.0, 0.0, 1.0, 1.0]), "ndcg@10": np.array([0.0, 0.0, 0.25, 0.5])},
        },
    )
    second = Answered(
        np.array([1, 2]),
        {
            "updated": {"recall@10": np.array([1.0, 0.0]), "ndcg@10": np.array([0.5, 0.0])},
            "frozen": {"recall@10": np.array([0.0, 0.0]), "ndcg@10": np.array([0.0, 0.0])},
        },
    )
    return [first, second]


def test_averages_are_over_events_then_over_windows() -> None:
    figures = Figures(_windows(), 4, resamples=50, seed=0)
    assert figures.of_window(0, "updated")["recall@10"].value == 3 / 4
    assert figures.of_window(1, "updated")["ndcg@10"].value == 1 / 4
    # Not 4 / 6, the average over all events.
    assert figures.overall("updated")["recall@10"].value == (3 / 4 + 1 / 2) / 2
    assert figures.overall("frozen")["ndcg@10"].value == (0.75 / 4 + 0.0) / 2
    assert figures.difference("updated", "frozen")["recall@10"].value == (3 / 4 + 1 / 2) / 2 - (1 / 2) / 2
    assert figures.ratio("updated", "frozen")["recall@10"].value == pytest.approx(2.5)
    # The frozen model has nothing right in the second window.
    assert "recall@10" in figures.of_window(1, "frozen")


def test_comparisons_are_paired() -> None:
    figures = Figures(_windows(), 4, resamples=200, seed=1)
    assert figures.difference("updated", "updated")["ndcg@10"].ci95 == (0.0, 0.0)
    assert figures.ratio("updated", "updated")["ndcg@10"].ci95 == (1.0, 1.0)
    low, high = figures.overall("updated")["ndcg@10"].ci95 or (0.0, 0.0)
    assert low < high


def test_nothing_is_divided_by_nothing() -> None:
    windows = [Answered(np.array([0]), {"a": {"recall@10": np.array([1.0])}, "b": {"recall@10": np.array([0.0])}})] * 2
    figures = Figures(windows, 1, resamples=20, seed=0)
    assert figures.ratio("a", "b") == {}
    assert figures.difference("a", "b")["recall@10"].ci95 == (1.0, 1.0)


def test_users_are_drawn_with_all_their_events() -> None:
    sums, counts = [3.0, 0.0, 2.0], [4.0, 1.0, 2.0]
    exact = Counter(
        round(sum(sums[u] for u in draw) / sum(counts[u] for u in draw), 9)
        for draw in itertools.product(range(3), repeat=3)
    )
    found = bootstrap_ratios(np.array(sums)[:, None], np.array(counts)[:, None], resamples=27_000)[:, 0]
    drawn = Counter(np.round(found, 9).tolist())
    assert set(drawn) == set(exact)
    for ratio, ways in exact.items():
        # Five standard deviations of a binomial count.
        assert abs(drawn[ratio] - 1_000 * ways) < 5 * np.sqrt(1_000 * ways)


def test_one_event_of_each_user_is_a_mean_over_users() -> None:
    values = np.random.default_rng(2).random((20, 3))
    assert (bootstrap_ratios(values, np.ones_like(values), seed=5) == bootstrap_means(values, seed=5)).all()


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(3, 1\)"):
        bootstrap_ratios(np.ones((2, 1)), np.ones((3, 1)))
