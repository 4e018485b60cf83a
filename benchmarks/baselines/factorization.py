"""Matrix factorisation by `implicit`: ALS (Hu et al., 2008) and BPR (Rendle et al., 2009)."""

from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from benchmarks.baselines.problem import Problem, Vectors, dot_products
from benchmarks.baselines.settings import Baseline, missing
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer


class AlsSettings(Settings):
    """Settings of implicit's AlternatingLeastSquares."""

    factors: int
    regularization: float
    alpha: float
    iterations: int = 15


class BprSettings(Settings):
    """Settings of implicit's BayesianPersonalizedRanking."""

    factors: int
    learning_rate: float = 0.01
    regularization: float = 0.01
    iterations: int = 100


def _als(problem: Problem, settings: AlsSettings, seed: int) -> BlockScorer:
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError as error:
        raise missing("implicit", error) from error
    with _one_blas_thread():
        model = AlternatingLeastSquares(**settings.model_dump(), random_state=seed)
        model.fit(problem.learners.matrix(), show_progress=False)
        evaluated = problem.evaluated.matrix()
        users = problem.user_vectors(model.user_factors, lambda rows: model.recalculate_user(rows, evaluated[rows]))
    return dot_products(users, model.item_factors)


def _bpr(problem: Problem, settings: BprSettings, seed: int) -> BlockScorer:
    try:
        from implicit.cpu.bpr import BayesianPersonalizedRanking
    except ImportError as error:
        raise missing("implicit", error) from error
    # Several threads write without locks, so runs would not be reproducible.
    model = BayesianPersonalizedRanking(**settings.model_dump(), random_state=seed, num_threads=1)
    with _one_blas_thread():
        model.fit(problem.learners.matrix(), show_progress=False)

    def fold_in(rows: npt.NDArray[np.int64]) -> Vectors:
        vectors = problem.mean_of_history(model.item_factors, rows)
        # The last factor is the items' bias, whose counterpart is 1 for every user.
        vectors[:, -1] = 1.0
        return vectors

    return dot_products(problem.user_vectors(model.user_factors, fold_in), model.item_factors)


def _one_blas_thread() -> AbstractContextManager[object]:
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


ALS = Baseline("ALS", AlsSettings, _als)
BPR = Baseline("BPR", BprSettings, _bpr)
