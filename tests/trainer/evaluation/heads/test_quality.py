"""Quality of the ranking heads: metrics against scikit-learn and hand-made oracles, tables and plots."""

import io
import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from trainer.data.heads import Head
from trainer.evaluation.heads.events import HeadEvents
from trainer.evaluation.heads.quality import calibration_error, evaluate_heads, reliability_bins
from trainer.evaluation.report.contents import EvaluationReport
from trainer.evaluation.report.plots import render_plots
from trainer.evaluation.report.tables import print_table, to_markdown
from trainer.models.calibration import Calibration, FittedCalibration

_HEADS = [Head("like", "rating", "binary", 4.0), Head("rating", "rating", "regression")]
_SCALES = np.array([[0.0, 1.0], [3.5, 1.2]])
_FITTED = {"like": FittedCalibration("platt", Calibration(2.0), Calibration(1.5, -0.7), 100, 40, {"none": 1.0})}


@pytest.fixture(scope="module")
def events() -> HeadEvents:
    """600 pairs of 40 users; a rating is unknown for a third of them."""
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(600, 2)).astype(np.float32) * 2
    liked = (rng.random(600) < 1 / (1 + np.exp(-(outputs[:, 0] / 1.5 - 0.7)))).astype(np.float32)
    stars = 3.5 + 1.2 * outputs[:, 1] + rng.normal(size=600)
    return HeadEvents(
        rng.integers(0, 40, 600),
        outputs,
        np.stack([liked, np.where(np.arange(600) % 3 == 0, np.nan, stars)], axis=1).astype(np.float32),
    )


def _by_hand(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.floating], bins: int) -> float:
    """Guo et al., eq. 3, bin by bin in plain Python."""
    total = 0.0
    for number in range(bins):
        inside = [
            place
            for place, each in enumerate(probabilities)
            if number / bins <= each < (number + 1) / bins or (number == bins - 1 and each == 1.0)
        ]
        if inside:
            confidence = sum(float(probabilities[place]) for place in inside) / len(inside)
            share = sum(float(labels[place]) for place in inside) / len(inside)
            total += len(inside) * abs(share - confidence)
    return total / len(labels)


@given(st.lists(st.tuples(st.integers(0, 64), st.booleans()), min_size=1, max_size=60))
def test_ece_agrees_with_its_definition(pairs: list[tuple[int, bool]]) -> None:
    probabilities = np.array([each / 64 for each, _ in pairs])
    labels = np.array([float(each) for _, each in pairs])
    # 16 bins: their edges are exact in binary, as the probabilities are.
    assert calibration_error(probabilities, labels, bins=16) == pytest.approx(_by_hand(probabilities, labels, 16))


def test_equal_mass_bins_hold_equally_many_pairs_and_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random(300) ** 6, (rng.random(300) < 0.2).astype(float)
    bins = reliability_bins(probabilities, labels, equal_mass=True)
    assert [each.pairs for each in bins] == [20] * 15
    ordered = np.argsort(probabilities)
    expected = np.mean([abs(labels[part].mean() - probabilities[part].mean()) for part in np.array_split(ordered, 15)])
    assert calibration_error(probabilities, labels, equal_mass=True) == pytest.approx(expected)
    same = reliability_bins(np.full(300, 0.3), labels, equal_mass=True)
    assert [(each.pairs, round(each.predicted, 9)) for each in same] == [(300, 0.3)]


def test_perfect_and_worst_predictions() -> None:
    labels = np.array([0.0, 1.0, 1.0])
    assert calibration_error(labels, labels) == 0.0
    assert calibration_error(1.0 - labels, labels) == 1.0
    for wrong in (np.array([0.5, 0.5]), np.array([0.1, 0.2, 1.2]), np.array([0.1, 0.2, np.nan])):
        with pytest.raises(ValueError, match=r"expected|must be"):
            calibration_error(wrong, labels)


