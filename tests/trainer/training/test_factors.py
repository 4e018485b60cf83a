"""Factors chosen after training: best on validation, once per run, kept for the phase without validation."""

from pathlib import Path

import pytest
import tensorflow as tf

from trainer.config.loading import parse_config
from trainer.runs import Run
from trainer.training.factors import choose_factor


def test_the_best_factor_is_kept_for_later_phases(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", parse_config({}, "test"))
    factor = tf.Variable(1.0)
    known = {1.0: 0.2, 0.5: 0.1, 4.0: 0.3, 8.0: 0.3}
    measure = lambda: {"recall@10": known[float(factor)]}  # noqa: E731
    choose_factor(run, "popularity", factor, [1.0, 0.5, 4.0, 8.0], measure, metric="recall@10")
    assert float(factor) == 4.0, "of equally good ones the earlier"
    record = run.read("popularity.json")
    assert {point["factor"]: point["recall@10"] for point in record["curve"]} == known
    later = tf.Variable(1.0)
    choose_factor(run, "popularity", later, [1.0, 0.5, 4.0, 8.0], None, metric="recall@10")
    assert float(later) == 4.0


def test_factors_with_two_names_are_chosen_separately(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", parse_config({}, "test"))
    first, second = tf.Variable(0.0), tf.Variable(0.0)
    choose_factor(run, "first", first, [0.0, 1.0], lambda: {"ndcg@10": float(first)}, metric="ndcg@10")
    choose_factor(run, "second", second, [0.0, 1.0], lambda: {"ndcg@10": -float(second)}, metric="ndcg@10")
    assert (float(first), float(second)) == (1.0, 0.0)


@pytest.mark.parametrize("choices", [[1.0], [3.0, 1.0]])
def test_without_validation_the_first_is_taken_and_nothing_noted(tmp_path: Path, choices: list[float]) -> None:
    run = Run.create(tmp_path / "run", parse_config({}, "test"))
    factor = tf.Variable(0.5)
    choose_factor(run, "linear", factor, choices, None, metric="ndcg@10")
    assert float(factor) == choices[0]
    assert not (run.path / "linear.json").exists()


@pytest.mark.parametrize(
    ("choices", "peak", "tried", "chosen"),
    [
        ([1.0, 0.0, 2.0], 7.0, [1.0, 0.0, 2.0, 4.0, 8.0, 16.0], 8.0),
        ([1.0, 0.5, 0.0], 0.26, [1.0, 0.5, 0.0, 0.25, 0.125], 0.25),
        ([1.0, 0.5, 2.0], 1.1, [1.0, 0.5, 2.0], 1.0),
        ([1.0, 2.0], 1e6, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 32.0),
        ([12.0], 20.0, [12.0], 12.0),
        ([1.0, 0.0, 2.0], 0.0, [1.0, 0.0, 2.0], 0.0),
    ],
)
def test_a_list_goes_on_while_its_edge_is_the_best(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    choices: list[float],
    peak: float,
    tried: list[float],
    chosen: float,
) -> None:
    run = Run.create(tmp_path / "run", parse_config({}, "test"))
    factor = tf.Variable(1.0)
    measure = lambda: {"ndcg@10": -abs(float(factor) - peak)}  # noqa: E731
    with caplog.at_level("INFO"):
        choose_factor(run, "content", factor, choices, measure, metric="ndcg@10")
    assert float(factor) == chosen
    assert [point["factor"] for point in run.read("content.json")["curve"]] == tried
    assert ("at the edge of its list" in caplog.text) == (len(tried) > len(choices))
    assert ("still the outermost" in caplog.text) == (chosen == 32.0)
