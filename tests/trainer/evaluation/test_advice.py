"""Warnings, and their absence."""

import pytest

from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.evaluation.advice import below_popularity, still_improving


@pytest.fixture
def config() -> Config:
    return parse_config({"training": {"epochs": 12}}, "test")


@pytest.mark.parametrize(
    ("best_epoch", "gain", "warned"), [(12, 0.05, True), (11, 0.05, False), (12, 0.004, False), (12, 0.005, True)]
)
def test_a_curve_that_still_rises_at_its_end_is_reported(
    config: Config, best_epoch: int, gain: float, warned: bool
) -> None:
    warning = still_improving(best_epoch, 12, gain, config)
    assert (warning is not None) == warned
    if warning is not None:
        assert "training.epochs=24" in warning


def test_below_popularity_names_both_figures_and_what_to_try(config: Config) -> None:
    popularity = {"recall@10": 0.33, "ndcg@10": 0.2}
    warning = below_popularity({"recall@10": 0.29, "ndcg@10": 0.25}, popularity, "validation part", config)
    assert warning is not None
    assert "Recall@10 0.2900 against 0.3300 on the validation part" in warning
    assert "training.epochs=24" in warning
    assert "model.linear.rank" not in warning, "it is on already"
    by_order = below_popularity({"recall@10": 0.34, "ndcg@10": 0.15}, popularity, "test part", config)
    assert by_order is not None
    assert "NDCG@10 0.1500 against 0.2000 on the test part" in by_order
    assert below_popularity({"recall@10": 0.33, "ndcg@10": 0.2}, popularity, "test part", config) is None
    assert below_popularity({}, popularity, "test part", config) is None


def test_a_linear_model_that_is_off_is_among_the_remedies() -> None:
    config = parse_config({"model": {"linear": {"rank": 0}}}, "test")
    warning = below_popularity({"recall@10": 0.1}, {"recall@10": 0.2}, "test part", config)
    assert warning is not None
    assert "model.linear.rank=128" in warning
