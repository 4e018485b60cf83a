"""A sample of the users: the draw, its error against all possible draws, and its marks in reports."""

import itertools
import logging

import numpy as np
import polars as pl
import pytest

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import held_out_events, split
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.tables import to_markdown
from trainer.evaluation.sampling import SamplingError, UserSample, standard_error
from trainer.models.assembly import load_recommender
from trainer.runs import Run

_NAMES = ["나", "b", "a", "é", "a", "z", "10", "9"]


def test_everybody_up_to_the_limit() -> None:
    for most in (None, 7, 100):
        sample = UserSample.of(pl.Series(_NAMES), most, seed=3)
        assert sample.users == sorted(set(_NAMES))
        assert (sample.total, sample.is_part) == (7, False)


def test_the_draw_depends_on_the_ids_alone() -> None:
    sample = UserSample.of(pl.Series(_NAMES), 4, seed=3)
    assert sample.users == sorted(sample.users)
    assert set(sample.users) < set(_NAMES)
    assert (len(sample.users), sample.total, sample.is_part) == (4, 7, True)
    assert UserSample.of(pl.Series(_NAMES[::-1] * 2), 4, seed=3).users == sample.users
    assert len({tuple(UserSample.of(pl.Series(_NAMES), 4, seed=seed).users) for seed in range(20)}) > 5
    table = pl.DataFrame({"user_id": _NAMES, "place": range(8)})
    expected = [place for place, name in enumerate(_NAMES) if name in sample.users]
    assert sample.of_table(table)["place"].to_list() == expected


def test_the_square_of_the_error_is_the_variance_over_all_draws() -> None:
    values = np.array([0.0, 0.25, 1.0, 0.5, 0.0, 0.75, 0.1])
    draws = [values[list(chosen)] for chosen in itertools.combinations(range(7), 3)]
    squares = [standard_error(drawn, np.ones(3), 7) ** 2 for drawn in draws]
    assert np.mean(squares) == pytest.approx(np.var([drawn.mean() for drawn in draws]))
    assert standard_error(values, np.ones(7), 7) == 0.0
    assert np.isnan(standard_error(values[:1], np.ones(1), 7))


def test_users_with_several_values() -> None:
    sums, counts = np.array([3.0, 1.0, 0.0, 4.0, 9.0]), np.array([4.0, 1.0, 2.0, 5.0, 0.0])
    mean = 8.0 / 12.0
    spread = sum((y - mean * m) ** 2 for y, m in zip([3, 1, 0, 4], [4, 1, 2, 5], strict=True)) / 3
    expected = ((1 - 4 / 10) * spread / 4) ** 0.5 / (12 / 4)
    assert standard_error(sums, counts, 10) == pytest.approx(expected)


def test_a_metric_without_values_has_no_error() -> None:
    sample = UserSample(["a", "b", "c"], 9)
    found = SamplingError.of_values(sample, {"x@1": np.array([1.0, 0.0, np.nan]), "y@1": np.full(3, np.nan)})
    assert (found.users, found.of, list(found.standard_error)) == (3, 9, ["x@1"])


@pytest.mark.parametrize("kind", ["per_user", "global"])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_events_of_some_users_are_theirs_among_all(kind: str, part: str, tiny: Dataset, tiny_run: Run) -> None:
    config = tiny_run.config.data
    parts = split(tiny, config.model_copy(update={"split": config.split.model_copy(update={"kind": kind})}))
    users = pl.Series(["u7", "u3", "u41", "u7", "nobody"])
    everything = held_out_events(tiny, parts, part)  # type: ignore[arg-type]
    found = held_out_events(tiny, parts, part, users)  # type: ignore[arg-type]
    assert not found.is_empty()
    assert found.equals(everything.filter(pl.col("user_id").is_in(["u7", "u3", "u41"])))


def test_candidates_and_counts_are_of_everybody(tiny: Dataset, tiny_run: Run, caplog: pytest.LogCaptureFixture) -> None:
    catalogue, parts = Catalogue.from_dataset(tiny), split(tiny, tiny_run.config.data)
    given = (catalogue, Vocabulary.load(tiny_run.vocabulary), parts.train, parts.validation)
    whole, part = (HoldOut(*given, candidates=20, most=most, seed=5) for most in (None, 30))
    assert (len(part.user_ids), len(part.requests), part.sample.total) == (30, 30, len(whole.user_ids))
    assert part.candidate_rows.tolist() == whole.candidate_rows.tolist()
    assert part.training_counts.tolist() == whole.training_counts.tolist()
    model = load_recommender(tiny_run)
    lists = [each.rankings(each.ranker(model, model.items, {"retrieval": 1.0}), 10) for each in (whole, part)]
    places = [whole.user_ids.index(user) for user in part.user_ids]
    assert lists[1].tolist() == lists[0][places].tolist()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            found = part.metrics(part.ranker(model, model.items, {"retrieval": 1.0}))
    assert part.error is not None
    assert part.error.standard_error.keys() == {"recall@10", "ndcg@10"}
    stated = [each.message for each in caplog.records if "training.validation_users" in each.message]
    assert len(stated) == 1
    assert f"30 of {part.sample.total} users" in stated[0]
    assert f"recall@10 {part.error.standard_error['recall@10']:.4f}" in stated[0]
    assert 0.0 < found["recall@10"] < 1.0
    whole.metrics(whole.ranker(model, model.items, {"retrieval": 1.0}))
    assert whole.error is None


@pytest.mark.parametrize("kind", ["per_user", "global"])
def test_a_report_says_that_users_were_drawn(kind: str, tiny_run: Run) -> None:
    evaluation = tiny_run.config.evaluation.model_copy(update={"users": 25})
    data = tiny_run.config.data
    data = data.model_copy(update={"split": data.split.model_copy(update={"kind": kind})})
    run = Run(tiny_run.path, tiny_run.config.model_copy(update={"evaluation": evaluation, "data": data}))
    report = evaluate_collaborative(run)
    assert report.sample is not None
    assert (report.sample.users, report.sizes and report.sizes.users) == (25, 25)
    assert report.sample.of > 25
    assert report.heads["like"].users <= 25
    assert report.users is not None
    assert report.users.height == 25
    values = report.users["recall@10"].to_numpy()
    expected = values.std(ddof=1) / 5.0 * (1 - 25 / report.sample.of) ** 0.5
    assert report.sample.standard_error["recall@10"] == pytest.approx(expected)
    assert EvaluationReport.from_json(report.to_json()).sample == report.sample
    page = to_markdown(report)
    assert f"25 of {report.sample.of} users, drawn at random" in page
    assert f"Recall@10 {expected:.4f}" in page


def test_a_baseline_that_was_left_out_is_named(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluation.protocols.collaborative._MOST_DESCRIBED", 5)
    report = evaluate_collaborative(tiny_run)
    assert report.sample is None
    assert [each.model for each in report.baselines] == ["popularity", "random", "mean-history"]
    assert list(report.left_out) == ["mean-history with categories"]
    assert "mean-history with categories was left out: it would encode" in to_markdown(report)
    assert EvaluationReport.from_json(report.to_json()).left_out == report.left_out
