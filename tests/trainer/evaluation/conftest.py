"""A report of a small invented problem."""

import numpy as np
import pytest

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import top_k
from trainer.evaluation.protocols.baselines import baseline_rankings
from trainer.evaluation.protocols.comparison import RankingProblem, compare
from trainer.evaluation.report.contents import EvaluationReport


@pytest.fixture(scope="session")
def problem() -> RankingProblem:
    """60 users, 40 items in three languages; item 39 is in no training part."""
    rng = np.random.default_rng(0)
    train, test = [], []
    for _ in range(60):
        items = rng.permutation(39)[: rng.integers(3, 15)].tolist()
        test.append([*items[:2], 39] if rng.random() < 0.2 else items[:2])
        train.append(items[2:])
    languages = [["ko", "en", None][item % 3] for item in range(40)]
    return RankingProblem(
        dataset="movielens-100k",
        protocol="P1",
        split="test",
        train=ItemSets.from_lists(train, num_items=40),
        test=ItemSets.from_lists(test, num_items=40),
        item_languages=languages,
        resamples=200,
    )


@pytest.fixture(scope="session")
def report(problem: RankingProblem) -> EvaluationReport:
    """A model that knows the answer half of the time, and the baselines."""
    rng = np.random.default_rng(1)
    scores = rng.random((60, 40))
    scores[problem.test.users(), problem.test.indices] += 0.5
    return compare(
        problem,
        "babelrec",
        top_k(scores, problem.train, 25),
        baselines=baseline_rankings(problem.train, 25, item_vectors=rng.normal(size=(40, 8))),
        seconds=1.25,
    )