def test_figures_are_those_of_scikit_learn(events: HeadEvents) -> None:
    found = evaluate_heads(_HEADS, events, _FITTED, _SCALES, resamples=20)
    like, labels = found["like"], events.labels[:, 0]
    raw = events.outputs[:, 0].astype(np.float64)
    assert (like.pairs, like.positives, like.users, like.applied) == (600, int(labels.sum()), 40, "platt")
    assert like.metrics["auc"].value == pytest.approx(roc_auc_score(labels, raw))
    assert like.metrics["average_precision"].value == pytest.approx(average_precision_score(labels, raw))
    margins = {"none": raw, "temperature": raw / 2.0, "platt": raw / 1.5 - 0.7}
    for method, margin in margins.items():
        probability = 1 / (1 + np.exp(-margin))
        measured = {name: metric.value for name, metric in like.probabilities[method].items()}
        assert measured["log_loss"] == pytest.approx(log_loss(labels, probability))
        assert measured["brier"] == pytest.approx(brier_score_loss(labels, probability))
        assert measured["ece"] == pytest.approx(_by_hand(probability, labels, 15))
    # The labels were drawn by the last one.
    assert like.probabilities["platt"]["ece"].value < like.probabilities["none"]["ece"].value
    share = float(labels.mean())
    assert like.probabilities["constant"]["brier"].value == pytest.approx(share * (1 - share))
    assert set(like.reliability) == {"none", "platt"}
    assert sum(each.pairs for each in like.reliability["platt"]) == 600

    rating, known = found["rating"], np.isfinite(events.labels[:, 1])
    errors = (events.outputs[:, 1] * 1.2 + 3.5 - events.labels[:, 1])[known]
    assert rating.pairs == known.sum() == 400
    assert rating.metrics["rmse"].value == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert rating.metrics["mae"].value == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)


def test_intervals_are_over_users_and_hold_the_figure(events: HeadEvents) -> None:
    auc = evaluate_heads(_HEADS, events, {}, _SCALES, resamples=200)["like"].metrics["auc"]
    assert auc.ci95 is not None
    assert auc.ci95[0] < auc.value < auc.ci95[1]
    # A single user: resampling changes nothing.
    alone = evaluate_heads(_HEADS, replace(events, users=np.zeros(600, int)), {}, _SCALES, resamples=20)["like"]
    assert alone.metrics["auc"].ci95 == pytest.approx((auc.value, auc.value))


def test_events_of_one_class_or_none(events: HeadEvents) -> None:
    liked = replace(events, labels=np.stack([np.ones(600), np.full(600, np.nan)], axis=1).astype(np.float32))
    found = evaluate_heads(_HEADS, liked, {}, _SCALES, resamples=5)
    assert set(found) == {"like"}
    assert found["like"].metrics == {}
    assert found["like"].applied == "none"
    assert found["like"].probabilities["constant"]["log_loss"].value == 0.0


def test_the_curve_holds_points_of_the_whole_curve(events: HeadEvents) -> None:
    raw, labels = events.outputs[:, 0], events.labels[:, 0] > 0
    curve = evaluate_heads(_HEADS, events, {}, _SCALES, resamples=0)["like"].precision_recall
    for recall, precision in curve[:-1]:
        count = round(recall * labels.sum() / precision)
        best = np.sort(raw)[::-1][:count]
        assert (labels & (raw >= best[-1])).sum() / count == pytest.approx(precision)
    assert curve[0][0] == 1.0
    assert curve[-1] == (0.0, 1.0)


def test_the_block_goes_through_json_tables_and_plots(events: HeadEvents) -> None:
    plain = EvaluationReport(dataset="tiny", protocol="P1", split="test", model="m", metrics={}, seconds=1.0)
    report = replace(plain, heads=evaluate_heads(_HEADS, events, _FITTED, _SCALES, resamples=5))
    assert EvaluationReport.from_json(report.to_json()) == report
    before = {name: value for name, value in json.loads(plain.to_json()).items() if name != "heads"}
    assert EvaluationReport.from_json(json.dumps(before)) == plain, "reports of before have no such block"
    page = to_markdown(report)
    assert "| probability\\_like | 600 |" in page
    assert "Platt (T 1.50, -0.70) - served" in page
    console = Console(file=io.StringIO(), width=100)
    print_table(report, console)
    assert "served" in console.file.getvalue()  # type: ignore[attr-defined]
    pictures = render_plots(report)
    for name in ("heads-precision-recall", "heads-reliability"):
        picture = np.asarray(Image.open(io.BytesIO(pictures[name])).convert("RGB"))
        # Lines in the colour of the model.
        assert (picture == np.array([0, 114, 178])).all(axis=-1).sum() > 200
    assert not any(name.startswith("heads") for name in render_plots(plain))
