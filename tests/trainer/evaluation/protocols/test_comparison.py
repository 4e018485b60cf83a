from dataclasses import replace

import numpy as np
import pytest

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics, recall_curve
from trainer.evaluation.metrics.slices import SliceSize, slice_by_items
from trainer.evaluation.protocols.baselines import baseline_rankings
from trainer.evaluation.protocols.comparison import RankingProblem, compare
from trainer.evaluation.report.contents import EvaluationReport, Sizes


def test_every_figure_is_in_its_place(problem: RankingProblem, report: EvaluationReport) -> None:
    rankings = baseline_rankings(problem.train, 25)["popularity"]
    baseline = next(result for result in report.baselines if result.model == "popularity")
    counts = problem.train.item_counts()
    overall = ranking_metrics(rankings, problem.test, training_counts=counts)
    assert {name: metric.value for name, metric in baseline.metrics.items()} == pytest.approx(overall.means())
    languages = [language or "und" for language in problem.item_languages or []]
    slices = slice_by_items(rankings, problem.test, languages)
    assert set(baseline.slices["item_language"]) == {"ko", "en", "und"}
    for name, part in slices.items():
        found = {key: metric.value for key, metric in baseline.slices["item_language"][name].items()}
        assert found == pytest.approx(part.metrics.means())
        assert report.slice_sizes["item_language"][name] == part.size
    assert baseline.curves == {"recall": recall_curve(rankings, problem.test)}


def test_the_model_is_measured_as_the_baselines_are(problem: RankingProblem) -> None:
    rankings = baseline_rankings(problem.train, 20)
    report = compare(
        problem, "copy", rankings["popularity"], baselines={"popularity": rankings["popularity"]}, seconds=0.0
    )
    twin = report.baselines[0]
    assert (report.metrics, report.slices, report.curves) == (twin.metrics, twin.slices, twin.curves)
    assert {metric.value for metric in twin.advantage.values()} == {0.0}
    assert {metric.ci95 for metric in twin.advantage.values()} == {(0.0, 0.0)}


def test_advantage_is_the_difference_of_the_means(report: EvaluationReport) -> None:
    for baseline in report.baselines:
        for name, gain in baseline.advantage.items():
            difference = report.metrics[name].value - baseline.metrics[name].value
            assert gain.value == pytest.approx(difference)
        assert not [name for name in baseline.advantage if name.startswith("coverage")]
    assert [baseline.model for baseline in report.baselines] == ["popularity", "random", "mean-history"]


def test_sizes_and_references(problem: RankingProblem, report: EvaluationReport) -> None:
    assert report.sizes == Sizes(60, 40, problem.train.indices.size, problem.test.indices.size)
    assert [result.model for result in report.reference] == ["popularity", "BPR 64", "ALS 64", "EASE"]
    other = compare(replace(problem, dataset="mine"), "m", np.zeros((60, 20), int) - 1, baselines={}, seconds=0.0)
    assert other.reference == ()


def test_cold_items_are_those_nobody_trained_on(problem: RankingProblem, report: EvaluationReport) -> None:
    with_cold = int((problem.test.indices == 39).sum())
    assert report.slice_sizes["item_temperature"]["cold"] == SliceSize(with_cold, 1, with_cold)
    # In zero-shot evaluation the histories contain items, but none was trained on.
    zero_shot = replace(problem, trained_items=np.zeros(40, dtype=bool))
    rankings = baseline_rankings(problem.train, 20)["random"]
    found = compare(zero_shot, "m", rankings, baselines={}, seconds=0.0)
    assert set(found.slices["item_temperature"]) == {"cold"}


def test_without_languages(problem: RankingProblem) -> None:
    rankings = baseline_rankings(problem.train, 20)["random"]
    found = compare(replace(problem, item_languages=None), "m", rankings, baselines={}, seconds=0.0)
    assert set(found.slices) == {"item_temperature", "user_activity"}


def test_parts_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train is \[2, 3\], test is \[2, 4\]"):
        RankingProblem("d", "P1", "test", ItemSets.empty(2, 3), ItemSets.empty(2, 4))
