"""Simple baselines: popularity, EASE, mean of the history's sentence vectors."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks.baselines.problem import Problem
from benchmarks.baselines.settings import Baseline, NoSettings
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer
from trainer.evaluation.protocols import baselines
from trainer.text.settings import TextConfig


class EaseSettings(Settings):
    """Settings of EASE: ``regularization`` is lambda."""

    regularization: float


class FrequentEaseSettings(EaseSettings):
    """Settings of EASE, and to how many of the most frequent items it is limited: it inverts a matrix of them."""

    items: int


class MarketSettings(Settings):
    """Settings of popularity by market: ``prior`` is how many positives of all markets are mixed in."""

    prior: float


class MeanHistorySettings(Settings):
    """Settings of the mean history: whether the text includes an item's categories."""

    categories: bool


def _popularity(problem: Problem, settings: NoSettings, seed: int) -> BlockScorer:
    counts = np.bincount(problem.learners.items, minlength=problem.learners.num_items).astype(np.float64)
    return lambda block: np.broadcast_to(counts, (block.stop - block.start, counts.size))


def _popularity_by_market(problem: Problem, settings: MarketSettings, seed: int) -> BlockScorer:
    """Counts in the user's market, and those of all as a weak prior."""
    names = sorted({*problem.learner_markets, *problem.evaluated_markets})
    place = {name: row for row, name in enumerate(names)}
    of_learner = np.array([place[name] for name in problem.learner_markets], np.int64)
    learned = problem.learners.matrix()
    members = sparse.csr_matrix(
        (np.ones(len(of_learner), np.float32), (of_learner, np.arange(len(of_learner)))),
        shape=(len(names), len(of_learner)),
    )
    counts = np.asarray((members @ learned).todense(), np.float64)
    everywhere = counts.sum(0)
    scores = counts + settings.prior * everywhere / max(everywhere.sum(), 1.0)
    of_evaluated = np.array([place[name] for name in problem.evaluated_markets], np.int64)
    return lambda block: scores[of_evaluated[block]]


def _ease(problem: Problem, settings: EaseSettings, seed: int) -> BlockScorer:
    """Closed form of Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, arXiv 1905.03375, eq. 8."""
    learned = problem.learners.matrix().astype(np.float64)
    weights = _ease_weights(learned, settings.regularization)
    evaluated = problem.evaluated.matrix().astype(np.float64)
    return lambda block: evaluated[block] @ weights


def _ease_of_frequent(problem: Problem, settings: FrequentEaseSettings, seed: int) -> BlockScorer:
    """EASE over the most frequent items; the others follow in the order of their frequency."""
    learned = problem.learners.matrix().astype(np.float64).tocsc()
    counts = np.diff(learned.indptr)
    chosen = np.sort(np.argsort(-counts, kind="stable")[: settings.items])
    weights = _ease_weights(learned[:, chosen].tocsr(), settings.regularization)
    evaluated = problem.evaluated.matrix().astype(np.float64).tocsc()[:, chosen].tocsr()
    # Below any score that a history gives.
    prior = counts * (1e-9 / max(counts.max(), 1))

    def score(block: slice) -> npt.NDArray[np.float64]:
        scores = np.broadcast_to(prior, (block.stop - block.start, counts.size)).copy()
        scores[:, chosen] += evaluated[block] @ weights
        return scores

    return score


def _ease_weights(learned: sparse.csr_matrix, regularization: float) -> npt.NDArray[np.float64]:
    gram = (learned.T @ learned).toarray()
    gram[np.diag_indices_from(gram)] += regularization
    inverse = np.linalg.inv(gram)
    weights: npt.NDArray[np.float64] = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _mean_history(problem: Problem, settings: MeanHistorySettings, seed: int) -> BlockScorer:
    # TensorFlow takes seconds to import.
    from trainer.text.vectors import encode_texts

    texts = problem.described if settings.categories else problem.texts
    return baselines.mean_history(problem.train, encode_texts(texts, TextConfig(), progress=False))


def _random(problem: Problem, settings: NoSettings, seed: int) -> BlockScorer:
    return baselines.random(problem.train.num_items, seed=seed)


POPULARITY = Baseline("popularity", NoSettings, _popularity, seeded=False)
POPULARITY_BY_MARKET = Baseline("popularity by market", MarketSettings, _popularity_by_market, seeded=False)
EASE_OF_FREQUENT = Baseline("EASE, frequent items", FrequentEaseSettings, _ease_of_frequent, seeded=False)
EASE = Baseline("EASE", EaseSettings, _ease, seeded=False)
MEAN_HISTORY = Baseline("mean-history mUSE", MeanHistorySettings, _mean_history, seeded=False)
RANDOM = Baseline("random", NoSettings, _random)
