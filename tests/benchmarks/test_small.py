"""The benchmark of small data: what its bars ask for, how peers are chosen, and the made-up shop."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import small
from benchmarks.peers.problem import validation_problem
from benchmarks.peers.settings import Peer
from benchmarks.small_data import ALL, make_shop
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
def test_a_bar_asks_for_the_best_peer_or_what_chance_explains(
    ratio: float, interval: list[float], holds: bool, bar: float
) -> None:
    found = small.bar_of({"data": "shop", "best_peer": "EASE", "ratio": ratio, "interval": interval})
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
    # A peer that knows the answers but for a shift: only without one does it find them.
    answers = np.zeros((problem.test.num_users, problem.test.num_items))
    for user in range(problem.test.num_users):
        answers[user, problem.test.indices[problem.test.indptr[user] : problem.test.indptr[user + 1]]] = 1.0
    peer = Peer("shift", _Shift, lambda _, settings, seed: lambda users: np.roll(answers[users], settings.by, axis=1))
    chosen = small.choose(peer, {"by": (3, 0, 7)}, problem, 1)
    assert chosen == _Shift(by=0)
    assert small.per_user(problem, peer.fit(problem, chosen, 1))["ndcg@10"] == pytest.approx(1.0)


def test_the_shop_is_the_same_each_time_and_speaks_five_languages(tmp_path: Path) -> None:
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
