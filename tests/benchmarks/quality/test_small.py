"""The benchmark of small data: its bars, the choice of baselines, and the synthetic shop."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.baselines.problem import validation_problem
from benchmarks.baselines.settings import Baseline
from benchmarks.quality import small
from benchmarks.quality.small_data import ALL, make_shop
from trainer.config.base import Settings
from trainer.config.loading import parse_config
from trainer.data.dataset import Dataset


@pytest.mark.parametrize(
    ("ratio", "interval", "holds", "bar"),
    [
        (1.05, [0.001, 0.02], True, 1.0),
        (1.00, [-0.01, 0.01], True, 0.98),
        (0.985, [-0.01, 0.002], True, 0.98),
        (0.985, [-0.01, -0.001], False, 1.0),
        (0.97, [-0.02, 0.01], False, 0.98),
    ],
)
def test_a_bar_requires_the_best_baseline_within_chance(
    ratio: float, interval: list[float], holds: bool, bar: float
) -> None:
    found = small.bar_of({"data": "shop", "best_baseline": "EASE", "ratio": ratio, "interval": interval})
    assert found == {
        "name": "shop: NDCG@10 / EASE's",
        "value": ratio,
        "comparison": ">=",
        "bar": bar,
        "holds": holds,
    }


class _Shift(Settings):
    by: int


def test_settings_are_chosen_on_the_validation_part(tmp_path: Path) -> None:
    make_shop(tmp_path / "shop", products=40, customers=60)
    config = parse_config({"data": {"source": {"name": "dataset", "path": str(tmp_path / "shop")}}}, "test")
    problem = validation_problem(config.data, 1)
    # A baseline that knows the answers except for a shift: it finds them only with shift 0.
    answers = np.zeros((problem.test.num_users, problem.test.num_items))
    for user in range(problem.test.num_users):
        answers[user, problem.test.indices[problem.test.indptr[user] : problem.test.indptr[user + 1]]] = 1.0
    baseline = Baseline(
        "shift", _Shift, lambda _, settings, seed: lambda users: np.roll(answers[users], settings.by, axis=1)
    )
    chosen = small.choose(baseline, {"by": (3, 0, 7)}, problem, 1)
    assert chosen == _Shift(by=0)
    assert small.per_user(problem, baseline.fit(problem, chosen, 1))["ndcg@10"] == pytest.approx(1.0)


def test_the_shop_is_reproducible_and_has_five_languages(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_shop(tmp_path / name)
    first, second = (Dataset.load(tmp_path / name) for name in ("a", "b"))
    assert first.fingerprint == second.fingerprint
    assert first.rows["items"] == 300
    events = first.interactions().collect()
    assert events["user_id"].n_unique() == 390
    assert events.group_by("user_id").len()["len"].min() == 5
    assert set(first.items().collect()["language"]) == {"en", "de", "es", "ko", "ar"}
    assert events.select(pl.struct("user_id", "item_id").n_unique()).item() == events.height


def test_names_are_those_of_the_five() -> None:
    assert [each.name for each in ALL] == ["shop", "movielens", "kmrd", "retail", "xmarket"]
