"""Simple baselines: popularity, EASE, mean of the history's sentence vectors."""

import numpy as np

from benchmarks.baselines.problem import Problem
from benchmarks.baselines.settings import Baseline, NoSettings
from trainer.config.base import Settings
from trainer.evaluation.metrics.ranking import BlockScorer
from trainer.evaluation.protocols import baselines
from trainer.text.settings import TextConfig


class EaseSettings(Settings):
    """Settings of EASE: ``regularization`` is lambda."""

    regularization: float


class MeanHistorySettings(Settings):
    """Settings of the mean history: whether the text includes an item's categories."""

    categories: bool


def _popularity(problem: Problem, settings: NoSettings, seed: int) -> BlockScorer:
    counts = np.bincount(problem.learners.items, minlength=problem.learners.num_items).astype(np.float64)
    return lambda block: np.broadcast_to(counts, (block.stop - block.start, counts.size))


def _ease(problem: Problem, settings: EaseSettings, seed: int) -> BlockScorer:
    """Closed form of Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, arXiv 1905.03375, eq. 8."""
    learned = problem.learners.matrix().astype(np.float64)
    gram = (learned.T @ learned).toarray()
    gram[np.diag_indices_from(gram)] += settings.regularization
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    evaluated = problem.evaluated.matrix().astype(np.float64)
    return lambda block: evaluated[block] @ weights


def _mean_history(problem: Problem, settings: MeanHistorySettings, seed: int) -> BlockScorer:
    # TensorFlow takes seconds to import.
    from trainer.text.vectors import encode_texts

    texts = problem.described if settings.categories else problem.texts
    return baselines.mean_history(problem.train, encode_texts(texts, TextConfig(), progress=False))


def _random(problem: Problem, settings: NoSettings, seed: int) -> BlockScorer:
    return baselines.random(problem.train.num_items, seed=seed)


POPULARITY = Baseline("popularity", NoSettings, _popularity, seeded=False)
EASE = Baseline("EASE", EaseSettings, _ease, seeded=False)
MEAN_HISTORY = Baseline("mean-history mUSE", MeanHistorySettings, _mean_history, seeded=False)
RANDOM = Baseline("random", NoSettings, _random)
