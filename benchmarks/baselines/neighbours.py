"""Item-kNN by `implicit`: similarity of items by their common users."""

from typing import Literal

import numpy as np
from scipy import sparse

from benchmarks.baselines.problem import Problem
from benchmarks.baselines.settings import Baseline, missing
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer


class KnnSettings(Settings):
    """Settings of implicit's nearest neighbours: weighting before the dot product, and neighbours kept per item."""

    weighting: Literal["cosine", "tfidf", "bm25"]
    neighbours: int


def similarity(problem: Problem, settings: KnnSettings) -> sparse.csr_matrix:
    """Of each item [I] to those kept as its neighbours [I]."""
    try:
        from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
    except ImportError as error:
        raise missing("implicit", error) from error
    kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
    model = kinds[settings.weighting](K=settings.neighbours, num_threads=1)
    model.fit(problem.learners.matrix(), show_progress=False)
    return model.similarity


def _knn(problem: Problem, settings: KnnSettings, seed: int) -> BlockScorer:
    evaluated = problem.evaluated.matrix().astype(np.float64)
    neighbours = similarity(problem, settings)
    return lambda block: (evaluated[block] @ neighbours).toarray()


ITEM_KNN = Baseline("item-kNN", KnnSettings, _knn, seeded=False)
