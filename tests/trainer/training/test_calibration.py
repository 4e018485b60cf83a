"""Fitting temperatures and biases, keeping them, and predicting with them."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from trainer.data.dataset import Dataset
from trainer.data.heads import Head
from trainer.data.split import held_out_events, some_users, split
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.collaborative import evaluate_collaborative
from trainer.models.calibration import CALIBRATION_FILE, Calibration, load_calibrations
from trainer.models.ranking import RankingModel
from trainer.models.settings import RankingConfig
from trainer.runs import Run
from trainer.scorers.fusion import Fusion
from trainer.training.calibration import calibrate, fit_calibration

_Floats = npt.NDArray[np.float64]


def _drawn(temperature: float, bias: float, count: int = 20_000) -> tuple[_Floats, _Floats]:
    rng = np.random.default_rng(11)
    logits = rng.normal(scale=2.0, size=count)
    return logits, (rng.random(count) < 1 / (1 + np.exp(-(logits / temperature + bias)))).astype(float)


def test_platt_is_the_maximum_of_the_likelihood() -> None:
    logits, labels = _drawn(2.5, -0.8)
    found = fit_calibration(logits, labels)
    # scikit-learn without a penalty maximises the same likelihood, up to Platt's smoothing of two pairs in 20,000.
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, np.newaxis], labels)
    assert found.method == "platt"
    assert found.applied.temperature == pytest.approx(1 / oracle.coef_[0, 0], rel=2e-3)
    assert found.applied.bias == pytest.approx(oracle.intercept_[0], abs=2e-3)
    assert found.log_loss["platt"] < found.log_loss["temperature"] < found.log_loss["none"]


def test_temperature_alone_where_no_bias_is_needed() -> None:
    logits, labels = _drawn(3.0, 0.0)
    found = fit_calibration(logits, labels)

    def loss(temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, logits / temperature) - labels * logits / temperature))

    oracle = minimize_scalar(loss, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-8})
    assert found.method == "temperature"
    assert found.applied.bias == 0.0
    assert found.applied.temperature == pytest.approx(oracle.x, rel=1e-3)
    assert found.log_loss["temperature"] == pytest.approx(oracle.fun, abs=1e-6)


def test_separable_reversed_and_few_labels() -> None:
    logits = np.linspace(-3, 3, 100)
    separable = fit_calibration(logits, (logits > 0).astype(float)).applied
    assert 0.01 < separable.temperature < 1.0
    # A head that is wrong throughout is not inverted: its probabilities all move to the share of positives.
    wrong = fit_calibration(logits, (logits < 0).astype(float)).applied
    assert np.allclose(1 / (1 + np.exp(-wrong.logits(logits))), 0.5, atol=0.02)
    few = fit_calibration(logits, (np.arange(100) < 3).astype(float))
    assert (few.method, few.applied, few.log_loss) == ("none", Calibration(), {})
    with pytest.raises(ValueError, match="same length"):
        fit_calibration(logits, logits[1:])
    with pytest.raises(ValueError, match="labels 0 or 1"):
        fit_calibration(logits, logits)
    with pytest.raises(ValueError, match="above 0"):
        Calibration(0.0)


def test_each_binary_head_is_calibrated_on_its_own_labels() -> None:
    heads = [
        Head("like", "rating", "binary", 4.0),
        Head("rating", "rating", "regression"),
        Head("click", "click", "binary"),
    ]
    logits, labels = _drawn(2.0, 1.0, 4000)
    columns = np.stack([labels, np.full(4000, 3.0), np.where(np.arange(4000) < 2000, labels, np.nan)], axis=1)
    found = calibrate(heads, np.stack([logits] * 3, axis=1), columns)
    assert set(found) == {"like", "click"}
    assert found["click"] == fit_calibration(logits[:2000], labels[:2000])


def test_predictions_are_calibrated_and_their_order_stays() -> None:
    heads = [Head("like", "rating", "binary", 4.0), Head("rating", "rating", "regression")]
    model = RankingModel(heads, RankingConfig(), Fusion(4))
    outputs = tf.constant([[[-2.0, 0.5], [0.0, -1.0], [3.0, 2.0]]])
    plain = model.predictions(outputs)
    with_it = model.predictions(outputs, {"like": Calibration(4.0, -0.5)})
    expected = 1 / (1 + np.exp(-(outputs[..., 0].numpy() / 4.0 - 0.5)))
    np.testing.assert_allclose(with_it["probability_like"], expected, rtol=1e-6)
    np.testing.assert_allclose(plain["probability_like"], 1 / (1 + np.exp(-outputs[..., 0].numpy())), rtol=1e-6)
    np.testing.assert_array_equal(with_it["predicted_rating"], plain["predicted_rating"])


def test_held_out_events_are_what_comes_after_the_cut(tiny_run: Run, tiny: Dataset) -> None:
    config = tiny_run.config.data
    parts = split(tiny, config)
    rows = tiny.interactions().collect().rows(named=True)
    for part, held, later in (("validation", parts.validation, parts.test), ("test", parts.test, None)):
        start: dict[str, float] = {}
        for user, _, moment in held.iter_rows():
            start[user] = min(start.get(user, moment), moment)
        stop: dict[str, float] = {}
        for user, _, moment in [] if later is None else later.iter_rows():
            stop[user] = min(stop.get(user, moment), moment)
        expected = {
            (row["user_id"], row["item_id"])
            for row in rows
            if row["user_id"] in start
            and start[row["user_id"]] <= row["timestamp"] < stop.get(row["user_id"], float("inf"))
        }
        found = held_out_events(tiny, parts, part)  # type: ignore[arg-type]
        assert set(found.select("user_id", "item_id").iter_rows()) == expected
        assert {2.0, 1.0} & set(found["value"]), "low ratings are there"
        assert set(held.select("user_id", "item_id").iter_rows()) <= expected
    few = some_users(parts, 0.1, seed=1)
    assert set(held_out_events(tiny, few, "validation")["user_id"]) == set(few.validation["user_id"])
    assert set(held_out_events(tiny, few, "test")["user_id"]) == set(parts.test["user_id"])


def test_a_global_cut_holds_out_everybodys_later_events(tiny_run: Run, tiny: Dataset) -> None:
    config = tiny_run.config.data
    config = config.model_copy(update={"split": config.split.model_copy(update={"kind": "global"})})
    parts = split(tiny, config)
    found = held_out_events(tiny, parts, "test")
    rows = tiny.interactions().collect()
    first = parts.test["timestamp"].min()
    assert set(found.select("user_id", "item_id").iter_rows()) == set(
        rows.filter(rows["timestamp"] >= first).select("user_id", "item_id").iter_rows()
    )


def test_a_run_keeps_its_calibration_and_is_evaluated_with_it(tiny_run: Run) -> None:
    found = load_calibrations(tiny_run)
    assert set(found) == {"like"}
    report = evaluate_collaborative(tiny_run)
    like = report.heads["like"]
    assert like.applied == found["like"].method
    assert like.calibrations[like.applied] == found["like"].applied
    assert like.probabilities[like.applied]["log_loss"].value < like.probabilities["none"]["log_loss"].value
    assert report.heads["rating"].kind == "regression"
    assert report.users is not None
    assert report.users["recall@10"].mean() == pytest.approx(report.metrics["recall@10"].value)


def test_a_broken_record_is_named_and_a_missing_one_is_none(tmp_path: Path, tiny_run: Run) -> None:
    run = Run(tmp_path, tiny_run.config)
    assert load_calibrations(run) == {}
    record = json.loads((tiny_run.path / CALIBRATION_FILE).read_text())
    record["like"]["platt"]["temperature"] = -1.0
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(record))
    with pytest.raises(BabelrecError, match=r"calibration\.json: like\.platt.*above 0.*Remove it"):
        load_calibrations(run)
