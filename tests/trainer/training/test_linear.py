"""The regularization chosen on the validation part, against EASE-like scores written out in NumPy."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.tiny import tiny_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import split
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.settings import LinearConfig
from trainer.runs import Run
from trainer.training.linear import choose_regularization


def _ndcg(scores: dict[str, float], seen: set[str], wanted: set[str]) -> float:
    """NDCG@10 of one user, by hand."""
    ranked = sorted((item for item in scores if item not in seen), key=lambda item: -scores[item])[:10]
    gained = sum(1.0 / np.log2(place + 2) for place, item in enumerate(ranked) if item in wanted)
    return float(gained / sum(1.0 / np.log2(place + 2) for place in range(min(10, len(wanted)))))


def test_the_value_with_the_best_lists_is_chosen_and_kept(tiny: Dataset, tmp_path: Path) -> None:
    config = tiny_config(tiny.path)
    parts = split(tiny, config.data)
    catalogue = Catalogue.from_dataset(tiny)
    vocabulary = Vocabulary.from_training(tiny, catalogue, parts, config)
    hold_out = HoldOut(catalogue, vocabulary, parts.train, parts.validation, candidates=20)
    place = {item: row for row, item in enumerate(vocabulary.items)}
    matrix = np.zeros((len(vocabulary.users), len(place)))
    users = {user: row for row, user in enumerate(vocabulary.users)}
    for user, item in parts.train.select("user_id", "item_id").iter_rows():
        matrix[users[user], place[item]] = 1.0
    candidates = set(parts.train["item_id"]) | set(parts.validation["item_id"])
    expected = {}
    for value in (30.0, 100.0, 300.0, 1000.0, 3000.0):
        inverse = np.linalg.inv(matrix.T @ matrix + value * np.eye(len(place)))
        similarity = -inverse / np.sqrt(np.outer(np.diag(inverse), np.diag(inverse)))
        np.fill_diagonal(similarity, 0.0)
        quality = []
        for user in sorted(parts.validation["user_id"].unique()):
            mine = set(parts.train.filter(user_id=user)["item_id"])
            scored = matrix[users[user]] @ similarity
            scores = {item: float(scored[place[item]]) if item in place else 0.0 for item in candidates}
            quality.append(_ndcg(scores, mine, set(parts.validation.filter(user_id=user)["item_id"])))
        expected[value] = float(np.mean(quality))
    ids = np.array([place.get(item, -1) + 1 for item in catalogue.item_ids])
    flat = [[place[item] for item in parts.train.filter(user_id=user)["item_id"]] for user in vocabulary.users]
    histories = UserItems.of_lists(flat)
    run = Run.create(tmp_path / "run", config)

    chosen = choose_regularization(run, LinearConfig(), hold_out, ids, histories, len(place))
    curve = {point["regularization"]: point["ndcg@10"] for point in run.read("regularization.json")["curve"]}
    assert curve.keys() == expected.keys()
    for value, best in expected.items():
        assert curve[value] == pytest.approx(best, abs=2e-3), "equal scores may be ordered otherwise"
    assert curve[chosen] == max(curve.values())
    assert choose_regularization(run, LinearConfig(), None, ids, histories, len(place)) == chosen, "for the last phase"


def test_what_is_set_is_taken_and_without_validation_the_default(tiny: Dataset, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny_config(tiny.path))
    nothing = UserItems.of_lists([])
    ids = np.array([], int)
    assert choose_regularization(run, LinearConfig(regularization=7.0), None, ids, nothing, 0) == 7.0
    assert choose_regularization(run, LinearConfig(), None, ids, nothing, 0) == 300.0
    assert not (run.path / "regularization.json").exists()
